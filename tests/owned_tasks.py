"""Tasks of a queue that names no servers: an application's module, as a notebook includes it."""

from __future__ import annotations

from dtqkit import TaskQueue

queue = TaskQueue()


@queue.task(max_attempts=1)
def leaf(n: int) -> int:
    return n + 1


@queue.task(max_attempts=1)
def parent(n: int) -> str:
    return leaf.submit(n).id


@queue.task(max_attempts=1)
def parent_by_queue(n: int) -> list[str]:
    return [job.id for job in queue.submit_many([leaf.bind(n)])]
