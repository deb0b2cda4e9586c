# pyright: reportMissingImports=false, reportFunctionMemberAccess=false
"""Taskiq on a list, which keeps no results here."""

import asyncio
import os

import redis
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(os.environ["BENCH_REDIS"])


@broker.task(task_name="noop")
async def noop(n: int) -> None:
    return None


@broker.task(task_name="done")
async def done() -> None:
    redis.Redis.from_url(os.environ["BENCH_REDIS"]).set("done", 1)


async def enqueue_all(jobs: int) -> None:
    await broker.startup()
    for n in range(jobs):
        await noop.kiq(n)
    await done.kiq()
    await broker.shutdown()


def enqueue(jobs: int) -> None:
    asyncio.run(enqueue_all(jobs))
