"""Timeouts and cancels, soft and hard, for coroutines, children and threads."""

from __future__ import annotations

from typing import Any

import pytest

from dtqkit import JobCancelled, JobConflict, JobFailed, JobHandle, TaskQueue
from tests import sample
from tests.command import state_of
from tests.wait import wait_until
from tests.workers import Workers


def running(job: JobHandle[Any]) -> bool:
    return job.refresh().status == "running"


@pytest.mark.parametrize("task", [sample.sleep, sample.sleep_async, sample.sleep_in_thread], ids=lambda t: t.name)
def test_a_job_that_takes_too_long_times_out(queue: TaskQueue, worker: Workers, task: Any) -> None:
    job = task.options(timeout_s=0.3).submit(20)
    with pytest.raises(JobFailed) as failure:
        job.result(timeout=20)
    assert failure.value.error_type == "TaskTimeout"
    (attempt,) = job.refresh().record.attempts
    assert attempt.ending == "timeout"
    assert attempt.run_s is not None
    assert 0.25 < attempt.run_s < 5


def test_a_timeout_is_raised_inside_so_that_a_task_can_clean_up(queue: TaskQueue, worker: Workers) -> None:
    first = sample.where.submit().result(timeout=20)["pid"]
    job = sample.sleep_in_steps.options(timeout_s=0.3).submit(20)
    with pytest.raises(JobFailed):
        job.result(timeout=20)
    assert job.log() == ("cleaned up",)
    assert sample.where.submit().result(timeout=20)["pid"] == first


def test_a_task_that_ignores_its_timeout_is_killed_with_its_process(queue: TaskQueue, worker: Workers) -> None:
    first = sample.where.submit().result(timeout=20)["pid"]
    job = sample.ignore_timeout.options(timeout_s=0.3).submit(30)
    with pytest.raises(JobFailed, match="was killed"):
        job.result(timeout=20)
    assert job.refresh().record.attempts[0].ending == "timeout"
    assert sample.where.submit().result(timeout=20)["pid"] != first
    wait_until(lambda: not state_of(first))


def test_a_waiting_job_is_cancelled_at_once(queue: TaskQueue) -> None:
    job = sample.add_async.submit(1)
    job.cancel()
    assert job.status == "cancelled"
    with pytest.raises(JobCancelled):
        job.result(timeout=5)
    with Workers(queue):
        assert sample.add_async.submit(2).result(timeout=20) == 3
    assert job.refresh().record.claim_number == 0


def test_a_scheduled_job_is_cancelled_at_once(queue: TaskQueue) -> None:
    job = sample.add_async.options(delay_s=60).submit(1)
    assert job.cancel().status == "cancelled"


@pytest.mark.parametrize("task", [sample.sleep, sample.sleep_async], ids=lambda t: t.name)
def test_a_running_job_is_stopped(queue: TaskQueue, worker: Workers, task: Any) -> None:
    job = task.submit(60)
    wait_until(lambda: running(job))
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=10)
    assert [a.ending for a in job.refresh().record.attempts] == ["cancelled"]


def test_a_thread_is_asked_to_stop_and_its_job_is_cancelled(queue: TaskQueue, worker: Workers) -> None:
    job = sample.until_cancelled.submit()
    wait_until(lambda: running(job))
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=10)


def test_a_cancel_takes_what_the_job_has_started_with_it(queue: TaskQueue, worker: Workers) -> None:
    job = sample.child_of_child.submit(60)
    wait_until(lambda: running(job) and job.log())
    grandchild = int(job.log()[0])
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=10)
    wait_until(lambda: not state_of(grandchild), timeout_s=5)


def test_a_job_that_is_over_cannot_be_cancelled(queue: TaskQueue, worker: Workers) -> None:
    job = sample.add_async.submit(1)
    job.result(timeout=20)
    with pytest.raises(JobConflict, match="is completed"):
        job.cancel()
    with pytest.raises(JobConflict, match="only a failed job"):
        job.requeue()


def test_a_cancelled_wait_leaves_the_job_alone(queue: TaskQueue, worker: Workers) -> None:
    import asyncio

    async def cell(job: JobHandle[str]) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await job

    job = sample.sleep_async.submit(0.5)
    asyncio.run(cell(job))
    assert job.result(timeout=20) == "slept"


def test_a_job_that_completes_before_it_can_be_stopped_is_completed(queue: TaskQueue) -> None:
    with Workers(queue, settings=queue.settings.replace(heartbeat_s=5.0)):
        job = sample.sleep_async.submit(0.4)
        wait_until(lambda: running(job))
        assert job.cancel().record.cancel_requested
        assert job.result(timeout=20) == "slept"


def test_a_job_that_fails_after_its_cancel_was_asked_for_is_cancelled(queue: TaskQueue) -> None:
    with Workers(queue, settings=queue.settings.replace(heartbeat_s=5.0)):
        job = sample.fail_slowly.submit(0.4)
        wait_until(lambda: running(job))
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result(timeout=20)
