"""The guardian beats while a task holds the GIL, and never for a worker that is stopped or dead."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from dtqkit import JobHandle, Settings, TaskQueue
from dtqkit.broker.keys import Keys
from tests import hosts_app
from tests.command import children_with, living, running
from tests.wait import wait_until

APP = "tests.hosts_app:queue"
START_S = 60.0
HEARTBEAT_S = 0.6


def running_now(job: JobHandle[Any]) -> Callable[[], bool]:
    return lambda: job.refresh().status == "running"


class Watched:
    """A worker process, its guardian and its score in Redis."""

    def __init__(self, queue: TaskQueue, settings: Settings, pid: int, client: redis.Redis) -> None:
        self.pid = pid
        self._client = client
        self._key = Keys.of(settings.namespace).workers
        wait_until(lambda: len(queue.workers()) == 1, timeout_s=START_S)
        (self.guardian,) = wait_until(lambda: children_with(pid, b"guardian_process.py"))

    def score(self) -> float:
        ((_, score),) = cast("list[tuple[str, float]]", self._client.zrange(self._key, 0, -1, withscores=True))
        return score

    def longest_pause(self, seconds: float) -> float:
        """The longest time within the next `seconds` in which the score stands still."""
        longest, last, changed = 0.0, self.score(), time.monotonic()
        until = changed + seconds
        while (now := time.monotonic()) < until:
            if (score := self.score()) != last:
                last, changed = score, now
            longest = max(longest, now - changed)
            time.sleep(0.02)  # how exact it is, not how long it waits
        return longest


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.replace(heartbeat_s=HEARTBEAT_S, lease_s=60)  # longer than a task holds the GIL


@contextmanager
def watched(queue: TaskQueue, settings: Settings, tmp_path: Path) -> Iterator[Watched]:
    with (
        redis.Redis.from_url(settings.redis_url, decode_responses=True) as client,
        running("worker", APP, log=tmp_path / "log", settings=settings) as process,
    ):
        yield Watched(queue, settings, process.pid, client)


@pytest.mark.parametrize("how", ["coroutine", "thread"])
def test_a_held_gil_does_not_stop_the_beat(queue: TaskQueue, settings: Settings, tmp_path: Path, how: str) -> None:
    queue.include(hosts_app)
    with watched(queue, settings, tmp_path) as worker:
        task = hosts_app.hold_gil_async if how == "coroutine" else hosts_app.hold_gil_in_thread
        for _ in range(3):  # how long it holds depends on the machine
            job = task.options(timeout_s=60).submit(3 * settings.silence_s)
            wait_until(running_now(job))
            assert worker.longest_pause(2.5 * settings.silence_s) < settings.silence_s
            held = job.result(timeout=60)
            assert job.refresh().record.losses == 0
            if held > 1.2 * settings.silence_s:
                return
        pytest.fail("the GIL was not held for long enough to see an effect")


def test_a_stopped_worker_misses_heartbeats_and_recovers(queue: TaskQueue, settings: Settings, tmp_path: Path) -> None:
    with watched(queue, settings, tmp_path) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        wait_until(lambda: worker.longest_pause(HEARTBEAT_S * 6) >= HEARTBEAT_S * 5.9)
        os.kill(worker.pid, signal.SIGCONT)
        stood = worker.score()
        wait_until(lambda: worker.score() != stood)


def test_a_killed_worker_ends_its_guardian_and_sends_no_more_heartbeats(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    with watched(queue, settings, tmp_path) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        last = worker.score()
        wait_until(lambda: not living({worker.guardian}), timeout_s=3)
        assert worker.score() == last
        assert worker.longest_pause(4 * HEARTBEAT_S) > 3.9 * HEARTBEAT_S


def test_a_worker_that_is_killed_while_it_holds_the_gil_sends_no_more_heartbeats(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    queue.include(hosts_app)
    with watched(queue, settings, tmp_path) as worker:
        job = hosts_app.hold_gil_async.options(timeout_s=60).submit(60.0)
        wait_until(running_now(job))
        worker.longest_pause(6 * HEARTBEAT_S)  # the guardian beats by now
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: not living({worker.guardian}), timeout_s=3)
        assert worker.longest_pause(4 * HEARTBEAT_S) > 3.9 * HEARTBEAT_S


def test_signals_to_the_guardian_are_left_to_its_owner_and_a_killed_one_is_replaced(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    with watched(queue, settings, tmp_path) as worker:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.guardian, number)
        assert worker.longest_pause(3 * HEARTBEAT_S) < settings.silence_s
        assert living({worker.guardian})
        os.kill(worker.guardian, signal.SIGKILL)
        wait_until(lambda: children_with(worker.pid, b"guardian_process.py") - {worker.guardian})
        os.kill(worker.pid, signal.SIGTERM)
        wait_until(lambda: not living({worker.pid}) and not children_with(worker.pid, b"guardian_process.py"))


def test_the_guardian_is_small_and_shows_no_password(queue: TaskQueue, settings: Settings, tmp_path: Path) -> None:
    with watched(queue, settings, tmp_path) as worker:
        place = Path(f"/proc/{worker.guardian}")
        (rss_kb,) = [int(line.split()[1]) for line in (place / "status").read_text().splitlines() if "VmRSS" in line]
        assert rss_kb < 16_000
        secret = settings.redis_url.partition("@")[0].rpartition(":")[2].encode()
        assert len(secret) > 10
        assert secret not in (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
