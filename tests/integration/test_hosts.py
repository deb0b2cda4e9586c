"""Hosts as they stop things: signals to everything at once and twice, and a worker that is a container's PID 1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dtqkit import Settings, TaskQueue
from tests import hosts_app, sample
from tests.command import ROOT, descendants, environment, living, running, workers_under
from tests.wait import wait_until

APP = "tests.hosts_app:queue"
START_S = 60.0


# -- signals


def test_two_sigterms_at_once_let_a_running_job_finish(queue: TaskQueue, settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running("worker", APP, log=log, settings=settings.replace(grace_s=20)) as worker:
        job = sample.sleep_async.submit(1.5)
        wait_until(lambda: job.refresh().status == "running", timeout_s=START_S)
        worker.terminate()
        wait_until(lambda: "SIGTERM: stopping" in log.read_text())
        worker.terminate()

        assert worker.wait(20) == 0
    assert job.refresh().status == "completed"


def test_sigterm_to_supervisor_and_workers_lets_jobs_finish_and_exits_0(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    settings = settings.replace(grace_s=20)
    with running("worker", APP, "--workers", "2", log=log, settings=settings) as supervisor:
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=START_S)
        jobs = [sample.sleep_async.submit(2.0) for _ in range(4)]
        wait_until(lambda: all(job.refresh().status == "running" for job in jobs))
        for pid in (*workers_under(supervisor.pid), supervisor.pid):
            os.kill(pid, signal.SIGTERM)

        assert supervisor.wait(30) == 0
    assert [(job.refresh().status, job.record.claim_number) for job in jobs] == [("completed", 1)] * 4
    assert "restarting it" not in log.read_text()


def test_a_worker_that_the_host_stops_alone_is_started_again_after_a_moment(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running("worker", APP, "--workers", "2", log=log, settings=settings) as supervisor:
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=START_S)
        first, second = workers_under(supervisor.pid)
        os.kill(first, signal.SIGTERM)
        wait_until(lambda: "was stopped by another process; restarting it" in log.read_text())
        wait_until(lambda: len(workers_under(supervisor.pid) - {first, second}) == 1)
        supervisor.terminate()

        assert supervisor.wait(30) == 0
    assert "died" not in log.read_text()


def test_a_deliberate_second_ctrl_c_ends_a_supervisor_and_its_workers_at_once(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running("worker", APP, "--workers", "2", log=log, settings=settings.replace(grace_s=60)) as supervisor:
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=START_S)
        job = sample.sleep_async.submit(60)
        wait_until(lambda: job.refresh().status == "running")
        started = descendants(supervisor.pid)
        supervisor.send_signal(signal.SIGINT)
        wait_until(lambda: log.read_text().count("SIGTERM: stopping") == 2)

        def ended() -> bool:
            supervisor.send_signal(signal.SIGINT)
            return supervisor.poll() is not None

        wait_until(ended, interval_s=0.5)
        assert supervisor.returncode == 1
        wait_until(lambda: not living(started))


def test_a_worker_whose_supervisor_is_killed_gets_its_grace(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    with running(
        "worker", APP, "--workers", "2", log=tmp_path / "log", settings=settings.replace(grace_s=20)
    ) as supervisor:
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=START_S)
        job = sample.sleep_async.submit(8.0)
        wait_until(lambda: job.refresh().status == "running")
        workers = workers_under(supervisor.pid)
        supervisor.kill()
        wait_until(lambda: not living(workers), timeout_s=30)
    assert (job.refresh().status, job.record.claim_number) == ("completed", 1)


# -- PID 1


def zombies() -> set[int]:
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" ")
        except OSError:
            continue
        if rest.rpartition(")")[2].split()[0] == "Z":
            found.add(int(pid))
    return found


@contextmanager
def as_pid_1(log: Path, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as the first process of a PID namespace."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-m", "dtqkit"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "worker", APP], env=environment(settings), cwd=ROOT, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def as_subreaper(log: Path, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that the kernel gives the orphans of its descendants."""
    become = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", become, sys.executable, "-m", "dtqkit", "worker", APP]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment(settings), cwd=ROOT, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="PID namespaces and subreapers are Linux's")
@pytest.mark.parametrize("place", ["PID 1", "subreaper"])
def test_orphans_of_tasks_are_reaped_and_exit_statuses_are_not_stolen(
    queue: TaskQueue, settings: Settings, tmp_path: Path, place: str
) -> None:
    if place == "PID 1" and not may_unshare():
        pytest.skip("needs a PID namespace")
    log = tmp_path / "log"
    before = zombies()
    with (as_pid_1 if place == "PID 1" else as_subreaper)(log, settings) as first:
        wait_until(lambda: len(queue.workers()) == 1, timeout_s=START_S, message=log.read_text())
        queue.include(hosts_app)
        assert hosts_app.leave_orphans.submit(20).result(timeout=20) == 20
        # Statuses of what a task starts in the worker itself are the task's.
        assert hosts_app.exit_status_async.submit(7).result(timeout=20) == 7
        wait_until(lambda: zombies() <= before, message=f"{zombies() - before} are zombies")
        job = sample.sleep_async.submit(1.0)
        wait_until(lambda: job.refresh().status == "running")
        pid = first.pid if place == "subreaper" else min(descendants(first.pid))
        os.kill(pid, signal.SIGTERM)
        assert first.wait(30) == 0
    assert job.refresh().status == "completed"


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")
def test_a_worker_whose_init_is_killed_stops(queue: TaskQueue, settings: Settings, tmp_path: Path) -> None:
    with as_subreaper(tmp_path / "log", settings) as first:
        wait_until(lambda: len(queue.workers()) == 1, timeout_s=START_S)
        started = descendants(first.pid)
        first.kill()
        wait_until(lambda: not living(started), timeout_s=20)
