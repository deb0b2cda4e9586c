# pyright: reportMissingImports=false, reportFunctionMemberAccess=false
"""Celery, its results in MongoDB."""

import os

import redis
from celery import Celery

app = Celery("celery_app", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_MONGO"])
app.conf.mongodb_backend_settings = {"database": "bench_celery"}
app.conf.broker_connection_retry_on_startup = True


@app.task
def noop(n):
    return None


@app.task
def done():
    redis.Redis.from_url(os.environ["BENCH_REDIS"]).set("done", 1)


def enqueue(jobs):
    for n in range(jobs):
        noop.delay(n)
    done.delay()
