"""What a wait that took too long says: how the jobs stand, and what keeps them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dtqkit import Job, Priority
from dtqkit.events import Heartbeat
from dtqkit.jobs import Status
from dtqkit.late import said_late

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = "a" * 24


def job(status: Status = "pending", task: str = "render", priority: Priority = "medium") -> Job:
    return Job(id=ID, task=task, payload={}, created_at=NOW, status=status, priority=priority)


def worker(*tasks: str, **changes: Any) -> Heartbeat:
    known: dict[str, Any] = {
        "id": "w",
        "name": "w",
        "host": "h",
        "pid": 1,
        "lanes": ("high", "medium", "low"),
        "concurrency": 2,
        "load": 0,
        "started_at": NOW,
        "version": "1",
        "tasks": tasks,
        **changes,
    }
    return Heartbeat(**known)


def test_without_workers_it_says_how_to_start_one() -> None:
    assert said_late([job()], 5, []) == (
        f"job {ID} (render) is not over after 5 s: it is pending; "
        "no workers are running: start one with `dtqkit worker package.module:queue`"
    )


def test_a_task_that_no_live_worker_serves_is_named() -> None:
    said = said_late([job(), job(task="b")], 0.5, [worker("a"), worker("b", "a")])
    assert said == (
        "not all are over after 0.5 s: 2 jobs: 2 pending; "
        "no live worker knows task 'render' (2 live workers serve: a, b)"
    )


def test_a_lane_that_no_live_worker_serves_is_named() -> None:
    said = said_late([job(priority="low")], 1, [worker("render", lanes=("high",))])
    assert said.endswith("it is pending; no live worker serves lane 'low' (1 live worker: high)")


def test_nothing_is_said_of_workers_that_may_serve_it() -> None:
    for workers in ([worker("render")], [worker(tasks=None), worker("a")]):
        assert said_late([job()], 1, workers).endswith(": it is pending")
    assert said_late([job("running")], 1, []).endswith(": it is running")


def test_when_nobody_could_be_asked_the_state_is_the_last_known_one() -> None:
    assert said_late([job()], 1, None).endswith("is not over after 1 s: last known state: pending")
