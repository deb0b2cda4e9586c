"""MongoDB's clock is set by an hour while jobs run and wait: none is taken away, and none waits for an hour."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from pymongo import MongoClient

from dtqkit import JobList, Settings, TaskQueue
from dtqkit.broker.keys import Keys
from dtqkit.local.programs import MONGOD, find_server
from dtqkit.local.servers import REPLICA_SET, MongoServer
from tests import sample
from tests.command import running
from tests.wait import wait_until

APP = "tests.sample:queue"
COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or COMPILER is None, reason="needs Linux and a C compiler, for a clock that can be set"
)


class MongoClock:
    """The clock of a mongod, which can be set."""

    def __init__(self, directory: Path) -> None:
        self.file, self.library = directory / "offset", directory / "shim.so"
        self.set(0)
        source = Path(__file__).with_name("clock_shim.c")
        compile_ = [str(COMPILER), "-shared", "-fPIC", "-O1", "-o", str(self.library), str(source), "-ldl", "-lpthread"]
        subprocess.run(compile_, check=True, capture_output=True)

    def set(self, offset_s: int) -> None:
        """So many seconds before or behind the real one."""
        with self.file.open("r+b" if self.file.exists() else "wb") as file:  # in place: mongod has it mapped
            file.write(struct.pack("q", offset_s))


@pytest.fixture
def clock(tmp_path: Path) -> MongoClock:
    return MongoClock(tmp_path)


@pytest.fixture
def own_settings(clock: MongoClock, settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A mongod of the test's own whose clock can be set; Redis's cannot."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = MongoServer(find_server(MONGOD), tmp_path, port)
    server.directory.mkdir()
    server.prepare()
    command, _ = server.command()
    faked = {"LD_PRELOAD": str(clock.library), "CLOCK_SHIM_FILE": str(clock.file), "LC_ALL": "C"}
    with (
        server.log.open("wb") as log,
        subprocess.Popen(command, env={**os.environ, **faked}, stdout=log, stderr=log) as mongod,
        MongoClient[dict[str, Any]](server.url.replace(f"replicaSet={REPLICA_SET}&", "")) as client,
    ):
        try:
            client.admin.command(
                "replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": f"127.0.0.1:{port}"}]}
            )
            wait_until(lambda: client.admin.command("hello")["isWritablePrimary"], timeout_s=60)
            yield settings.replace(atlas_uri=server.url, heartbeat_s=0.5, lease_s=9.0)
        finally:
            mongod.kill()


@pytest.mark.parametrize("by", [3600, -3600])
def test_a_step_takes_no_running_job_and_holds_none_back(
    clock: MongoClock, own_settings: Settings, tmp_path: Path, by: int
) -> None:
    with (
        running("worker", APP, "--name", "a", log=tmp_path / "a.log", settings=own_settings),
        running("worker", APP, "--name", "b", log=tmp_path / "b.log", settings=own_settings),
        TaskQueue(own_settings) as queue,
    ):
        queue.include(sample)
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=60)
        jobs: JobList[str] = queue.submit_many(sample.sleep_async.bind(14.0) for _ in range(6))
        delayed = sample.add_async.options(delay_s=9.0).submit(1)
        wait_until(lambda: all(job.refresh().status == "running" for job in jobs))

        clock.set(by)

        # A retry is due by the new clock, whichever process computes its score.
        retried = sample.fail_until.submit(2)
        assert retried.result(timeout=25) == 2
        assert delayed.result(timeout=40) == 2
        assert sample.add_async.options(delay_s=1.0).submit(2).result(timeout=25) == 3
        assert jobs.results(timeout=60) == ["slept"] * 6
        assert [(job.refresh().record.losses, job.record.claim_number) for job in jobs] == [(0, 1)] * 6


def test_jobs_of_a_worker_that_dies_are_not_held_back_by_a_step_back(
    clock: MongoClock, own_settings: Settings, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        queue = stack.enter_context(TaskQueue(own_settings))
        queue.include(sample)
        first = stack.enter_context(running("worker", APP, log=tmp_path / "1.log", settings=own_settings))
        job = sample.sleep_async.submit(3.0)
        wait_until(lambda: job.refresh().status == "running", timeout_s=60)
        (victim,) = queue.workers()
        stack.enter_context(running("worker", APP, log=tmp_path / "2.log", settings=own_settings))
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=60)
        clock.set(-3600)
        first.kill()
        with redis.Redis.from_url(own_settings.redis_url) as client:
            client.zrem(Keys.of(own_settings.namespace).workers, victim.id)  # the lease alone decides
        assert job.result(timeout=60) == "slept"


def test_a_step_either_way_neither_drops_nor_doubles_a_run_of_a_schedule(
    clock: MongoClock, own_settings: Settings, tmp_path: Path
) -> None:
    with (
        TaskQueue(own_settings) as queue,
        running("worker", APP, log=tmp_path / "w.log", settings=own_settings),
        MongoClient[dict[str, Any]](own_settings.atlas_uri, tz_aware=True) as mongo,
    ):
        queue.include(sample)
        wait_until(queue.workers, timeout_s=60)
        call = sample.noop.bind()
        schedule = queue.schedule("m", call, cron="*/2 * * * *", catch_up="2h", catch_up_runs="all")
        first = schedule.record.next_at
        assert first is not None
        jobs = mongo[own_settings.database_name]["jobs"]

        def times() -> list[datetime]:
            return sorted(doc["scheduled_for"] for doc in jobs.find({"schedule": "m"}))

        clock.set(3600)
        wait_until(lambda: len(times()) >= 29, timeout_s=60)
        clock.set(0)
        # Its due time is by the clock of then: it is over once the step back is known to all.
        sample.add_async.options(delay_s=2.0).submit(1).result(timeout=60)
        found, record = times(), schedule.refresh().record
        assert found == [first + timedelta(minutes=2 * n) for n in range(len(found))]
        assert (record.next_at, record.missed) == (first + timedelta(minutes=2 * len(found)), 0)
