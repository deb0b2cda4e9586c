"""Tasks made in all the ways that people make them, run by a worker process that serves their APP."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtqkit import Settings, TaskQueue
from tests import callables
from tests.command import running
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture
def queue(settings: Settings) -> Iterator[TaskQueue]:
    """The stores of the test, with the tasks of the APP."""
    with TaskQueue(settings) as queue:
        for task in callables.queue.registry:
            queue.registry.add(task)
            task.attach(queue)  # type: ignore[attr-defined]
        yield queue
        for task in callables.queue.registry:
            task.attach(callables.queue)  # type: ignore[attr-defined]


def test_everything_that_an_app_registers_at_its_import_runs_in_a_child(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    with running("worker", "tests.callables:queue", log=tmp_path / "log", settings=settings) as worker:
        jobs = {how: task.submit(1) for how, task in callables.TASKS.items()}
        places = {how: job.result(timeout=60) for how, job in jobs.items()}
        usage = callables.usage.submit("/").result(timeout=60)
        called = callables.called_async.submit(1).result(timeout=60)
    assert {how: place for how, place in places.items() if place[0] == worker.pid or not place[1]} == {}
    assert usage[0] == shutil.disk_usage("/").total
    assert called == [worker.pid, 1]
    assert "runs in a thread" not in (tmp_path / "log").read_text()


def test_without_an_app_what_can_be_imported_runs_in_a_child_and_the_rest_in_threads(queue: TaskQueue) -> None:
    auto = {how: task for how, task in callables.TASKS.items() if task.defaults.isolation == "auto"}
    with Workers(queue):
        places = {how: job.result(timeout=60) for how, job in [(how, task.submit(1)) for how, task in auto.items()]}
    in_threads = {how for how, (pid, _) in places.items() if pid == os.getpid()}
    assert in_threads == {"bound method", "partial", "object", "lambda", "lru_cache", "in a loop, 0", "in a loop, 1"}


def test_a_process_that_cannot_be_had_is_not_a_thread_and_the_log_says_so(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture
) -> None:
    job = callables.TASKS["closure"].submit(1)
    with Workers(queue):
        other = callables.TASKS["decorated"].submit(1)
        assert other.result(timeout=60)[0] != os.getpid()
        assert job.refresh().record.status != "completed"
    wait_until(lambda: "made_1: isolation is 'process'" in caplog.text, 10)
