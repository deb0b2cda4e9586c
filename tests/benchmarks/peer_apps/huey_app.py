# pyright: reportMissingImports=false, reportFunctionMemberAccess=false
"""Huey, which keeps no results here."""

import os

import redis
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"], results=False)


@huey.task()
def noop(n):
    return None


@huey.task()
def done():
    redis.Redis.from_url(os.environ["BENCH_REDIS"]).set("done", 1)


def enqueue(jobs):
    for n in range(jobs):
        noop(n)
    done()
