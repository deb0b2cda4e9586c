"""Rounds of recovery with much to do: in pieces, watched by their progress, and none holds up another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import ExecutionTimeout

from dtqkit import Settings
from dtqkit.broker import Broker
from dtqkit.recovery import Leader, deadletters
from dtqkit.recovery.deadletters import DeadLetterRounds
from dtqkit.store import Store, upkeep
from dtqkit.store.recovery_scan import Noticed
from dtqkit.store.upkeep import Upkeep
from dtqkit.support.cancel import end
from dtqkit.transitions import requeue
from tests.conftest import Mongo
from tests.wait import wait_until_async

LONG_AGO = datetime.now(UTC) - timedelta(days=60)


def document(status: str, **more: Any) -> dict[str, Any]:
    return {
        "_id": ObjectId(),
        "task": "tests.sample.noop",
        "payload": {},
        "priority": "medium",
        "status": status,
        "max_attempts": 1,
        "timeout_s": 60.0,
        "created_at": LONG_AGO,
        "token": 1,
        "losses": 0,
        "rev": 3,
        **more,
    }


def old_id() -> ObjectId:
    """An id of a job that was made long ago."""
    return ObjectId(int(LONG_AGO.timestamp()).to_bytes(4, "big") + ObjectId().binary[4:])


def dead(kind: str = "timeout", **more: Any) -> dict[str, Any]:
    error = {"kind": kind, "type": "TaskTimeout", "message": "ran longer"}
    return document("failed", ended_at=LONG_AGO, death_seq=1, failures=1, error=error, **more)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Broker, Store]]:
    broker, store = Broker(settings), Store(settings)
    try:
        await store.open()
        yield broker, store
    finally:
        await broker.close()
        await store.close()


def run(settings: Settings, story: Callable[[Broker, Store], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with opened(settings) as (broker, store):
            await story(broker, store)

    asyncio.run(whole())


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.replace(dead_letter_cooldown_s=0.1)


@pytest.fixture
def database(mongo: Mongo, settings: Settings) -> Any:
    return mongo[settings.database_name]


# -- dead letters


def test_a_leader_that_follows_in_mid_round_requeues_the_rest_and_nothing_twice(
    quick: Settings, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadletters, "PIECE", 7)
    # Given many that may be requeued, one that may not, missing dead letters, and some of jobs that did not fail
    jobs = [dead() for _ in range(40)]
    other = dead("exception")
    database.jobs.insert_many([*jobs, other])
    dead_letters = [{"_id": job["_id"], "death_seq": 1, "task": "t", "priority": "low"} for job in jobs[::2]]
    stale = [{"_id": ObjectId(), "death_seq": 1, "task": "t", "priority": "low"} for _ in range(20)]
    database.deadletter.insert_many([*dead_letters, *stale])

    async def story(broker: Broker, store: Store) -> None:
        first = DeadLetterRounds(quick, broker, store).pieces()
        requeued = [(await anext(first)).requeued for _ in range(2)]
        # When another leads from there on
        requeued += [piece.requeued async for piece in DeadLetterRounds(quick, broker, store).pieces()]
        # Then no piece was larger than allowed, and each was requeued once
        assert sum(requeued) == len(jobs)
        assert max(requeued) <= 7
        listed = await broker.listed(lambda: None)
        assert len(listed.scheduled) == len(jobs)

    run(quick, story)
    found = list(database.jobs.find({"status": "scheduled"}))
    assert {doc["recoveries"] for doc in found} == {1}
    # And at intervals, whichever leader requeued them
    due = sorted(doc["due_at"] for doc in found)
    assert len(due) == len(jobs)
    assert min((b - a).total_seconds() for a, b in pairwise(due)) > requeue.SPACING_S / 2
    assert [doc["_id"] for doc in database.deadletter.find()] == [other["_id"]]


def test_two_leaders_at_once_requeue_each_job_once(quick: Settings, database: Any) -> None:
    database.jobs.insert_many([dead() for _ in range(30)])

    async def story(broker: Broker, store: Store) -> None:
        async def round_() -> int:
            return sum([piece.requeued async for piece in DeadLetterRounds(quick, broker, store).pieces()])

        await asyncio.gather(round_(), round_())

    run(quick, story)
    assert {doc["recoveries"] for doc in database.jobs.find()} == {1}


# -- expiry


def test_expired_jobs_are_deleted_piece_by_piece_and_nothing_else_is(
    settings: Settings, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "EXPIRY_PIECE", 10)
    now = datetime.now(UTC)
    over = [document("completed", _id=old_id(), ended_at=LONG_AGO) for _ in range(45)]
    kept = [
        document("completed", _id=old_id(), ended_at=now),
        document("completed", ended_at=now),
        document("pending", _id=old_id()),
        document("running", _id=old_id()),
    ]
    # In the order of ids, what is kept stands before, within and after what is not
    kept[2]["_id"], over[0]["_id"] = over[0]["_id"], kept[2]["_id"]
    database.jobs.insert_many([*over, *kept])

    async def story(_: Broker, store: Store) -> None:
        deleted: list[int] = []
        last: ObjectId | None = None
        while not deleted or last is not None:
            piece = await store.upkeep.expire(now - timedelta(days=30), last)
            deleted.append(piece.done)
            last = piece.last
        assert sum(deleted) == len(over)
        assert max(deleted) <= 10

    run(settings, story)
    assert {doc["_id"] for doc in database.jobs.find()} == {doc["_id"] for doc in kept}


# -- the leader


@asynccontextmanager
async def leading(settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    async with opened(settings) as (broker, store):
        leader = Leader(settings, broker, store, candidate="one", rng=random.Random(1))
        running = asyncio.create_task(leader.run())
        leader.beat_answered(False, {})
        yield running
        await end(running)


def test_long_rounds_do_not_delay_jobs_whose_lease_has_expired(
    settings: Settings, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given rounds that do not come to an end
    begun: set[str] = set()

    def endless(name: str) -> Any:
        async def hang(*_: Any) -> None:
            begun.add(name)
            await asyncio.Event().wait()

        return hang

    monkeypatch.setattr(Upkeep, "failed", endless("failed"))
    monkeypatch.setattr(Upkeep, "expire", endless("expire"))
    monkeypatch.setattr("dtqkit.recovery.audit.Auditor.audit", endless("audit"))
    lost = document("running", claim=ObjectId(), worker="gone", lease_until=LONG_AGO, claimed_at=LONG_AGO)

    async def story() -> None:
        async with leading(settings):
            await wait_until_async(lambda: len(begun) == 3)
            # When a lease runs out
            database.jobs.insert_one(lost)
            # Then its job is taken
            await wait_until_async(lambda: database.jobs.find_one()["status"] == "scheduled", timeout_s=20)

    asyncio.run(story())


def test_a_round_that_makes_progress_has_not_hung_however_long_it_takes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtqkit.recovery.leader.HUNG_S", 1.0)
    pieces = 0

    async def slow(*_: Any) -> upkeep.Piece:
        nonlocal pieces
        pieces += 1
        await asyncio.sleep(0.1)  # a piece of a round that takes its time
        return upkeep.Piece(1, ObjectId() if pieces < 12 else None)

    monkeypatch.setattr(Upkeep, "expire", slow)

    async def story() -> None:
        async with leading(settings.replace(lease_s=1.0)) as leader:
            await wait_until_async(lambda: pieces == 12, timeout_s=20)
            assert not leader.done()

    asyncio.run(story())


def test_expired_leases_are_found_although_counting_takes_too_long(settings: Settings, database: Any) -> None:
    database.jobs.insert_one(document("running", claim=ObjectId(), worker="gone", lease_until=LONG_AGO))
    database.configuration.insert_one({"_id": "pauses", "version": 7})

    async def story(_: Broker, store: Store) -> None:
        scans: Any = store.scans
        aggregate = scans._jobs.aggregate

        async def slow(pipeline: Any, maxTimeMS: int | None = None) -> Any:  # noqa: N803 - the driver's name
            if maxTimeMS is not None:
                raise ExecutionTimeout("operation exceeded time limit", 50)
            return await aggregate(pipeline)

        scans._jobs = _With(scans._jobs, aggregate=slow)
        scan = await scans.look(10)
        assert scan.counts is None
        assert len(scan.overdue) == 1
        # And a pause that nobody could announce
        assert scan.noticed == Noticed(followups=True, schedules=True, pauses=7)

    run(settings, story)


def test_a_scan_notices_what_other_rounds_have_to_do(settings: Settings, database: Any) -> None:
    async def story(_: Broker, store: Store) -> None:
        async def noticed() -> Noticed:
            return (await store.scans.look(10)).noticed

        assert await noticed() == Noticed(followups=False, schedules=False, pauses=0)
        database.schedules.insert_one({"_id": "paused"})
        database.configuration.insert_one({"_id": "pauses"})
        assert await noticed() == Noticed(followups=False, schedules=False, pauses=0)
        # Given one that has just ended: what follows is being submitted
        database.jobs.insert_one(document("completed", ended_at=datetime.now(UTC), followups=[{"token": 1}]))
        database.schedules.insert_one({"_id": "nightly", "due_at": LONG_AGO})
        assert await noticed() == Noticed(followups=False, schedules=True, pauses=0)
        database.jobs.insert_one(document("pending", followups=[{"token": 1}]))  # requeued since
        assert (await noticed()).followups
        database.jobs.delete_one({"status": "pending"})
        database.jobs.update_one({}, {"$set": {"ended_at": LONG_AGO}})
        database.configuration.update_one({"_id": "pauses"}, {"$set": {"version": 7}})
        assert await noticed() == Noticed(followups=True, schedules=True, pauses=7)
        database.jobs.drop_index("followups")
        await store.indexes.ensure("key")
        assert await noticed() == Noticed(followups=False, schedules=True, pauses=7)
        for odd in ("8", 8.5, [8], None):
            database.configuration.update_one({"_id": "pauses"}, {"$set": {"version": odd}})
            assert (await noticed()).pauses == 0

    run(settings, story)


class _With:
    """An object with some attributes replaced."""

    def __init__(self, inner: Any, **replaced: Any) -> None:
        self._inner = inner
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
