"""What pauses, resumes or changes many jobs is killed in between: the leader, or the next call, does the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from dtqkit import Settings, TaskQueue
from dtqkit.local import LocalStores
from dtqkit.model.failpoints import VARIABLE
from dtqkit.run.supervisor import environment_of
from tests import sample
from tests.wait import wait_until
from tests.workers import Workers


def killed(settings: Settings, point: str, call: str, turn: int = 1) -> None:
    """Run `queue.<call>` in a process that is killed at this failpoint, when it comes there so many times."""
    code = f"from dtqkit import TaskQueue\nwith TaskQueue() as queue: queue.{call}"
    environ = {**os.environ, **environment_of(settings), VARIABLE: f"{point}=kill@{turn}"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture
def parked(stores: LocalStores, settings: Settings) -> Iterator[Callable[[], Any]]:
    with Redis.from_url(stores.redis_url, decode_responses=True) as redis:
        yield lambda: redis.zcard(f"{settings.namespace}:queue:parked")


@pytest.mark.parametrize("point", ["pause.after", "announce_pauses.after", "unpark.before", "unpark.after"])
def test_who_resumes_is_killed_and_the_jobs_go_on(
    queue: TaskQueue, worker: Workers, settings: Settings, parked: Callable[[], Any], point: str
) -> None:
    queue.pause(task="add_async")
    jobs = []
    while not parked():
        jobs.append(sample.add_async.submit(1))
        wait_until(lambda: parked() or jobs[-1].refresh().record.is_over)
    killed(settings, point, "resume(task='add_async')")
    assert jobs[-1].result(timeout=20) == 2


def test_who_pauses_is_killed_and_the_pause_is_in_force(
    queue: TaskQueue, worker: Workers, settings: Settings, parked: Callable[[], Any]
) -> None:
    killed(settings, "pause.after", "pause(task='noop', allow_unknown=True)")
    assert [str(pause) for pause in queue.pauses()] == ["task 'noop'"]
    # The version was not announced: the leader does once a round.
    while not parked():
        job = sample.noop.submit()
        wait_until(lambda job=job: parked() or job.refresh().record.is_over)
    queue.cancel_many(task="noop")


@pytest.mark.parametrize("point", ["cancel.before", "cancel.after", "publish.after"])
def test_a_bulk_cancel_is_killed_and_the_next_call_does_the_rest(
    queue: TaskQueue, settings: Settings, point: str
) -> None:
    queue.submit_many(sample.add.bind(n) for n in range(600))
    other = sample.noop.submit()
    killed(settings, point, "cancel_many(task='add')", turn=2)
    done = 600 - queue.cancel_many(task="add", status="pending", dry_run=True).matched
    assert done in (250, 500)
    assert queue.cancel_many(task="add").changed == 600 - done
    assert queue.cancel_many(task="add", dry_run=True).matched == 0
    with Workers(queue):
        other.result(timeout=20)
