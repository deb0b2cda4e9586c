"""The demo: its tasks, its report, and what becomes of its batch when a worker process is killed."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dtqkit import Settings, TaskQueue, demo
from dtqkit.cli.demo import standard_library
from dtqkit.supervisor import Supervisor
from tests.command import dtqkit
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


def test_the_demo_s_tasks_are_functions_that_tell_what_stands_in_a_file(module: str) -> None:
    assert demo.parse(module) == {"lines": 12, "functions": 2, "classes": 1}
    assert demo.index(module) == ["json", "os", "sys"]
    assert [(finding["line"], finding["rule"]) for finding in demo.lint(module)] == [
        (1, "unused import"),
        (3, "unused import"),
        (5, "mutable default"),
        (5, "mutable default"),
        (8, "bare except"),
    ]


def test_lint_tells_long_functions_and_takes_a_package_s_imports_for_its_face(tmp_path: Path) -> None:
    package = tmp_path / "__init__.py"
    package.write_text("from json import loads\ndef f():\n" + "    pass\n" * 100)

    assert [finding["detail"] for finding in demo.lint(str(package))] == ["f() has 101 lines"]


def test_the_standard_library_has_hundreds_of_files_and_nothing_that_was_installed() -> None:
    files = standard_library()

    assert len(files) > 300
    assert any(path.endswith("json/decoder.py") for path in files)
    assert not [path for path in files if "-packages" in path or "/test/" in path]


def test_the_demo_finds_its_planted_bad_file_and_survives_its_planted_crash() -> None:
    done = dtqkit("demo", "--files", "40")

    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stdout + done.stderr
    out = done.stdout
    assert re.search(r"^dead letter +parse after \d attempts: SyntaxError: .*planted_bad_file", out, re.MULTILINE), out
    assert re.search(r"^lost +\d+ attempts? of worker-\d-", out, re.MULTILINE), out
    assert int(re.search(r"^workers +(\d+) processes", out, re.MULTILINE)[1]) >= 3  # pyright: ignore[reportOptionalSubscript]
    assert "121 of 122 jobs completed" in out
    assert re.search(r"^high +lose_worker, parse +42 ", out, re.MULTILINE), out
    assert "Largest modules" in out
    assert "Most imported modules" in out
    assert re.search(r"^ten times more .* workers at 80%", out, re.MULTILINE), out


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
    again = [next(a for a in record.attempts if a.worker != name).started_at for record in lost]
    assert max((when - killed_at).total_seconds() for when in again) < 15, took_s
