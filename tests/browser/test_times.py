"""The board distinguishes claimed from running, counts as the record does, and shows when no worker serves a job."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import Board
from tests.browser.test_states import JOB, SNAPSHOT, faults, mount
from tests.serving import Server
from tests.wait import wait_until


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def beat(**more: Any) -> dict[str, Any]:
    return {
        "id": "w1-1", "name": "w1", "host": "here", "pid": 1, "lanes": ["high"], "concurrency": 8, "load": 3,
        "started_at": ago(60), "version": "1", "status": "working", "completed": 0, "failed": 0, "age_s": 0.1, **more,
    }  # fmt: skip


def minutes() -> list[dict[str, Any]]:
    first = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=60)
    return [
        {
            "at": (first + timedelta(minutes=i)).isoformat(),
            "submitted": 60, "completed": 60 * (i % 2), "failed": 6, "cancelled": 0,
            "waiting": {"high": i, "medium": 2, "low": 0} if i < 58 else None, "running": 1,
        }
        for i in range(60)
    ]  # fmt: skip


def stats(**more: Any) -> dict[str, Any]:
    return {
        "at": ago(0), "window_s": 300.0, "submitted": 400, "completed": 390, "failed": 10, "cancelled": 0,
        "throughput_per_s": 1.33, "sampled": None, "minutes": minutes(),
        "tasks": [
            {
                "task": "walk", "submitted": 400, "completed": 390, "failed": 10, "cancelled": 0,
                "wait_p50_s": 1.0, "wait_p95_s": 4.0, "run_p50_s": 1.0, "run_p95_s": 2.0,
            }
        ],
        "forecast": [{"lane": "medium", "waiting": 1, "drain_s": 60.0, "low_s": 40.0, "high_s": 90.0}],
        **more,
    }  # fmt: skip


def show(board: Board, server: Server, jobs: list[dict[str, Any]], **more: Any) -> None:
    (first, *_) = jobs
    answers = {
        "snapshot": {"result": {**SNAPSHOT, "workers": more.pop("workers", [beat()]), "jobs": jobs}},
        "jobs": {"result": {"items": jobs, "cursor": None}},
        "get": {"result": first},
        "log": {"result": {"id": first["id"], "lines": []}},
        "tasks": {"result": []},
        "stats": {"result": stats(**more)},
        "health": {"result": {"status": "ok", "redis": "up", "mongodb": "up"}},
    }
    mount(board, server, answers=answers)
    expect(board.light).to_have_text("Live")


def test_a_claimed_job_runs_only_once_a_report_says_when_it_began(board: Board, server: Server) -> None:
    job = {**JOB, "status": "running", "token": 1, "claimed_at": ago(125), "worker": "w1", "rev": 2}
    show(board, server, [job])
    row = board.row(JOB["id"])
    expect(row.locator("td.status")).to_contain_text("Claimed 2 m")
    expect(row.locator("td.run")).to_have_text("–")
    event = {"id": JOB["id"], "token": 1, "started_at": ago(3)}
    board.page.evaluate("event => push({events: {progress: [event]}})", event)
    expect(row.locator("td.status")).to_have_text("Running")
    expect(row.locator("td.run")).to_contain_text(" s")
    # A listing that is loaded again does not know it, and does not take it back.
    asked = "sent.filter((m) => m.op === 'jobs').length"
    before = board.page.evaluate(asked)
    wait_until(lambda: board.page.evaluate(asked) > before + 1)
    expect(row.locator("td.status")).to_have_text("Running")


def test_attempts_that_never_ran_have_no_run_time_and_failures_are_counted_apart(board: Board, server: Server) -> None:
    earlier = [
        {"number": 1, "worker": "w1", "queued_at": ago(90), "claimed_at": ago(80), "started_at": ago(70),
         "ended_at": ago(65), "run_ms": 5000.0, "ending": "failed",
         "error": {"kind": "exception", "type": "ValueError", "message": "no"}},
        {"number": 2, "worker": "w2", "queued_at": ago(60), "claimed_at": ago(50), "started_at": None,
         "ended_at": ago(40), "run_ms": None, "ending": "lost", "error": None},
    ]  # fmt: skip
    job = {**JOB, "status": "failed", "token": 2, "failures": 1, "max_attempts": 3, "claimed_at": ago(50),
           "queued_at": ago(40), "ended_at": ago(40), "earlier": earlier, "attempts": earlier, "rev": 6}  # fmt: skip
    show(board, server, [job])
    expect(board.row(JOB["id"]).locator("td.attempts")).to_have_text("2 · 1 of 3")
    panel = board.job(JOB["id"])
    first, second = panel.locator(".attempts li").all()
    expect(first).to_contain_text("waited 20 s, ran 5.0 s")
    expect(second).to_contain_text("waited –, ran –")
    facts = panel.locator(".facts")
    expect(facts).to_contain_text("Waited–Ran–Attempt2 · 1 of 3 failures")


def test_charts_are_filled_when_the_board_opens(board: Board, server: Server) -> None:
    show(board, server, [JOB], sampled=5_000)
    waiting, finished, waits = board.page.locator(".chart").all()
    filled = re.compile(r"^M0\.0 .{800}", re.DOTALL)
    expect(finished.locator("path.line.completed")).to_have_attribute("d", filled)
    expect(waiting.locator("path.line.high")).to_have_attribute("d", filled)
    expect(waits).to_contain_text("Of the newest 5,000 ends.")
    cells = board.page.locator(".cell")
    expect(cells.filter(has_text="Throughput").locator(".foot")).to_have_text("390 in 5 m")
    expect(cells.filter(has_text="Medium").locator(".foot")).to_have_text("est. clear in 1 m (40 s to 1 m 30 s)")


def test_a_job_whose_task_no_live_worker_serves_says_so(board: Board, server: Server) -> None:
    show(board, server, [JOB], workers=[beat(tasks=["run", "swim"])])
    expect(board.banner).to_contain_text("No live worker serves the task walk.")
    panel = board.job(JOB["id"])
    expect(panel).to_contain_text("No live worker serves the task walk: the job waits until one starts.")
    assert faults(board.page) == []


def test_no_warning_is_shown_while_a_workers_tasks_are_unknown(board: Board, server: Server) -> None:
    show(board, server, [JOB], workers=[beat(tasks=["run"]), beat(id="w2", tasks=None)])
    expect(board.row(JOB["id"])).to_contain_text("Pending")
    panel = board.job(JOB["id"])
    expect(panel).to_contain_text("Time limit")
    expect(board.banner).to_be_hidden()
    expect(panel).not_to_contain_text("No live worker")
