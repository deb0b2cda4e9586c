"""Worker processes under supervision: restarted when they die, no longer when none can start, never orphaned."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from dtqkit import Settings, TaskQueue
from tests import sample
from tests.command import ROOT, descendants, living, running
from tests.wait import wait_until

APP = "tests.sample:queue"
START_S = 60.0


def app_that(does: str, directory: Path) -> str:
    """An APP whose import does something, in workers only: PYTHONPATH must have `directory`."""
    (directory / "broken_app.py").write_text(
        "import os, sys\n"
        f"if '--owner' in sys.argv: {does}\n"
        "from dtqkit import TaskQueue\n"
        "queue = TaskQueue()\n"
        "@queue.task\n"
        "def f() -> None: ...\n"
    )
    return "broken_app:queue"


def test_a_worker_that_keeps_dying_is_restarted_later_each_time_and_at_last_no_more(
    settings: Settings, tmp_path: Path
) -> None:
    app, log = app_that("os._exit(7)", tmp_path), tmp_path / "log"
    path = os.pathsep.join((str(ROOT), str(tmp_path)))
    with running("worker", app, "--workers", "2", log=log, settings=settings, PYTHONPATH=path) as supervisor:
        assert supervisor.wait(START_S * 2) == 1
    told = log.read_text()
    for worker in ("worker-1", "worker-2"):
        pauses = re.findall(rf"{worker} died \(exit status 7\); restarting it in ([\d.]+) s", told)
        assert pauses[:4] == ["0.2", "0.4", "0.8", "1.6"]
    assert "no longer restarting workers: every worker died 5 times in a row, the last with exit status 7" in told
    assert "Traceback" not in told


def test_an_app_that_workers_cannot_load_is_not_tried_again(settings: Settings, tmp_path: Path) -> None:
    app, log = app_that("sys.exit(2)", tmp_path), tmp_path / "log"
    path = os.pathsep.join((str(ROOT), str(tmp_path)))
    with running("worker", app, "--workers", "2", log=log, settings=settings, PYTHONPATH=path) as supervisor:
        assert supervisor.wait(START_S) == 1
    assert "restarting it" not in log.read_text()
    assert "cannot be started with 'broken_app:queue'" in log.read_text()


def test_a_wrong_app_is_wrong_use_and_starts_no_worker(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running("worker", "no_such_module:queue", "--workers", "2", log=log, settings=settings) as supervisor:
        assert supervisor.wait(START_S) == 2
    assert "died" not in log.read_text()


def test_a_worker_that_is_killed_is_started_again_under_a_new_id(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running("worker", APP, "--workers", "2", log=log, settings=settings) as supervisor:
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=START_S)
        victim = next(beat for beat in queue.workers() if beat.name == "worker-2")
        os.kill(victim.pid, signal.SIGKILL)

        def again() -> bool:
            return any(beat.name == "worker-2" and beat.id != victim.id for beat in queue.workers())

        wait_until(again, timeout_s=START_S)
        assert supervisor.poll() is None
        supervisor.terminate()
        assert supervisor.wait(30) == 0
    assert "worker-2 died (killed by SIGKILL); restarting it in 0.2 s" in log.read_text()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_no_worker_outlives_its_supervisor(
    queue: TaskQueue, settings: Settings, tmp_path: Path, how: signal.Signals
) -> None:
    with running("worker", APP, "--workers", "2", log=tmp_path / "log", settings=settings) as supervisor:
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=START_S)
        job = sample.where.submit()  # so that there is a child process too
        job.result(timeout=START_S)
        started = descendants(supervisor.pid)
        assert len(started) >= 3
        supervisor.send_signal(how)
        supervisor.wait(30)
        wait_until(lambda: not living(started), timeout_s=30, message=f"{living(started)} still live")


def test_start_workers_gives_a_queue_processes_that_stop_with_it(settings: Settings, tmp_path: Path) -> None:
    with TaskQueue(settings) as queue:
        queue.include(sample)
        supervisor = queue.start_workers(2, app=APP, log=tmp_path / "log")
        pids = set(supervisor.pids)
        assert len(pids) == 2
        assert sample.where.submit().result(timeout=START_S)["parent"] in pids
    wait_until(lambda: not living(pids), timeout_s=30)
