"""Why a job waits that no live worker takes: the command line says it, and a worker's log."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtqkit import Settings, TaskQueue
from dtqkit.worker.unknown import MAX_TASKS
from tests import sample
from tests.command import ROOT, dtqkit, environment
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture
def other(settings: Settings) -> Iterator[TaskQueue]:
    """The same queue with another task, which the workers of tests/sample.py lack."""
    with TaskQueue(settings) as queue:

        @queue.task
        def only_here(n: int) -> int:
            return n

        yield queue


def test_a_job_says_that_no_workers_are_running(queue: TaskQueue, settings: Settings) -> None:
    job = sample.add.submit(1)

    shown = dtqkit("job", job.id, settings=settings).stdout.splitlines()
    assert "waits     no workers are running: start one with `dtqkit worker package.module:queue`" in shown
    assert "why jobs wait: no workers are running" in dtqkit("jobs", settings=settings).stderr


def test_a_job_whose_task_no_live_worker_knows_says_so(
    queue: TaskQueue, other: TaskQueue, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    task = other.registry.get("only_here")
    with Workers(queue):
        jobs = other.submit_many(task.bind(n) for n in range(5))
        sample.add.submit(1).result(timeout=20)
        wait_until(lambda: [worker for worker in queue.workers() if worker.tasks])

        shown = dtqkit("job", jobs[0].id, settings=settings).stdout
        assert "waits     no live worker knows task 'only_here' (1 live worker serves: " in shown
        assert "why jobs wait: no live worker knows task 'only_here'" in dtqkit("jobs", settings=settings).stderr
        wait_until(lambda: "'only_here'" in caplog.text)
        fine = sample.add.submit(1)
        fine.result(timeout=20)
        assert "waits" not in dtqkit("job", fine.id, settings=settings).stdout
    said = [record.getMessage() for record in caplog.records if "'only_here'" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("jobs of task 'only_here' stay in their lane: this worker does not know it")


def test_a_flood_of_unknown_tasks_does_not_fill_the_log(
    queue: TaskQueue, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with TaskQueue(settings) as other:
        made = [other.task(name=f"t{n}")(lambda: None) for n in range(MAX_TASKS + 20)]
        other.submit_many(task.bind() for task in made)
        with Workers(queue):
            sample.add.submit(1).result(timeout=20)
            wait_until(lambda: caplog.text.count("stay in their lane") == MAX_TASKS)
    assert caplog.text.count("stay in their lane") == MAX_TASKS


def test_submit_wait_says_what_it_waits_for(queue: TaskQueue, settings: Settings, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dtqkit", "submit", "tests.sample:queue", "add", "a=1", "--wait"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment(settings), cwd=ROOT, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True
    ) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == (
                "dtqkit: no workers are running; the job waits until one starts; "
                "Ctrl-C leaves it waiting, and --wait-timeout bounds this wait\n"
            )
            with Workers(queue):
                out, err = process.communicate(timeout=40)
            assert (process.returncode, out, err) == (0, "2\n", "")
        finally:
            killer.cancel()
            process.kill()
