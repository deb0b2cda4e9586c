"""Indexes that are missing, for whatever reason, come back; a collection with many jobs can be used meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo._csot
import pytest
from bson import ObjectId
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from dtqkit import BatchRefused, DtqError, Settings, StoreUnavailable, TaskQueue
from dtqkit.control import JobFilters, StatsQuery
from dtqkit.control.operations import STATS
from dtqkit.direct import listing
from dtqkit.store import Store, indexes, inserts, keeper
from dtqkit.store.jobs import Jobs
from dtqkit.store.keeper import IndexKeeper
from tests import sample
from tests.conftest import Mongo
from tests.wait import wait_until, wait_until_async
from tests.workers import Workers

ALL = {"_id_", *(index.document["name"] for index in indexes.JOBS)}


def names(mongo: Mongo, settings: Settings) -> set[str]:
    return set(mongo[settings.database_name]["jobs"].index_information())


def opened(settings: Settings, then: Callable[[Store], Coroutine[Any, Any, None]] | None = None) -> None:
    async def run() -> None:
        store = Store(settings)
        await store.open()
        if then is not None:
            await then(store)
        await store.close()

    asyncio.run(run())


def test_indexes_that_were_dropped_are_made_at_the_next_open(settings: Settings, mongo: Mongo) -> None:
    opened(settings)
    assert names(mongo, settings) == ALL
    mongo[settings.database_name]["jobs"].drop_indexes()
    opened(settings)
    assert names(mongo, settings) == ALL
    mongo[settings.database_name]["jobs"].drop()
    opened(settings)
    assert names(mongo, settings) == ALL


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any collection counts as too large to be indexed at open, and processes wait only briefly for another."""
    monkeypatch.setattr(keeper, "SMALL", 0)
    monkeypatch.setattr(keeper, "BEGIN_S", 0.05)
    monkeypatch.setattr(keeper, "AGAIN_S", 0.05)


