"""The examples of docs/schedules.md and docs/from-celery-beat.md run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dtqkit import Settings, TaskQueue
from dtqkit.testing import TestQueue
from tests.command import ROOT, dtqkit, environment, running
from tests.wait import wait_until


def blocks(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def run(tmp_path: Path, settings: Settings, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(settings, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_on_schedules_does_what_it_says(tmp_path: Path, settings: Settings) -> None:
    module, make, change = blocks("schedules.md")
    (tmp_path / "shop.py").write_text(module)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    with (
        running("worker", "shop:queue", log=tmp_path / "log", settings=settings, PYTHONPATH=path),
        TaskQueue(settings) as queue,
    ):
        wait_until(lambda: [one.name for one in queue.schedules()] == ["clean"], timeout_s=60)
        shown = run(tmp_path, settings, f"from shop import *\n{make}{change}").splitlines()
        assert shown[0].count("datetime.datetime(") == 2
        assert shown[1] == "0 0 0"
        assert shown[-1] == "['clean', 'nightly', 'pulse']"
        assert [one.name for one in queue.schedules()] == ["clean", "nightly"]
        (job,) = queue.schedule_of("nightly").runs()
        assert queue.get(job.id).result(timeout=30) == "report of yesterday"


def test_the_app_that_was_celerys_runs_by_the_page_alone(tmp_path: Path, settings: Settings) -> None:
    module, change = blocks("from-celery-beat.md")
    (tmp_path / "shop.py").write_text(module)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    applied = dtqkit("schedules", "apply", "shop:queue", "--prune", settings=settings, PYTHONPATH=path)
    assert applied.stdout == "made: nightly-report, pulse\n"
    with TaskQueue(settings) as queue:
        nightly = queue.schedule_of("nightly-report")
        assert {at.astimezone().weekday() for at in nightly.next_runs(50)} <= {0, 1, 2, 3, 4}
        with running("worker", "shop:queue", log=tmp_path / "log", settings=settings, PYTHONPATH=path):
            wait_until(queue.workers, timeout_s=60)
            run(tmp_path, settings, f"from shop import *\n{change}")
            job = nightly.run_now()
            assert job.result(timeout=30) == "report of yesterday"
            assert str(queue.schedule_of("pulse").run_now().result(timeout=30)).startswith("pinged for 20")
        assert [one.name for one in queue.schedules()] == ["nightly-report", "pulse"]


def test_a_test_queue_runs_schedules_by_its_clock() -> None:
    with TestQueue(datetime(2026, 3, 27, 12, tzinfo=UTC)) as queue:

        @queue.scheduled("30 2 * * *", tz="Europe/Berlin", payload={"n": 2})
        @queue.task
        def nightly(n: int) -> int:
            return n

        queue.apply_schedules()
        queue.advance(days=3)
        jobs = queue.submitted(nightly)
        assert [job.status for job in jobs] == ["completed"] * 3
        times = [job.record.scheduled_for for job in jobs]
        first = datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
        # In the second night, the clock goes from 02:00 to 03:00.
        assert times == [first, first + timedelta(hours=23, minutes=30), first + timedelta(hours=47)]
