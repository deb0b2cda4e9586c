"""A queue on each redis-server and mongod of this machine: whatever version they are, it does the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dtqkit import JobCancelled, JobFailed, Settings, TaskQueue
from dtqkit.local import LocalStores, start_local_stores
from tests import sample
from tests.leaks import check_no_key_leaked
from tests.programs import Pair, pairs
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture(params=pairs(), ids=str)
def own_stores(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalStores]:
    pair: Pair = request.param
    monkeypatch.setenv("PATH", pair.first_on_path(tmp_path / "bin"))
    with start_local_stores() as stores:
        yield stores


@pytest.fixture
def queue(own_stores: LocalStores) -> Iterator[TaskQueue]:
    settings = Settings(
        redis_url=own_stores.redis_url,
        atlas_uri=own_stores.atlas_uri,
        namespace="versions",
        heartbeat_s=0.2,
        lease_s=6.0,
        grace_s=2.0,
        children=1,
    )
    with TaskQueue(settings) as queue:
        queue.include("tests.sample")
        yield queue


def test_jobs_are_run_retried_delayed_cancelled_and_requeued(queue: TaskQueue, own_stores: LocalStores) -> None:
    with Workers(queue):
        assert sample.add_async.map(range(20)).results(timeout=30) == list(range(1, 21))
        assert sample.add.options(priority="high", delay_s=0.2).submit(1).result(timeout=30) == 2
        assert sample.fail_until.submit(3).result(timeout=30) == 3
        bad = sample.fail.submit("planted")
        with pytest.raises(JobFailed, match="planted"):
            bad.result(timeout=30)
        bad.requeue()
        with pytest.raises(JobFailed, match="planted"):
            bad.result(timeout=30)
        slow = sample.sleep_async.submit(60)
        wait_until(lambda: slow.refresh().status == "running")
        slow.cancel()
        with pytest.raises(JobCancelled):
            slow.result(timeout=30)
    check_no_key_leaked(own_stores.redis_url, "versions")


def test_what_waited_is_run_after_redis_lost_everything(queue: TaskQueue, own_stores: LocalStores) -> None:
    jobs = sample.add_async.map(range(10))
    own_stores.restart_redis(empty=True)

    with Workers(queue):
        assert jobs.results(timeout=60) == list(range(1, 11))
