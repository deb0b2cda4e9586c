"""The demo: its tasks, its report, and what happens to its batch when a worker process is killed."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from dtqkit import Attempt, Job, Settings, Status, TaskQueue, demo
from dtqkit.cli import jobs, show
from dtqkit.cli.demo import standard_library
from dtqkit.cli.report import BatchReport, print_report
from dtqkit.control import AttemptRow
from dtqkit.model.jobs import Ending
from dtqkit.run.supervisor import Supervisor
from tests.command import dtqkit_alone
from tests.wait import wait_until

SOURCE = """\
import os
import sys as system
from json import dumps, loads

def f(x=[], *, y={}):
    try:
        return dumps(system)
    except:
        pass

class C:
    def g(self): ...
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    return str(path)


def test_the_demo_s_tasks_are_functions_that_describe_a_file(module: str) -> None:
    assert demo.parse(module) == {"lines": 12, "functions": 2, "classes": 1}
    assert demo.index(module) == ["json", "os", "sys"]
    assert [(finding["line"], finding["rule"]) for finding in demo.lint(module)] == [
        (1, "unused import"),
        (3, "unused import"),
        (5, "mutable default"),
        (5, "mutable default"),
        (8, "bare except"),
    ]


def test_lint_reports_long_functions_but_not_the_imports_of_a_package(tmp_path: Path) -> None:
    package = tmp_path / "__init__.py"
    package.write_text("from json import loads\ndef f():\n" + "    pass\n" * 100)

    assert [finding["detail"] for finding in demo.lint(str(package))] == ["f() has 101 lines"]


def test_the_standard_library_has_hundreds_of_files_and_nothing_that_was_installed() -> None:
    files = standard_library()

    assert len(files) > 300
    assert any(path.endswith("json/decoder.py") for path in files)
    assert not [path for path in files if "-packages" in path or "/test/" in path]


def test_the_demo_finds_its_planted_bad_file_and_survives_its_planted_crash() -> None:
    done = dtqkit_alone("demo", "--files", "40")

    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stdout + done.stderr
    out = done.stdout
    assert re.search(r"^dead letter +parse after \d attempts: SyntaxError: .*planted_bad_file", out, re.MULTILINE), out
    assert re.search(r"^lost +\d+ attempts? of worker-\d-", out, re.MULTILINE), out
    assert re.search(r"^ +\d.* s  waiting for the leader to notice the lost worker \(9 s after", out, re.MULTILINE), out
    assert "high does not always wait least here" in out
    lines = re.findall(r"^ +\d+\.\d s  (high .*)", out, re.MULTILINE)
    assert lines[-1].split() == ["high", "42/42", "medium", "40/40", "low", "40/40"]
    assert len(set(lines)) == len(lines), out
    assert int(re.search(r"^workers +(\d+) processes", out, re.MULTILINE)[1]) >= 3  # pyright: ignore[reportOptionalSubscript]
    assert "121 of 122 jobs completed" in out
    assert re.search(r"^high +lose_worker, parse +42 ", out, re.MULTILINE), out
    assert "Largest modules" in out
    assert "Most imported modules" in out
    assert re.search(r"^ten times more .* workers? at 80%", out, re.MULTILINE), out


def attempt(number: int, ending: Ending, at_s: float) -> Attempt:
    started = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(seconds=at_s)
    return Attempt(
        number=number,
        worker=f"worker-{number}-0123abcd",
        queued_at=started,
        claimed_at=started,
        started_at=started,
        ended_at=started,
        run_ms=5.0,
        ending=ending,
    )


def hit_by_a_crash(ended: Status) -> Job:
    """A job that lost its worker, and was run again ten seconds later."""
    again = attempt(2, "completed" if ended == "completed" else "failed", 10.0)
    job = Job(
        id="0" * 24, task="index", payload={"path": "a.py"}, created_at=again.claimed_at, status=ended, claim_number=2
    )
    lost = attempt(1, "lost", 0.0)
    if ended == "failed":
        return replace(job, earlier=(lost, again))
    return replace(job, earlier=(lost,), claimed_at=again.claimed_at, worker=again.worker, run_ms=5.0, result=["os"])


