# pyright: reportMissingImports=false, reportFunctionMemberAccess=false
"""RQ without a fork a job, results in Redis as it does by default."""

import os

import redis


def noop(n):
    return None


def done():
    redis.Redis.from_url(os.environ["BENCH_REDIS"]).set("done", 1)


def enqueue(jobs):
    from rq import Queue

    queue = Queue("bench", connection=redis.Redis.from_url(os.environ["BENCH_REDIS"]))
    for n in range(jobs):
        queue.enqueue("rq_app.noop", n)
    queue.enqueue("rq_app.done")
