"""The number of an attempt, as people see it: claims that a worker could not begin are not counted."""

from __future__ import annotations

import pytest

from dtqkit import Context, JobFailed, Settings, TaskQueue
from tests.command import answer, dtqkit
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture
def queues(settings: Settings) -> tuple[TaskQueue, TaskQueue]:
    """A queue of an older version of the code, and one of today's."""
    old, new = TaskQueue(settings), TaskQueue(settings)

    @old.task(name="resize", isolation="thread")
    def resize_before(page: int) -> int:
        return page

    @new.task(name="resize", max_attempts=1, isolation="thread")
    def resize(ctx: Context, page: int, dpi: int) -> int:
        if dpi < 0:
            raise ValueError(f"attempt {ctx.attempt} got {dpi}")
        return ctx.attempt

    return old, new


def test_a_declined_claim_is_no_attempt_wherever_attempts_are_numbered(
    queues: tuple[TaskQueue, TaskQueue], settings: Settings
) -> None:
    old, new = queues
    resize = new.registry.get("resize")
    with old, new:
        with Workers(old, name="old"):
            job = new.submit_call(resize.bind(1, dpi=-1))
            wait_until(lambda: job.refresh().record.declined >= 2)
            assert job.record.tally == "no attempt yet"
        with Workers(new, name="new"):
            with pytest.raises(JobFailed, match=r"attempt 1 got -1 .*resize, attempt 1"):
                job.result(timeout=20)
            declined = job.record.declined
            assert job.record.claim_number == declined + 1
            assert job.record.tally == "attempt 1 · 1 of 1 failures"
            job.requeue()
            with pytest.raises(JobFailed, match=r"attempt 2 got -1 .*resize, attempt 2"):
                job.result(timeout=20)
            fine = new.submit_call(resize.bind(1, dpi=1))
            assert fine.result(timeout=20) == 1
        record = job.refresh().record
        assert (record.claim_number, [attempt.number for attempt in record.attempts]) == (declined + 2, [1, 2])
        assert sorted(new.history()["number"]) == [1, 1, 2]
    assert [attempt["number"] for attempt in answer("job", job.id, settings=settings)["attempts"]] == [1, 2]
    assert "attempt 2 · 1 of 1 failures" in dtqkit("job", job.id, settings=settings).stdout
