# pyright: reportMissingImports=false, reportFunctionMemberAccess=false
"""Huey, which keeps no results here."""

import os
import sys

import redis
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"], results=False)


@huey.task()
def noop(n):
    return None


@huey.task()
def done():
    redis.Redis.from_url(os.environ["BENCH_REDIS"]).set("done", 1)


if __name__ == "__main__":
    for n in range(int(sys.argv[1])):
        noop(n)
    done()
