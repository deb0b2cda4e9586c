"""A worker that stops and holds no job removes itself from the list, before it misses heartbeats."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from dtqkit import JobHandle, Settings, TaskQueue
from tests import sample
from tests.command import running
from tests.faults.proxy import Proxy
from tests.wait import wait_until

APP = "tests.sample:queue"
START_S = 60.0


class Listed:
    """What Redis lists of workers: in the zset of their beats, and as a hash each."""

    def __init__(self, redis: Any, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace

    def __call__(self) -> tuple[list[str], list[str]]:
        beats = self._redis.zrange(f"{self._namespace}:workers", 0, -1)
        return beats, [key for key in self._redis.keys(f"{self._namespace}:worker:*") if not key.endswith(":wake")]


@pytest.fixture
def slow(settings: Settings) -> Settings:
    """A leader notices missed heartbeats after half a minute: a worker that is gone at once removed itself."""
    return settings.replace(heartbeat_s=10.0, lease_s=60.0, grace_s=60.0)


@pytest.fixture
def listed(slow: Settings) -> Iterator[Listed]:
    with Redis.from_url(slow.redis_url, decode_responses=True) as redis:  # pyright: ignore[reportUnknownMemberType]
        yield Listed(redis, slow.namespace)


@contextmanager
def worker(settings: Settings, log: Path, listed: Listed) -> Iterator[subprocess.Popen[bytes]]:
    with running("worker", APP, log=log, settings=settings) as process:
        wait_until(lambda: len(listed()[0]) == len(listed()[1]) == 1, timeout_s=START_S)
        yield process


def begun(seconds: float) -> JobHandle[str]:
    job = sample.sleep.submit(seconds)
    wait_until(lambda: job.refresh().status == "running", timeout_s=START_S)
    return job


def stop_at_once(process: subprocess.Popen[bytes]) -> None:
    def ended() -> bool:
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    wait_until(ended, interval_s=0.4, timeout_s=20)


def test_an_idle_worker_that_is_stopped_is_not_listed_when_it_has_ended(
    queue: TaskQueue, slow: Settings, listed: Listed, tmp_path: Path
) -> None:
    with worker(slow, tmp_path / "log", listed) as process:
        process.terminate()
        assert process.wait(20) == 0
        assert listed() == ([], [])


@pytest.mark.parametrize(("grace_s", "status"), [(60.0, "completed"), (0.2, "pending")], ids=["finished", "given back"])
def test_so_is_one_whose_job_has_ended_or_was_given_back(
    queue: TaskQueue, slow: Settings, listed: Listed, tmp_path: Path, grace_s: float, status: str
) -> None:
    with worker(slow.replace(grace_s=grace_s), tmp_path / "log", listed) as process:
        job = begun(1.0 if status == "completed" else 60.0)
        process.terminate()
        assert process.wait(30) == 0
        assert listed() == ([], [])
    assert job.refresh().status == status


def test_one_that_could_not_give_its_job_back_stays_on_the_list_so_that_the_leader_notices(
    queue: TaskQueue, slow: Settings, listed: Listed, tmp_path: Path
) -> None:
    port = urlsplit(slow.atlas_uri).port
    assert port is not None
    with Proxy(port) as proxy:
        far = slow.replace(atlas_uri=slow.atlas_uri.replace(f":{port}", f":{proxy.port}"))
        with worker(far, tmp_path / "log", listed) as process:
            begun(60.0)
            before = listed()
            proxy.set("stall")
            stop_at_once(process)
            assert listed() == before


def test_one_that_is_killed_stays_on_the_list(queue: TaskQueue, slow: Settings, listed: Listed, tmp_path: Path) -> None:
    with worker(slow, tmp_path / "log", listed) as process:
        before = listed()
        process.kill()
        process.wait(20)
        assert listed() == before
