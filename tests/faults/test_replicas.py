"""MongoDB as it is hosted: elections, members that lag or are killed, a majority that is lost, refusals of all kinds.

Nothing is lost, nothing runs twice, and no error of the driver reaches a user.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient
from typing_extensions import override

from dtqkit import AsyncTaskQueue, Settings, StoreUnavailable, TaskQueue
from dtqkit.control.operations import HEALTH
from dtqkit.local import LocalStores, start_local_stores
from tests import sample
from tests.faults.proxy import HOST, Proxy
from tests.load import Load
from tests.replicas import ReplicaSet
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture(scope="module")
def replicas() -> Iterator[ReplicaSet]:
    with ReplicaSet() as replicas:
        yield replicas


@pytest.fixture(scope="module")
def redis() -> Iterator[LocalStores]:
    with start_local_stores(mongo=False) as stores:
        yield stores


@pytest.fixture
def settings(request: pytest.FixtureRequest, replicas: ReplicaSet, redis: LocalStores) -> Iterator[Settings]:
    replicas.wait_whole()
    namespace = f"r{abs(hash(request.node.name)) % 10**8}"
    yield Settings(
        redis_url=redis.redis_url,
        atlas_uri=replicas.uri,
        namespace=namespace,
        heartbeat_s=0.2,
        lease_s=30.0,
        grace_s=2.0,
        children=1,
    )
    with MongoClient[dict[str, Any]](replicas.uri) as client:
        client.drop_database(f"dtqkit_{namespace}")


@pytest.fixture
def queue(settings: Settings) -> Iterator[TaskQueue]:
    with TaskQueue(settings) as queue:
        queue.include("tests.sample")
        yield queue


class Submits(Load):
    """Submits from several threads, from `with` to its end."""

    def __init__(self, wait_s: float | None = None) -> None:
        super().__init__(threads=4)
        self._task = sample.add_async.options(wait_s=wait_s)
        self.accepted: list[str] = []
        self.errors: list[BaseException] = []

    @override
    def run(self) -> None:
        while self.goes_on(0.1):
            try:
                self.accepted.append(self._task.submit(1).id)
            except BaseException as error:  # whatever it is, the test looks at it
                self.errors.append(error)


def documents(settings: Settings) -> list[dict[str, Any]]:
    with MongoClient[dict[str, Any]](settings.atlas_uri) as client:
        return list(client[settings.database_name]["jobs"].find())


def check_all_ran_once(settings: Settings, accepted: list[str]) -> None:
    """Every accepted job completes, at its first attempt; what was stored without an answer, too."""
    wait_until(lambda: {doc["status"] for doc in documents(settings)} == {"completed"}, 30, 0.2)
    docs = documents(settings)
    assert {str(doc["_id"]) for doc in docs} >= set(accepted)
    assert Counter(len(doc.get("earlier", ())) for doc in docs) == {0: len(docs)}
    assert all(not doc["losses"] for doc in docs)


def test_step_downs_and_a_killed_primary_under_load_lose_nothing_and_run_nothing_twice(
    replicas: ReplicaSet, settings: Settings, queue: TaskQueue
) -> None:
    sample.add_async.submit(0)
    with Workers(queue, 2):
        with Submits() as load:
            wait_until(lambda: len(load.accepted) > 20)
            replicas.step_down(3)
            accepted = len(load.accepted)
            wait_until(lambda: len(load.accepted) > accepted + 20, 30)
            replicas.step_down(3, force=False)
            accepted = len(load.accepted)
            wait_until(lambda: len(load.accepted) > accepted + 20, 30)
            killed = replicas.wait_primary()
            replicas.kill(killed)
            accepted = len(load.accepted)
            wait_until(lambda: len(load.accepted) > accepted + 20, 30)
            replicas.start(killed)
        assert {type(error) for error in load.errors if not isinstance(error, StoreUnavailable)} == set()
        check_all_ran_once(settings, load.accepted)


def test_submits_that_wait_ride_through_an_election(replicas: ReplicaSet, settings: Settings, queue: TaskQueue) -> None:
    sample.add_async.submit(0)
    with Submits(wait_s=30.0) as load:
        wait_until(lambda: len(load.accepted) > 10)
        replicas.step_down(3)
        many = sample.add_async.options(wait_s=30.0, tags=["many"]).map(range(10))

        async def one() -> str:
            async with AsyncTaskQueue(settings.replace(submit_wait_s=30.0)) as other:
                return (await other.submit_call(sample.add_async.bind(1))).id

        single = asyncio.run(one())
        accepted = len(load.accepted)
        wait_until(lambda: len(load.accepted) > accepted + 10, 30)
    assert load.errors == []
    stored = {str(doc["_id"]) for doc in documents(settings)}
    assert {*load.accepted, *(job.id for job in many), single} <= stored
    assert len(stored) == len(load.accepted) + 10 + 1 + 1


def test_decisions_read_the_primary_whatever_the_uri_says(
    replicas: ReplicaSet, settings: Settings, queue: TaskQueue
) -> None:
    lagging = replicas.secondaries()[0]
    options = "readPreference=secondary&readConcernLevel=local&w=1&journal=false&maxStalenessSeconds=120"
    sample.add_async.submit(0)
    replicas.fail(lagging, "rsSyncApplyStop")
    try:
        with TaskQueue(settings.replace(atlas_uri=f"{replicas.uri}&{options}&retryWrites=false")) as careless:
            careless.include("tests.sample")
            for number in range(10):
                keyed = sample.add_async.options(idempotency_key=f"k{number}")
                first = careless.submit_call(keyed.bind(number))
                assert careless.submit_call(keyed.bind(number)).id == first.id
                assert careless.get(first.id).status == "pending"
                assert careless.get(first.id).cancel().status == "cancelled"
                assert careless.jobs(limit=1).items[0].id == first.id
    finally:
        replicas.fail(lagging, "rsSyncApplyStop", "off")


def test_a_majority_that_is_lost_and_comes_back_costs_no_result(
    replicas: ReplicaSet, settings: Settings, queue: TaskQueue
) -> None:
    with Workers(queue, 1):
        assert sample.add_async.submit(1).result(timeout=20) == 2
        slow = sample.sleep_async.submit(2.0)
        wait_until(lambda: slow.refresh().status == "running")
        lost = replicas.secondaries()
        for member in lost:
            replicas.kill(member)
        with pytest.raises(StoreUnavailable):
            sample.add_async.submit(2)
        wait_until(lambda: replicas.primary() is None, 20)
        with pytest.raises(StoreUnavailable, match="electing a primary: safe to try again"):
            sample.add_async.submit(3)
        for member in lost:
            replicas.start(member)
        assert slow.result(timeout=30) == "slept"
        assert slow.refresh().record.claim_number == 1
        assert sample.add_async.options(wait_s=30.0).submit(4).result(timeout=30) == 5


@contextmanager
def refusing(replicas: ReplicaSet, commands: list[str], code: int) -> Iterator[None]:
    replicas.refuse(commands, code)
    try:
        yield
    finally:
        replicas.accept()


#: Out of space, blocked, over quota, interrupted, shutting down, not primary, not allowed, out of time, unknown.
REFUSALS = [14031, 371, 8000, 11601, 91, 10107, 13, 50, 99_999]


def test_a_refusal_that_is_not_about_the_job_is_reported_and_retried(replicas: ReplicaSet, queue: TaskQueue) -> None:
    sample.add_async.submit(0)
    for code in REFUSALS:
        with refusing(replicas, ["insert"], code), pytest.raises(StoreUnavailable):
            sample.add_async.map([1, 2])
    job = sample.add_async.submit(1)
    for act in (queue.jobs, queue.depths, job.refresh, job.cancel, queue.requeue_dead):
        with refusing(replicas, ["find", "aggregate", "findAndModify"], 11601), pytest.raises(StoreUnavailable):
            act()
    assert sample.add_async.submit(1).status == "pending"


@pytest.mark.parametrize("code", [14031, 11601, 10107])
def test_an_end_is_kept_and_nothing_is_run_again_while_mongodb_refuses_writes(
    replicas: ReplicaSet, settings: Settings, queue: TaskQueue, code: int
) -> None:
    with Workers(queue, 1):
        jobs = sample.sleep_async.map([1.5] * 3)
        wait_until(lambda: {doc["status"] for doc in documents(settings)} == {"running"})
        with refusing(replicas, ["update", "findAndModify"], code):
            more = sample.add_async.map(range(20))
            until = time.monotonic() + 2.0
            wait_until(lambda: time.monotonic() > until)
        assert jobs.results(timeout=20) == ["slept"] * 3
        assert more.results(timeout=10) == list(range(1, 21))
        check_all_ran_once(settings, [job.id for job in more])


def test_health_is_down_while_writes_are_refused(replicas: ReplicaSet, queue: TaskQueue) -> None:
    control = queue.core.control
    look: Callable[[], str] = lambda: queue.run(control.ask(HEALTH)).mongodb  # noqa: E731
    sample.add_async.submit(0)
    assert look() == "up"
    with refusing(replicas, ["insert"], 371):
        with pytest.raises(StoreUnavailable, match="refuses for now"):
            sample.add_async.submit(1)
        wait_until(lambda: look() == "down", 5)
    wait_until(lambda: look() == "up", 5)


def test_an_end_that_mongodb_refuses_is_published_as_it_was_recorded(
    replicas: ReplicaSet, settings: Settings, queue: TaskQueue
) -> None:
    with Workers(queue, 1), MongoClient[dict[str, Any]](replicas.uri) as client:
        good = sample.add_async.submit(0)
        assert good.result(timeout=20) == 1
        validator = {"result": {"$ne": 1_000}}
        client[settings.database_name].command("collMod", "jobs", validator=validator)
        bad = sample.add_async.options(max_attempts=1).submit(999)
        with pytest.raises(Exception, match="MongoDB does not take this document"):
            bad.result(timeout=20)
        assert sample.add_async.submit(1).result(timeout=20) == 2


def test_everything_works_600_ms_away(replicas: ReplicaSet, redis: LocalStores, settings: Settings) -> None:
    with Proxy(replicas.wait_primary().port) as proxy:
        proxy.set("delay", 0.3)
        far = settings.replace(atlas_uri=f"mongodb://{HOST}:{proxy.port}/?directConnection=true")
        with TaskQueue(far) as queue:
            queue.include("tests.sample")
            assert sample.add_async.submit(1).status == "pending"
            with Workers(queue):
                assert sample.add_async.map(range(5)).results(timeout=40) == [1, 2, 3, 4, 5]
