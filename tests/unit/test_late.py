"""The message of a wait that timed out: the jobs' statuses, and why they are not over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dtqkit import Job, Priority
from dtqkit.client.late import late_message
from dtqkit.model.events import Heartbeat
from dtqkit.model.jobs import Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = "a" * 24


def job(status: Status = "pending", task: str = "render", priority: Priority = "medium", **more: Any) -> Job:
    return Job(id=ID, task=task, payload={}, created_at=NOW, status=status, priority=priority, **more)


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


def late(jobs: list[Job], timeout: float, workers: list[Heartbeat] | None) -> str:
    """Six seconds after they were made."""
    return late_message(jobs, timeout, workers, NOW + timedelta(seconds=6))


def test_without_workers_it_says_how_to_start_one() -> None:
    assert late([job()], 5, []) == (
        f"job {ID} (render) is not over after 5 s: it is pending since 00:00:00 UTC (6 s ago); "
        "no workers are running: start one with `dtqkit worker package.module:queue`"
    )


def test_a_task_that_no_live_worker_serves_is_named() -> None:
    message = late([job(), job(task="b")], 0.5, [worker("a"), worker("b", "a")])
    assert message == (
        "not all are over after 0.5 s: 2 jobs: 2 pending; "
        "no live worker knows task 'render' (2 live workers serve: a, b); "
        "if you have just added it, restart the workers, or start them with --reload"
    )


def test_a_lane_that_no_live_worker_serves_is_named() -> None:
    message = late([job(priority="low")], 1, [worker("render", lanes=("high",))])
    assert message.endswith("(6 s ago); no live worker serves lane 'low' (1 live worker: high)")


def test_of_workers_that_may_serve_it_it_says_how_many_and_what_they_run() -> None:
    assert late([job()], 1, [worker("render", load=2), worker("a", load=7), worker("a", "render", load=1)]).endswith(
        "it is pending since 00:00:00 UTC (6 s ago); 2 live workers serve its task, running 3 jobs"
    )
    assert late([job()], 1, [worker(tasks=None)]).endswith("; 1 live worker serves its task, running no jobs")
    done, left = job("completed", task="b"), job()
    assert late([done, left], 1, [worker("render")]).endswith("; 1 live worker serves its task, running no jobs")


def test_of_a_running_job_it_says_since_when_where_and_which_attempt() -> None:
    running = job("running", started_at=NOW + timedelta(seconds=2), worker="w", claim_number=2, failures=1)
    assert late([running], 1, [worker("render", load=1)]).endswith(
        "it is running since 00:00:02 UTC (4 s ago) on w, attempt 2 · 1 of 3 failures; "
        "1 live worker serves its task, running 1 job"
    )


def test_the_timeout_message_reports_that_a_silent_workers_job_is_recovered() -> None:
    running = job("running", started_at=NOW, worker="gone", claim_number=1)
    assert late([running], 1, [worker("render")]).endswith(
        "; gone sends no heartbeats: the leader re-queues what it ran"
    )


def test_of_a_job_that_is_due_later_it_says_when() -> None:
    later = job("scheduled", due_at=NOW + timedelta(seconds=90), claim_number=1, failures=1)
    assert "it is scheduled for 00:01:30 UTC, attempt 1 · 1 of 3 failures; " in late([later], 1, [worker("render")])


def test_the_last_known_state_is_reported_when_the_store_is_unreachable() -> None:
    assert late([job()], 1, None).endswith(
        "is not over after 1 s: last known state: pending since 00:00:00 UTC (6 s ago)"
    )
