"""A task that is timed out, cancelled or given back is interrupted first, and holds its slot until it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dtqkit import JobCancelled, JobFailed, JobHandle, TaskQueue
from tests import child_tasks as tasks
from tests import sample
from tests.wait import wait_until
from tests.workers import Workers

WAYS = ["sleep", "loop", "lock", "socket", "subprocess"]


@pytest.fixture
def queue(queue: TaskQueue) -> TaskQueue:
    queue.include("tests.child_tasks")
    return queue


def endings(job: JobHandle[Any]) -> list[str | None]:
    return [attempt.ending for attempt in job.refresh().record.attempts]


@pytest.mark.parametrize("how", WAYS)
def test_a_timeout_interrupts_what_blocks_so_that_a_task_cleans_up(queue: TaskQueue, worker: Workers, how: str) -> None:
    job = tasks.wait_by.options(timeout_s=0.4).submit(how)
    with pytest.raises(JobFailed, match=r"TaskTimeout: ran longer than timeout_s=0\.4") as failure:
        job.result(timeout=20)
    assert job.log() == ("begun", "raised TaskTimeout", "cleaned up")
    assert "in _block" in failure.value.traceback
    assert "dtqkit/worker" not in failure.value.traceback
    assert endings(job) == ["timeout"]
    assert tasks.plus.submit(1).result(timeout=20) == 2


@pytest.mark.parametrize("how", WAYS)
def test_a_cancel_interrupts_what_blocks_so_that_a_task_cleans_up(queue: TaskQueue, worker: Workers, how: str) -> None:
    job = tasks.wait_by.submit(how)
    wait_until(job.log)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=10)
    assert job.log() == ("begun", "raised TaskStopped", "cleaned up")
    assert endings(job) == ["cancelled"]


def test_a_worker_that_stops_interrupts_what_it_gives_back(queue: TaskQueue) -> None:
    with Workers(queue, settings=queue.settings.replace(grace_s=0.2)) as workers:
        job = tasks.wait_by.submit("sleep")
        wait_until(job.log)
        workers.stop()
    assert endings(job) == ["released"]
    assert job.refresh().record.failures == 0


def test_each_attempt_of_a_job_is_interrupted_also_in_the_same_child(queue: TaskQueue, worker: Workers) -> None:
    started = time.monotonic()
    job = tasks.always_late.submit()
    with pytest.raises(JobFailed, match="TaskTimeout"):
        job.result(timeout=20)
    assert endings(job) == ["timeout", "timeout"]
    assert all(attempt.run_ms and 350 < attempt.run_ms < 2000 for attempt in job.refresh().record.attempts)
    assert time.monotonic() - started < 15


@pytest.fixture
def swallowing(worker: Workers) -> Iterator[None]:
    """A worker, whose loop can end although tasks are left in it that swallow what should end them."""
    tasks.let_go.clear()
    yield
    tasks.let_go.set()


@pytest.mark.usefixtures("swallowing")
@pytest.mark.parametrize("how", ["itself", "a task", "gather", "wait_for", "twice"])
def test_a_coroutine_that_swallows_its_cancellation_is_stopped_all_the_same(queue: TaskQueue, how: str) -> None:
    job = tasks.swallow.options(timeout_s=0.3).submit(how)
    with pytest.raises(JobFailed, match="TaskTimeout: ran longer than"):
        job.result(timeout=10)
    assert endings(job) == ["timeout"]
    assert "over" in job.log()


@pytest.mark.usefixtures("swallowing")
def test_a_coroutine_that_swallows_its_cancel_request_is_cancelled(queue: TaskQueue) -> None:
    job = tasks.swallow.options(timeout_s=5).submit("itself")
    wait_until(lambda: job.refresh().status == "running")
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=10)


def test_attempts_in_threads_never_run_beside_each_other(queue: TaskQueue, worker: Workers, tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    job = tasks.slow_thread.submit(str(file))
    with pytest.raises(JobFailed, match="TaskTimeout"):
        job.result(timeout=20)
    assert endings(job) == ["timeout", "timeout"]
    assert file.read_text().split() == ["begin", "end"] * 2


def test_a_thread_that_runs_past_its_timeout_is_logged(
    queue: TaskQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Workers(queue):
        job = tasks.slow_thread.options(max_attempts=1).submit(str(tmp_path / "ledger"))
        with pytest.raises(JobFailed):
            job.result(timeout=20)
    assert f"job {job.id} (slow_thread) runs past timeout_s=0.3 in a thread" in caplog.text


def test_a_thread_that_does_not_look_is_cancelled_too(queue: TaskQueue, worker: Workers) -> None:
    job = tasks.deaf_thread.submit()
    wait_until(lambda: job.refresh().status == "running")
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=10)


def test_a_stopping_worker_does_not_wait_for_a_thread_forever(queue: TaskQueue, tmp_path: Path) -> None:
    started = time.monotonic()
    with Workers(queue, settings=queue.settings.replace(grace_s=0.1)) as workers:
        job = sample.block_in_thread.submit(8.0)
        wait_until(lambda: job.refresh().status == "running")
        workers.stop()
    assert time.monotonic() - started < 7.5
    assert endings(job) == ["released"]