@pytest.mark.usefixtures("many")
def test_those_of_many_jobs_are_built_in_the_background_without_a_deadline(
    settings: Settings, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()
    build = IndexKeeper._build

    async def later(self: IndexKeeper, found: Any) -> None:
        left = pymongo._csot.get_timeout()  # the deadline of opening is not that of building
        assert left is not None
        assert left > 3_600
        await go.wait()
        await build(self, found)

    monkeypatch.setattr(IndexKeeper, "_build", later)

    async def meanwhile(_: Store) -> None:
        assert names(mongo, settings) <= {"_id_"}
        go.set()
        await wait_until_async(lambda: names(mongo, settings) == ALL)

    opened(settings, meanwhile)


@pytest.mark.usefixtures("many")
def test_a_build_logs_how_far_it_is(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dtqkit.store")
    monkeypatch.setattr(keeper, "REPORT_S", 0.01)
    asked = IndexKeeper.builds
    scanning = "Index Build: scanning collection"

    async def as_mongodb_says(self: IndexKeeper) -> list[str]:
        return [*await asked(self), f"{scanning} {scanning}: 69364/400000 17%"]

    async def slow(self: IndexKeeper, found: Any) -> None:
        await wait_until_async(lambda: "400000" in caplog.text)

    monkeypatch.setattr(IndexKeeper, "builds", as_mongodb_says)
    monkeypatch.setattr(IndexKeeper, "_build", slow)

    async def meanwhile(_: Store) -> None:
        await wait_until_async(lambda: "built indexes of jobs" in caplog.text)

    opened(settings, meanwhile)
    assert "building indexes of jobs for 0 s: scanning collection: 69364/400000 17%" in caplog.text


@pytest.mark.usefixtures("many")
def test_of_many_processes_that_start_together_one_builds_and_another_takes_over_when_it_is_gone(
    settings: Settings, mongo: Mongo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dtqkit.store")
    monkeypatch.setattr(keeper, "LEASE_S", 1.0)
    building: list[IndexKeeper] = []
    build = IndexKeeper._build

    async def first_hangs(self: IndexKeeper, found: Any) -> None:
        building.append(self)
        if len(building) == 1:
            await asyncio.Event().wait()
        await build(self, found)

    monkeypatch.setattr(IndexKeeper, "_build", first_hangs)

    async def story() -> None:
        stores = [Store(settings) for _ in range(8)]
        for store in stores:
            await store.open()
        # The others wait for longer than a lease, which is renewed
        configuration = mongo[settings.database_name].configuration

        def until() -> datetime | None:
            return (configuration.find_one({"_id": "indexes"}) or {}).get("until")

        first = await wait_until_async(until)
        assert first is not None
        await wait_until_async(lambda: (until() or first) >= first + timedelta(seconds=2.0))
        assert len(building) == 1
        await wait_until_async(lambda: caplog.text.count("another process is building missing indexes") == 7)
        # When the building process is gone
        (gone,) = [store for store in stores if store.indexes is building[0]]
        await gone.close()
        # Then one other does
        await wait_until_async(lambda: names(mongo, settings) == ALL)
        assert len(building) == 2
        for store in stores:
            await store.close()

    asyncio.run(story())


def test_an_index_that_differs_is_rebuilt_and_those_of_older_versions_are_dropped(
    settings: Settings, mongo: Mongo
) -> None:
    jobs = mongo[settings.database_name]["jobs"]
    # Given one of our names with other fields, with other options, and hidden; two of ours under another name, one
    # that an older version made, and one of somebody else
    jobs.create_index("status", name="lane")
    jobs.create_index([("idempotency_key", 1), ("task", 1)], name="key")
    jobs.create_index([("task", 1), ("_id", 1)], name="task", hidden=True)
    jobs.create_index("failed_at", name="mine", partialFilterExpression={"failed_at": {"$exists": True}})
    jobs.create_index([("task", 1), ("idempotency_key", 1)], name="idempotency", unique=True, sparse=True)
    jobs.create_index("payload.customer", name="theirs")
    opened(settings)
    assert names(mongo, settings) == {*ALL, "theirs"}
    there = list(jobs.list_indexes())
    assert not any(indexes.differences(there))
    assert next(index for index in there if index["name"] == "key")["unique"]


def test_jobs_that_have_the_same_key_from_a_time_without_the_index_do_not_keep_it_away(
    queue: TaskQueue, settings: Settings, mongo: Mongo
) -> None:
    first = sample.add.options(idempotency_key="same").submit(1)
    other = sample.add.submit(1)
    jobs = mongo[settings.database_name]["jobs"]
    jobs.drop_indexes()
    jobs.update_one({"_id": ObjectId(other.id)}, {"$set": {"idempotency_key": "same"}})
    opened(settings)
    assert names(mongo, settings) == ALL
    assert [doc["_id"] for doc in jobs.find({"idempotency_key": "same"})] == [ObjectId(first.id)]
    assert sample.add.options(idempotency_key="same").submit(1).id == first.id


@pytest.mark.parametrize("how", ["dropped", "without indexes", "not unique"])
def test_a_key_has_one_job_although_the_collection_lost_its_indexes_while_processes_run(
    queue: TaskQueue, settings: Settings, mongo: Mongo, how: str
) -> None:
    keyed = sample.add.options(idempotency_key="k")
    keyed.submit(1)
    jobs = mongo[settings.database_name]["jobs"]
    if how == "dropped":
        jobs.drop()
    else:
        jobs.drop_indexes()
    if how == "not unique":  # the restore made one, and any process that opens the store repairs it
        jobs.create_index([("idempotency_key", 1), ("task", 1)], name="key")
        opened(settings)
    ids = {handle.id for handle in queue.submit_many([keyed.bind(1), sample.add.bind(2), keyed.bind(1)])}
    assert len(ids | {keyed.submit(1).id}) == 2
    assert jobs.count_documents({"idempotency_key": "k"}) == 1


def test_a_key_has_one_job_although_the_indexes_go_in_the_midst_of_a_submit_of_many(
    queue: TaskQueue, settings: Settings, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = [sample.add.options(idempotency_key=f"k{n}").bind(n) for n in range(5)]
    first = queue.submit_many(keyed[:2])
    jobs = mongo[settings.database_name]["jobs"]
    insert_many = inserts.insert_many

    async def after_a_drop(self: Any, docs: Any) -> None:
        monkeypatch.undo()
        jobs.drop_indexes()
        await insert_many(self, docs)

    monkeypatch.setattr(inserts, "insert_many", after_a_drop)
    again = queue.submit_many(keyed)
    assert [job.id for job in again][:2] == [job.id for job in first]
    assert sorted(doc["idempotency_key"] for doc in jobs.find()) == [f"k{n}" for n in range(5)]
    with Workers(queue):
        assert again.results(timeout=20) == [n + 1 for n in range(5)]


def test_while_the_index_of_keys_is_built_only_jobs_with_a_key_are_refused(
    queue: TaskQueue, settings: Settings, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = sample.add.options(idempotency_key="k")
    sample.add.submit(1)
    mongo[settings.database_name]["jobs"].drop_indexes()
    monkeypatch.setattr(keeper, "SMALL", 0)
    monkeypatch.setattr(keeper, "BEGIN_S", 1.0)
    with pytest.raises(StoreUnavailable, match="idempotency key"):
        keyed.submit(1)
    with pytest.raises(DtqError, match=r"1 of 2 jobs were refused.*idempotency key"):
        queue.submit_many([sample.add.bind(1), keyed.bind(1)])
    assert mongo[settings.database_name]["jobs"].count_documents({}) == 2
    # The refused submit started the build
    wait_until(lambda: names(mongo, settings) == ALL)
    assert keyed.submit(1).id == keyed.submit(1).id


def test_a_listing_that_misses_its_index_is_answered_and_has_it_built(
    queue: TaskQueue, settings: Settings, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "BEGIN_S", 0.0)
    sample.add.options(tags=["nightly"]).submit(1)
    mongo[settings.database_name]["jobs"].drop_indexes()
    assert len(queue.jobs(q="nightly").items) == 1
    wait_until(lambda: names(mongo, settings) == ALL)


def test_a_leader_compares_the_indexes_now_and_then(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    sample.add.submit(1)
    with Workers(queue, settings=settings.replace(lease_s=0.6)):
        wait_until(lambda: names(mongo, settings) == ALL)
        mongo[settings.database_name]["jobs"].drop_indexes()
        wait_until(lambda: names(mongo, settings) == ALL)


def test_a_user_who_may_not_create_indexes_can_read_and_the_log_names_what_is_missing(
    queue: TaskQueue,
    settings: Settings,
    mongo: Mongo,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sample.add.submit(1)
    mongo[settings.database_name]["jobs"].drop_indexes()

    async def refused(*_: Any, **__: Any) -> None:
        raise OperationFailure("not authorized on dtqkit to execute command { createIndexes: ... }", 13)

    monkeypatch.setattr(AsyncCollection, "create_indexes", refused)
    with TaskQueue(settings) as other:
        assert len(other.jobs(task=sample.add.name).items) == 1
        assert "may not create them: give it the role readWrite" in caplog.text
        with pytest.raises(StoreUnavailable, match="may not create them"):
            other.run(other.core.submit_call(sample.add.options(idempotency_key="k").bind(1)))


def test_a_queue_can_be_used_without_its_indexes(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    jobs = [sample.add.options(tags=["nightly"], idempotency_key=f"key {n}").submit(n) for n in range(3)]
    mongo[settings.database_name]["jobs"].drop_indexes()
    wanted: list[tuple[JobFilters, int]] = [
        ({"q": "nightly"}, 3),
        ({"q": "key 1"}, 1),
        ({"q": jobs[0].id}, 1),
        ({"worker": "w"}, 0),
        ({"status": "pending"}, 3),
    ]
    for filters, n in wanted:
        assert len(queue.jobs(**filters).items) == n
    stats = queue.run(queue.core.control.ask(STATS, StatsQuery(window_s=60)))
    assert stats.submitted == 3


def test_an_index_that_cannot_be_built_keeps_no_other_away(settings: Settings, mongo: Mongo) -> None:
    # No index has two arrays side by side
    odd = {"task": ["a", "b"], "idempotency_key": ["c", "d"], "status": "pending"}
    mongo[settings.database_name]["jobs"].insert_one(odd)
    opened(settings)
    assert names(mongo, settings) == ALL - {"key"}


@pytest.mark.parametrize("piece", [3, 1_000])
def test_a_history_is_whole_although_its_index_is_missing(
    queue: TaskQueue, mongo: Mongo, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    jobs = sample.add.map(range(20))
    at = datetime.now(UTC)
    attempt = {"number": 1, "worker": "w", "queued_at": at, "claimed_at": at, "ended_at": at, "ending": "failed"}
    collection = mongo[queue.settings.database_name]["jobs"]
    collection.update_many({"payload.a": {"$mod": [3, 0]}}, {"$set": {"status": "failed", "earlier": [attempt]}})
    collection.drop_indexes()
    page = Jobs.page
    whole_looks = 0

    async def slow(self: Jobs, query: dict[str, Any], *args: Any, **more: Any) -> Any:
        nonlocal whole_looks
        if "$gte" not in query.get("_id", {}):  # so many that MongoDB does not come to an end in time
            whole_looks += 1
            if whole_looks % 2:
                return None
        return await page(self, query, *args, **more)

    monkeypatch.setattr(Jobs, "page", slow)
    monkeypatch.setattr(listing, "_PIECE", piece)
    monkeypatch.setattr(listing, "_CHUNK", 4)
    rows = [row["job"] for row in queue.history(status="failed").to_dict("records")]
    assert rows == [job.id for job in reversed(list(jobs)[::3])]


def test_unique_jobs_are_refused_while_their_index_is_missing_and_all_others_are_accepted(
    settings: Settings, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TaskQueue(settings) as queue:
        queue.include("tests.sample")
        once = sample.add.options(unique="active", unique_key="k")
        first = once.submit(1)
        monkeypatch.setattr(keeper, "SMALL", 0)
        monkeypatch.setattr(keeper, "BEGIN_S", 600)
        mongo[settings.database_name]["jobs"].drop_index(indexes.UNIQUE)
        with pytest.raises(StoreUnavailable, match=r"the index of unique jobs is being built.*submit again later"):
            once.submit(1)
        with pytest.raises(StoreUnavailable, match="unique jobs are refused"):
            sample.add.options(unique="active").map([5, 6])
        with pytest.raises(BatchRefused, match="unique jobs are refused") as some:
            queue.submit_many([sample.add.bind(1), once.bind(1)])
        assert len(some.value.accepted) == 1
        assert sample.add.options(idempotency_key="i").submit(1).id != first.id
        monkeypatch.undo()
        assert once.submit(1).id == first.id  # that submit has built it
    assert names(mongo, settings) == ALL


def test_slots_that_were_taken_twice_without_the_index_stay_with_the_oldest_job(
    settings: Settings, mongo: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    with TaskQueue(settings) as queue:
        queue.include("tests.sample")
        first, second = (sample.add.options(unique="active", unique_key=key).submit(1) for key in "kj")
    jobs = mongo[settings.database_name]["jobs"]
    jobs.drop_index(indexes.UNIQUE)
    jobs.update_one({"_id": ObjectId(second.id)}, {"$set": {"unique_slot": "add:k"}})
    opened(settings)
    assert names(mongo, settings) == ALL
    held = {str(doc["_id"]): doc.get("unique_slot") for doc in jobs.find()}
    assert held == {first.id: "add:k", second.id: None}
    assert "freed the unique slot 'add:k' of 1 jobs" in caplog.text
