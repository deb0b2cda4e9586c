"""Middleware and a lifespan of an APP, in a real worker process: around coroutines, threads and children."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dtqkit import JobCancelled, JobFailed, JobHandle, Settings, TaskQueue
from tests import hooks_app as tasks
from tests.command import living, running
from tests.wait import wait_until

APP = "tests.hooks_app:queue"

RETURNS = [(tasks.in_coroutine, True), (tasks.in_thread, False), (tasks.in_child, True)]
FAILS = [tasks.fails_in_coroutine, tasks.fails_in_thread, tasks.fails_in_child]
SLEEPS = [tasks.sleeps_in_coroutine, tasks.sleeps_in_thread, tasks.sleeps_in_child]


class World(NamedTuple):
    worker: subprocess.Popen[bytes]
    queue: TaskQueue
    notes: Path
    log: Path

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def world(queue: TaskQueue, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for task in tasks.queue.registry:
        monkeypatch.setattr(task, "_queue", queue, raising=False)  # the app's own names no servers here
        queue.registry.add(task)
    notes, log = tmp_path / "notes", tmp_path / "log"
    with running("worker", APP, log=log, settings=settings, HOOKS_FILE=str(notes)) as worker:
        yield World(worker, queue, notes, log)


def stop(world: World) -> None:
    world.worker.terminate()
    assert world.worker.wait(30) == 0, world.log.read_text()


def lines(job: JobHandle[Any]) -> list[str]:
    return list(job.log())


def test_a_run_is_within_its_middlewares_and_has_the_lifespans_state(world: World) -> None:
    for task, main_thread in RETURNS:
        job: JobHandle[Any] = task.submit()
        assert job.result(timeout=60) == [["Outer", "Inner"], True, main_thread], task.name
        assert lines(job) == [
            *(f"Outer enters {task.name} with True", f"Inner enters {task.name} with True"),
            *("Inner leaves", "Outer leaves"),
        ]
    assert tasks.forks_in_child.submit().result(timeout=30) == 1
    stop(world)


@pytest.mark.parametrize("kind", ["ValueError", "SystemExit"])
def test_a_tasks_error_is_seen_by_each_middleware_and_recorded_as_it_is(world: World, kind: str) -> None:
    for task in FAILS:
        job = task.submit(kind)
        with pytest.raises(JobFailed) as failed:
            job.result(timeout=60)
        assert failed.value.error_type == kind, task.name
        assert [line for line in lines(job) if "sees" in line] == [f"Inner sees {kind}", f"Outer sees {kind}"]
    # Nothing of the process has ended with it.
    assert tasks.in_child.submit().result(timeout=30)[1] is True
    stop(world)


def test_a_timeout_and_a_cancellation_end_the_task_and_let_its_middlewares_leave(world: World) -> None:
    for task in SLEEPS:
        late = task.options(timeout_s=0.5).submit(30.0)
        with pytest.raises(JobFailed, match=r"ran longer than timeout_s=0\.5") as failed:
            late.result(timeout=60)
        assert failed.value.error_type == "TaskTimeout"
        assert [line for line in lines(late) if "leaves" in line] == ["Inner leaves", "Outer leaves"], task.name
    for task in SLEEPS:
        job = task.submit(30.0)
        wait_until(lambda job=job: job.refresh().status == "running")
        wait_until(lambda job=job: any("Inner enters" in line for line in job.log()))
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result(timeout=30)
        assert [line for line in lines(job) if "leaves" in line] == ["Inner leaves", "Outer leaves"], task.name
    stop(world)


def test_a_lifespan_is_entered_and_left_once_in_the_worker_and_once_in_each_child(world: World) -> None:
    tasks.in_child.submit().result(timeout=60)
    tasks.in_coroutine.submit().result(timeout=60)
    inner = world.queue.get(tasks.submits_in_child.submit().result(timeout=30))
    assert inner.result(timeout=30)
    stop(world)
    noted = world.noted()
    entered = [line.split()[1:] for line in noted if line.startswith("enter")]
    left = [line.split()[1] for line in noted if line.startswith("leave")]
    worker = str(world.worker.pid)
    assert [pid for pid, _ in entered].count(worker) == 1
    children = [pid for pid, parent in entered if parent == worker]
    assert len(children) >= 1
    assert len(set(children)) == len(children)
    assert sorted(left) == sorted([worker, *children])
    assert noted.count("submits 1") == 1  # of the child; those of the test go by another queue


def test_a_killed_worker_leaves_no_lifespan_and_its_children_end(world: World) -> None:
    tasks.in_child.submit().result(timeout=60)
    world.worker.kill()
    world.worker.wait()
    pids = {int(line.split()[1]) for line in world.noted() if line.startswith("enter")}
    wait_until(lambda: not living(pids))
    assert not any(line.startswith("leave") for line in world.noted())
