"""A worker's log lines about jobs that it leaves to others: at growing intervals."""

from __future__ import annotations

import itertools

import pytest

from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import Task
from dtqkit.worker.kinds import Kinds
from dtqkit.worker.unknown import AGAIN_S, JITTER, MAX_AGAIN_S, MAX_TASKS, OVER_S, UnknownTasks


async def known() -> None: ...


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def registry() -> TaskRegistry:
    made = TaskRegistry()
    made.add(Task(known, "known"))
    return made


def worker(tasks: TaskRegistry, clock: Clock) -> UnknownTasks:
    kinds = Kinds(tasks, dict)
    kinds.served()
    return UnknownTasks(kinds, clock=clock)


def lines(caplog: pytest.LogCaptureFixture) -> int:
    return sum("stay in their lane" in record.message for record in caplog.records)


def test_an_unknown_task_is_logged_at_growing_intervals(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    unknown = worker(registry(), clock)
    said: list[float] = []
    while clock.now < 24 * 3600:
        before = lines(caplog)
        unknown.left("render")
        if lines(caplog) > before:
            said.append(clock.now)
        clock.now += 1.0
    pauses = [later - earlier for earlier, later in itertools.pairwise(said)]
    assert said[0] == 0.0
    for pause, expected in zip(pauses[:4], [AGAIN_S, 4 * AGAIN_S, 16 * AGAIN_S, MAX_AGAIN_S], strict=True):
        assert (1 - JITTER) * expected - 1 <= pause <= (1 + JITTER) * expected + 1
    assert len(said) < 40
    assert "it knows 1 task" in caplog.records[0].message


def test_workers_of_one_process_log_it_once_together(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    tasks = registry()
    workers = [worker(tasks, clock) for _ in range(3)]
    for one in workers:
        one.left("render")
    assert lines(caplog) == 1
    worker(registry(), clock).left("render")  # another queue's
    assert lines(caplog) == 2


def test_after_a_while_without_such_jobs_the_next_is_news(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    unknown = worker(registry(), clock)
    while clock.now < 600:  # by now, the pause has grown
        unknown.left("render")
        clock.now += 1.0
    before = lines(caplog)
    clock.now += OVER_S + 1.0
    unknown.left("render")
    assert lines(caplog) == before + 1


def test_so_many_tasks_at_most_are_named(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    unknown = worker(registry(), clock)
    for number in range(2 * MAX_TASKS):
        unknown.left(f"t{number}")
    assert lines(caplog) == MAX_TASKS
