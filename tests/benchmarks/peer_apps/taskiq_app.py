# pyright: reportMissingImports=false, reportFunctionMemberAccess=false
"""Taskiq on a list, which keeps no results here."""

import asyncio
import os
import sys

import redis
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(os.environ["BENCH_REDIS"])


@broker.task(task_name="noop")
async def noop(n: int) -> None:
    return None


@broker.task(task_name="done")
async def done() -> None:
    redis.Redis.from_url(os.environ["BENCH_REDIS"]).set("done", 1)


async def enqueue(jobs: int) -> None:
    await broker.startup()
    for n in range(jobs):
        await noop.kiq(n)
    await done.kiq()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[1])))
