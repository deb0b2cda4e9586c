"""`dtqkit up`: everything comes up, everything goes down, however it ends."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import msgspec
import pytest
import redis as redis_py

from dtqkit import Settings, TaskQueue
from dtqkit.local.stores import REVIVALS
from tests import sample
from tests.command import answer, descendants, dtqkit, living, running
from tests.wait import wait_until

APP = "tests.sample:queue"


class Up:
    """A stack that runs: what its ready file says, and all its processes."""

    def __init__(self, process: Popen[bytes], ready_file: Path, log: Path) -> None:
        self.process = process
        self.facts: dict[str, Any] = msgspec.json.decode(ready_file.read_bytes())
        self.ready_file = ready_file
        self.log = log
        self.pids = descendants(process.pid)
        self.settings = Settings(redis_url=self.facts["redis_url"], atlas_uri=self.facts["atlas_uri"])

    def redis(self) -> Any:
        return redis_py.Redis.from_url(self.settings.redis_url)

    def gone(self) -> bool:
        return not living(self.pids)


@contextmanager
def stack(tmp_path: Path, *arguments: str, grace_s: int = 2) -> Iterator[Up]:
    log, ready_file = tmp_path / "log", tmp_path / "ready.json"
    command = (
        "up",
        "--app",
        APP,
        "--workers",
        "2",
        "--port",
        "0",
        "--ws-port",
        "0",
        "--ready-file",
        str(ready_file),
        *arguments,
    )
    with running(*command, log=log, DTQ_GRACE_S=str(grace_s)) as process:
        wait_until(lambda: ready_file.exists() or process.poll() is not None, timeout_s=60)
        assert process.poll() is None, log.read_text()
        up = Up(process, ready_file, log)
        try:
            yield up
        finally:
            process.kill()
            wait_until(up.gone, timeout_s=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_brings_everything_up_and_a_signal_takes_everything_down(tmp_path: Path, number: signal.Signals) -> None:
    with stack(tmp_path) as up:
        facts = up.facts
        assert stat.S_IMODE(up.ready_file.stat().st_mode) == 0o600
        pids = {facts["pids"]["redis"], facts["pids"]["mongod"], *facts["pids"]["workers"]}
        assert len(pids) == 4
        pids.add(facts["pids"]["server"])
        asked = httpx.get(f"{facts['http']}/jobs", headers={"Authorization": f"Bearer {facts['token']}"})
        assert (asked.status_code, asked.json()["items"]) == (200, [])
        assert facts["token"] not in up.log.read_text()
        assert pids <= living(up.pids)
        assert answer("submit", APP, "add", "a=1", "--wait", settings=up.settings)["result"] == 2

        up.process.send_signal(number)

        assert up.process.wait(30) == 0
        wait_until(up.gone, timeout_s=5)
        assert not up.ready_file.exists()
        password = facts["redis_url"].partition("@")[0].rpartition(":")[2]
        assert len(password) > 10
        assert password not in up.log.read_text()


def test_up_that_is_stopped_at_once_reports_it_and_what_happens_to_its_jobs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with stack(tmp_path, "--data", str(data), grace_s=60) as up, TaskQueue(up.settings) as queue:
        queue.include("tests.sample")
        job = sample.sleep.submit(60)
        wait_until(lambda: job.refresh().status == "running")
        up.process.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping: " in up.log.read_text())

        def ended() -> bool:
            up.process.send_signal(signal.SIGINT)
            return up.process.poll() is not None

        wait_until(ended, interval_s=0.4, timeout_s=30)
        assert up.process.returncode == 1
        wait_until(up.gone, timeout_s=30)
    *_, last = up.log.read_text().splitlines()
    # A worker that had nothing to do may have stopped before.
    assert re.match(
        r"dtqkit: stopped at once: [12] workers? returned running jobs to the queue; the jobs are kept in ", last
    )
    options = f"--app {APP} --workers 2 --port 0 --ws-port 0 --data {data}"
    assert last.endswith(f"`dtqkit up {options}` continues with them")


def test_after_kill_9_of_up_no_process_is_left(tmp_path: Path) -> None:
    with stack(tmp_path) as up, TaskQueue(up.settings) as queue:
        queue.include("tests.sample")
        job = sample.sleep.submit(60)
        wait_until(lambda: job.refresh().status == "running")
        up.pids |= descendants(up.process.pid)

        up.process.kill()

        wait_until(up.gone, timeout_s=15)


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    with stack(tmp_path) as up:
        first = up.facts["pids"]["workers"][0]
        os.kill(first, signal.SIGKILL)

        wait_until(lambda: "worker-1 died (killed by SIGKILL); restarting it" in up.log.read_text())
        assert answer("submit", APP, "add", "a=1", "--priority", "high", "--wait", settings=up.settings)["result"] == 2


@pytest.mark.parametrize("store", ["redis", "mongod"])
def test_a_store_that_dies_is_started_again_and_no_job_is_lost(tmp_path: Path, store: str) -> None:
    with stack(tmp_path) as up:
        waits = answer("submit", APP, "add", "a=1", "--delay", "3", settings=up.settings)["id"]
        os.kill(up.facts["pids"][store], signal.SIGKILL)

        wait_until(lambda: f"{store} ended unexpectedly (signal SIGKILL): started again" in up.log.read_text(), 60)
        assert answer("submit", APP, "add", "a=2", "--wait", settings=up.settings)["result"] == 3
        wait_until(lambda: answer("job", waits, settings=up.settings)["status"] == "completed", timeout_s=60)
        assert "Traceback" not in up.log.read_text()


def test_a_store_that_dies_again_and_again_ends_everything_with_a_message_and_status_1(tmp_path: Path) -> None:
    with stack(tmp_path) as up:
        for n in range(1, REVIVALS + 1):
            os.kill(redis_of(up), signal.SIGKILL)
            wait_until(lambda n=n: up.log.read_text().count("started again, with its data") == n, timeout_s=60)
        os.kill(redis_of(up), signal.SIGKILL)

        assert up.process.wait(60) == 1
        wait_until(up.gone, timeout_s=5)
        assert "dtqkit: redis ended unexpectedly (signal SIGKILL" in up.log.read_text()
        assert "Traceback" not in up.log.read_text()


def redis_of(up: Up) -> int:
    """The process id of its Redis, which changes when it is started again."""
    return int(up.redis().info("server")["process_id"])


def test_data_is_kept_for_the_next_start_and_belongs_to_one_at_a_time(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    with stack(tmp_path, *data) as up:
        job_id = answer("submit", APP, "add", "a=1", "--wait", settings=up.settings)["id"]
        second = dtqkit("up", "--port", "0", "--ws-port", "0", *data)
        assert second.returncode == 1
        assert "is in use by the local stores of process" in second.stderr
        up.process.terminate()
        assert up.process.wait(30) == 0

    with stack(tmp_path, *data) as up:
        assert answer("job", job_id, settings=up.settings)["result"] == 2


def test_an_app_that_cannot_be_loaded_is_reported_before_anything_is_started() -> None:
    done = dtqkit("up", "--app", "tests.sample:nothing")

    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean tests.sample:queue?" in done.stderr
