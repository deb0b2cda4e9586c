"""Tasks that are defined after their worker has started, as in a notebook."""

from __future__ import annotations

from dtqkit import TaskQueue
from tests import sample
from tests.wait import wait_until
from tests.workers import Workers


def test_a_task_that_is_added_to_a_running_worker_is_published(queue: TaskQueue) -> None:
    queue.add(sample.add)
    with Workers(queue):
        wait_until(lambda: "add" in names(queue))

        @queue.task
        async def later(n: int) -> int:
            return n + 1

        assert later.submit(1).result(timeout=20) == 2
        wait_until(lambda: "later" in names(queue), timeout_s=20)


def names(queue: TaskQueue) -> set[str]:
    return {info.name for info in queue.tasks()}
