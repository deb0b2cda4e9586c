"""An error in a task that only other code can mend is not tried again: the same attempt would follow."""

from __future__ import annotations

from typing import Any

import pytest

import dtqkit
from dtqkit import JobFailed, TaskQueue
from tests import sample
from tests.workers import Workers


def of_no_queue(n: int) -> int:
    return n


@pytest.mark.parametrize("isolation", ["coroutine", "thread"])
def test_a_wrong_use_of_the_queue_fails_the_job_at_once_with_its_cure(queue: TaskQueue, isolation: str) -> None:
    def blocks() -> Any:
        return sample.add.submit(1).result(timeout=10)

    async def blocks_loop() -> Any:
        return blocks()

    def of_none() -> Any:
        return dtqkit.task(of_no_queue).submit(1)

    if isolation == "coroutine":
        task, expected = queue.task(max_attempts=3)(blocks_loop), "await asyncio.to_thread"
    else:
        task, expected = (
            queue.task(max_attempts=3, isolation="thread")(of_none),
            "belongs to no queue yet: call queue.include",
        )
    with Workers(queue):
        job = task.submit()
        with pytest.raises(JobFailed, match=expected):
            job.result(timeout=20)
    record = job.refresh().record
    assert (record.attempt, record.failures) == (1, 1)
    assert record.error is not None
    assert record.error.kind == "wrong_use"
    assert __file__ in record.error.traceback