def test_a_log_is_called_that_of_the_last_attempt_where_there_were_several(capsys: pytest.CaptureFixture[str]) -> None:
    twice = replace(hit_by_a_crash("completed"), log=("line",))
    jobs._show(twice, "")  # pyright: ignore[reportPrivateUsage]
    assert capsys.readouterr().out.endswith("\nlog of the last attempt:\n  line\n")
    jobs._show(replace(twice, earlier=()), "")  # pyright: ignore[reportPrivateUsage]
    assert "last attempt" not in capsys.readouterr().out


def row_of(job: Job, one: Attempt) -> AttemptRow:
    return AttemptRow(
        job=job.id,
        task=job.task,
        priority=job.priority,
        status=job.status,
        number=one.number,
        worker=one.worker,
        queued_at=one.queued_at,
        claimed_at=one.claimed_at,
        started_at=one.started_at,
        ended_at=one.ended_at,
        wait_s=one.wait_s,
        run_s=one.run_s,
        ending=one.ending,
        error=None,
    )


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (["completed"], "the job completed, run again 10 s after its first start"),
        (["failed"], "the job failed, run again 10 s after its first start"),
        (["completed"] * 4, "all 4 jobs completed, run again at most 10 s after their first start"),
        (["completed", "completed", "failed"], "2 of the 3 jobs completed, run again at most"),
    ],
)
def test_the_report_is_english_for_one_and_for_many(
    ends: list[Status], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [replace(hit_by_a_crash(end), id=f"{i:024x}") for i, end in enumerate(ends)]

    print_report(BatchReport(jobs, [row_of(job, one) for job in jobs for one in job.attempts], 100.0, slots=1))

    out = capsys.readouterr().out
    assert expected in out
    assert "Lint\nnothing found\n" in out
    assert out.endswith(": 1 worker at 80%, on a core of its own\n")
    completed = ends.count("completed")
    assert not completed or re.search(rf"^os +{completed} {'file' if completed == 1 else 'files'}$", out, re.MULTILINE)


def test_a_narrow_terminal_shows_the_times_of_each_lane_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [replace(hit_by_a_crash("failed"), task=task, priority="high") for task in ("lose_worker", "parse")]
    rows = [replace(row_of(job, one), run_s=0.0697, wait_s=1.07) for job in jobs for one in job.attempts]
    monkeypatch.setattr(show, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")

    print_report(BatchReport(jobs, rows, 100.0, slots=1))

    lanes = capsys.readouterr().out.partition("Lanes")[2].partition("worker 1")[0]
    assert "run p95" in lanes
    assert "…" not in lanes


def test_jobs_of_a_worker_process_that_is_killed_run_again_within_15_s_and_the_batch_completes(
    settings: Settings,
) -> None:
    real = Settings(redis_url=settings.redis_url, atlas_uri=settings.atlas_uri, namespace=settings.namespace)
    paths = standard_library()[:150]
    with Supervisor(real, "dtqkit.demo:queue", 3) as supervisor, TaskQueue(real) as queue:
        wait_until(lambda: len(queue.workers()) == 3, timeout_s=30)
        supervisor.start_watching()
        batch = [task.bind(path) for task in (demo.parse, demo.index, demo.lint) for path in paths]
        jobs = queue.submit_many(batch)
        wait_until(lambda: len(queue.jobs(status="completed", limit=100).items) >= 60)
        victim = supervisor.pids[0]
        (name,) = [beat.id for beat in queue.workers() if beat.pid == victim]
        wait_until(lambda: queue.jobs(status="running", worker=name).items)
        os.kill(victim, signal.SIGKILL)
        killed_at = datetime.now(UTC)

        started = time.monotonic()
        assert len(list(jobs.as_completed(timeout=60))) == 450
        took_s = time.monotonic() - started

        records = [job.refresh().record for job in jobs]
    assert {record.status for record in records} == {"completed"}
    lost = [record for record in records if any(a.ending == "lost" for a in record.attempts)]
    assert lost
    again = [next(a for a in record.attempts if a.worker != name).claimed_at for record in lost]
    assert max((when - killed_at).total_seconds() for when in again) < 15, took_s
