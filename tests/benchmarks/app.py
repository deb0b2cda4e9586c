"""The tasks that are measured: they do nothing, or say when they began."""

import time

from dtqkit import TaskQueue

queue = TaskQueue()


@queue.task
async def noop(n: int = 0) -> None:
    """The least that a job can do."""


@queue.task
async def began_async() -> float:
    return time.time()


@queue.task
def began() -> float:
    return time.time()
