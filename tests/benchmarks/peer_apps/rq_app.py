# pyright: reportMissingImports=false, reportFunctionMemberAccess=false
"""RQ without a fork a job, results in Redis as it does by default."""

import os
import sys

import redis


def noop(n):
    return None


def done():
    redis.Redis.from_url(os.environ["BENCH_REDIS"]).set("done", 1)


if __name__ == "__main__":
    from rq import Queue

    queue = Queue("bench", connection=redis.Redis.from_url(os.environ["BENCH_REDIS"]))
    for n in range(int(sys.argv[1])):
        queue.enqueue("rq_app.noop", n)
    queue.enqueue("rq_app.done")
