# pyright: reportMissingImports=false, reportFunctionMemberAccess=false
"""Dramatiq, which keeps no results here."""

import os

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))


@dramatiq.actor
def noop(n):
    return None


@dramatiq.actor
def done():
    redis.Redis.from_url(os.environ["BENCH_REDIS"]).set("done", 1)


def enqueue(jobs):
    for n in range(jobs):
        noop.send(n)
    done.send()
