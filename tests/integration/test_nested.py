"""Tasks that submit tasks: wherever they run, their jobs go to the queue of their worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from dtqkit import Settings, TaskQueue
from dtqkit.store.jobs import Jobs
from dtqkit.worker.awaited import LOOK
from tests import child_tasks as tasks
from tests import command, owned_tasks
from tests.wait import wait_until
from tests.workers import Workers

APP = """
import os, time
from dtqkit import TaskQueue, task
from dtqkit.model.settings import Settings

queue = TaskQueue()

@queue.task(max_attempts=1)
def slow(seconds: float) -> int:
    print(os.getpid(), flush=True)
    time.sleep(seconds)
    return os.getpid()

@queue.task(max_attempts=1)
def leaf(n: int) -> int:
    return n + 1

@task(max_attempts=1)
def alone(n: int) -> int:
    return n + 2

@queue.task(max_attempts=1)
def parent(n: int) -> list[str]:
    return [leaf.submit(n).id, alone.submit(n).id, queue.submit_call(leaf.bind(n)).id]

queue.add(alone)
"""


@pytest.fixture
def queue(queue: TaskQueue) -> TaskQueue:
    queue.include("tests.child_tasks")
    return queue


@pytest.mark.parametrize(
    "task", [tasks.submit_in_child, tasks.submit_in_thread, tasks.submit_in_coroutine], ids=lambda t: t.name
)
def test_a_task_submits_tasks_wherever_it_runs(queue: TaskQueue, task: Any) -> None:
    with Workers(queue):
        ids = task.submit().result(timeout=20)
        assert [queue.get(job).result(timeout=20) for job in ids] == [2, 3, 4]


def test_a_thread_waits_for_the_job_that_it_has_submitted(queue: TaskQueue) -> None:
    with Workers(queue):
        assert tasks.wait_in_thread.submit(1).result(timeout=20) == 102


def test_children_of_a_local_queue_submit_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the tasks of a module whose own queue names no servers, which would be those of the environment."""
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("ATLAS_URI", "mongodb://127.0.0.1:1/")
    with TaskQueue.local(workers=1) as local:
        local.include("tests.owned_tasks")
        local.include("tests.child_tasks")
        parent = owned_tasks.parent.submit(1).result(timeout=30)
        assert local.get(parent).result(timeout=20) == 2
        (one,) = owned_tasks.parent_by_queue.submit(2).result(timeout=20)
        assert local.get(one).result(timeout=20) == 3
        ids = tasks.submit_in_child.submit().result(timeout=20)
        assert [local.get(job).result(timeout=20) for job in ids] == [2, 3, 4]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "nested_shop.py").write_text(APP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "nested_shop:queue"


def test_children_of_a_worker_import_its_app(settings: Settings, app: str, tmp_path: Path) -> None:
    with (
        TaskQueue(settings) as queue,
        command.running("worker", app, settings=settings, log=tmp_path / "log") as process,
    ):
        parent = _submit(app, settings, "parent", {"n": 1})
        ids = queue.get(parent).result(timeout=40)
        assert [queue.get(job).result(timeout=20) for job in ids] == [2, 3, 2]
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_a_host_that_signals_every_process_burns_no_attempt(settings: Settings, app: str, tmp_path: Path) -> None:
    with (
        TaskQueue(settings) as queue,
        command.running("worker", app, settings=settings.replace(grace_s=20), log=tmp_path / "log") as process,
    ):
        job = queue.get(_submit(app, settings, "slow", {"seconds": 1.5}))
        child = int(wait_until(job.log, timeout_s=40)[0])
        for pid in [process.pid, *command.descendants(process.pid)]:
            os.kill(pid, signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert job.result(timeout=5) == child
        assert len(job.refresh().record.attempts) == 1


def _submit(app: str, settings: Settings, name: str, payload: dict[str, Any]) -> str:
    """From a process of its own: the module is not to be imported here."""
    module, _, _ = app.partition(":")
    code = f"import sys, {module} as m; print(m.queue.submit_call(m.{name}.bind(**{payload!r})).id); m.queue.close()"
    environment = command.environment(settings)
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_a_wait_for_very_many_jobs_costs_few_looks_and_ends(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    status_of = Jobs.status_of

    async def counted(self: Jobs, ids: Sequence[ObjectId]) -> list[dict[str, Any]]:
        looked.append(len(ids))
        return await status_of(self, ids)

    monkeypatch.setattr(Jobs, "status_of", counted)
    with TaskQueue(settings) as queue:

        @queue.task(isolation="thread")
        def parent(count: int, delay_s: float) -> int:
            return len(leaf.options(delay_s=delay_s).map(range(count)).results())

        @queue.task
        async def leaf(n: int) -> int:
            return n

        with Workers(queue, settings=settings.replace(concurrency=1)):
            assert parent.submit(30, 0.0).result(timeout=40) == 30
            looked.clear()
            parent.submit(1_500, 5.0)
            wait_until(lambda: queue.depths().scheduled == 1_500, timeout_s=20)
            wait_until(lambda: leaf_ended(queue), timeout_s=40)
            assert max(looked) <= LOOK
            assert sum(looked) < 30 * LOOK


def leaf_ended(queue: TaskQueue) -> bool:
    return len(queue.jobs(task="leaf", status="completed").items) > 30
