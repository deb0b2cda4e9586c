"""Bugs that were found by reading and by random runs: each with the test that showed it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from bson import ObjectId

from dtqkit import Settings
from dtqkit.broker import Broker
from dtqkit.model.errors import OutcomeUnknown, StoreUnavailable
from dtqkit.recovery import Leader
from dtqkit.recovery.audit import Auditor
from dtqkit.store import Store
from dtqkit.store.recovery_scan import RecoveryScans
from tests.faults import jobs
from tests.faults.world import World
from tests.wait import wait_until, wait_until_async


def test_bytes_that_are_not_text_stop_neither_heartbeats_nor_pops_nor_audits(world: World) -> None:
    for key in world.keys.lanes():
        world.redis.rpush(key, b"\xff\xfe\xfd")
    world.redis.zadd(world.keys.workers, {b"\xff-w0": 1})
    world.redis.zadd(world.keys.inflight, {b"\xffmedium": 1})
    world.redis.zadd(world.keys.scheduled, {b"\xfflow": 4e15})
    world.redis.zadd(world.keys.cancels, {b"\xff": 4e15})
    world.start("w1")
    world.submit(lambda n: jobs.note.bind(n, world.ledger))
    wait_until(lambda: '"dead letters"' in str(world.redis.get(world.keys.rounds)))
    world.come_to_rest()
    # What names no worker is gone, and is not looked for in the record again and again.
    wait_until(lambda: len(world.worker_ids()) == 1)
    assert "broke" not in world.log("w1").read_text()


def test_a_claim_that_arrives_late_is_given_back(world: World) -> None:
    """The record says that it runs here; it does not, and the job is not lost."""
    world.start("w1", lanes=["low"])
    world.wait_for_leader()
    (worker,) = world.worker_ids()
    # A claim of unknown outcome, so that the worker doubts.
    world.mongo_proxy.swallow_next(b"findAndModify", times=2)
    world.submit(lambda n: jobs.note.options(priority="low").bind(n, world.ledger))
    wait_until(lambda: world.mongo_proxy.swallows is None)
    n = world.submit(lambda n: jobs.note.bind(n, world.ledger))
    # What the late claim will have done, by the time that it has arrived.
    database = world.mongo[world.settings.database_name]
    database["jobs"].update_one(
        {"_id": ObjectId(world.accepted[n])},
        [
            {
                "$set": {
                    "status": "running",
                    "claim": ObjectId(),
                    "worker": worker,
                    "token": 1,
                    "claimed_at": "$$NOW",
                    "lease_until": {"$add": ["$$NOW", 60_000]},
                }
            }
        ],
    )
    wait_until(lambda: world.statuses()[n] == "pending", timeout_s=15)
    world.start("w2")
    world.come_to_rest()
    (doc,) = [doc for doc in world.documents() if doc["payload"]["n"] == n]
    assert [attempt["ending"] for attempt in doc["earlier"]] == ["released"]
    assert doc["losses"] == 0


@pytest.fixture
def local(world: World) -> Settings:
    """The world's settings, for parts that are run in the test's own loop."""
    return world.settings


def test_a_long_audit_does_not_cost_the_leader_its_lock(local: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        broker, store = Broker(local), Store(local)
        await store.open()
        leader = Leader(local, broker, store, candidate="slow", rng=random.Random(1))
        begun = asyncio.Event()

        async def long(_: Auditor) -> Any:
            begun.set()
            await asyncio.sleep(60)  # an audit that does not end

        monkeypatch.setattr(Auditor, "audit", long)
        running = asyncio.create_task(leader.run())
        leader.beat_answered(False, {})
        await begun.wait()
        until = time.monotonic() + 5 * local.lock_s
        while time.monotonic() < until:
            await asyncio.sleep(local.heartbeat_s / 4)  # what must not happen is looked for until then
            tick = await broker.lead("another", local.lock_s)
            assert not tick.leads
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await broker.close()
        await store.close()

    asyncio.run(story())


def test_what_failed_while_mongodb_was_away_is_done_when_it_is_back(
    local: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a round later; and leases that ran out meanwhile get a third of a lease first."""

    async def story() -> None:
        broker, store = Broker(local), Store(local)
        await store.open()
        leader = Leader(local, broker, store, candidate="one", rng=random.Random(1))
        calls: list[float] = []
        look = RecoveryScans.look

        async def away(self: RecoveryScans, limit: int) -> Any:
            calls.append(time.monotonic())
            if len(calls) <= 3:
                raise StoreUnavailable("MongoDB", "here", "is away")
            return await look(self, limit)

        monkeypatch.setattr(RecoveryScans, "look", away)
        running = asyncio.create_task(leader.run())
        leader.beat_answered(False, {})
        await wait_until_async(lambda: len(calls) >= 4)
        assert calls[3] - calls[0] < local.round_s
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await broker.close()
        await store.close()

    asyncio.run(story())


def test_a_leader_whose_round_hangs_ends_with_an_error(local: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it leads, no jobs would be recovered."""

    async def story() -> None:
        broker, store = Broker(local), Store(local)
        await store.open()
        monkeypatch.setattr("dtqkit.recovery.leader.HUNG_S", 0.5)
        settings = local.replace(lease_s=0.5)
        leader = Leader(settings, broker, store, candidate="stuck", rng=random.Random(1))

        async def never(_: Auditor) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(Auditor, "audit", never)
        leader.beat_answered(False, {})
        with pytest.raises(RuntimeError, match="has hung"):
            async with asyncio.timeout(20):
                await leader.run()
        assert (await broker.lead("another", local.lock_s)).leads
        await broker.close()
        await store.close()

    asyncio.run(story())


def test_leases_are_watched_although_a_renewal_hangs(world: World) -> None:
    world.start("w1", naive="renewals_hang")
    world.submit(lambda n: jobs.note.bind(n, world.ledger, 60.0), ends={"running", "pending", "scheduled"})
    wait_until(lambda: "leases lost: not renewed" in world.log("w1").read_text(), timeout_s=20)


def test_a_requeue_is_done_although_its_dead_letter_cannot_be_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start("w1")
    n = world.submit(lambda n: jobs.note.options(max_attempts=1).bind(n, world.ledger, failures=1))
    wait_until(lambda: world.statuses()[n] == "failed")

    async def away(*_: Any) -> None:
        raise OutcomeUnknown("MongoDB", "here", "is away")

    monkeypatch.setattr("dtqkit.store.deadletter.DeadLetters.delete", away)
    world.requeued.add(world.accepted[n])
    assert world.queue.get(world.accepted[n]).requeue().status == "pending"
    world.come_to_rest()


def test_a_suspect_whose_claim_was_unknown_still_runs_alone(world: World) -> None:
    """One loss short of its last, it has its worker to itself, whatever happened to the claim's reply."""
    n = world.submit(lambda n: jobs.note.options(priority="high").bind(n, world.ledger, 2.0))
    database = world.mongo[world.settings.database_name]
    database["jobs"].update_one({"_id": ObjectId(world.accepted[n])}, {"$set": {"losses": 2}})
    # {losses: {$lte: 2}} as it is sent: the claim of the suspect, and no other.
    world.mongo_proxy.swallow_next(b"$lte\0\2\0\0\0", times=2)
    world.start("w1")
    wait_until(lambda: world.starts() == 1, timeout_s=20)
    world.submit(lambda n: jobs.note.bind(n, world.ledger))
    world.come_to_rest()
    alone = next(entry.at for entry in world.entries("end") if entry.job == world.accepted[n])
    others = [entry.at for entry in world.entries("start") if entry.job != world.accepted[n]]
    assert world.mongo_proxy.swallows is None
    assert min(others) > alone


def test_what_redis_alone_lists_as_cancelled_is_not_stopped(world: World) -> None:
    """Nor looked up forever: an entry with a later expiry than any real one is removed."""
    world.start("w1")
    beats = 3 * world.settings.heartbeat_s
    far, near = (world.accepted[world.submit(lambda n: jobs.note.bind(n, world.ledger, beats))] for _ in range(2))
    wait_until(lambda: world.starts() == 2)
    now_ms = time.time() * 1000
    world.redis.zadd(world.keys.cancels, {far: now_ms + 4e10, near: now_ms + 30_000})
    wait_until(lambda: world.redis.zscore(world.keys.cancels, far) is None)
    world.come_to_rest()
    assert world.redis.zscore(world.keys.cancels, near) is not None
    assert {(doc["status"], doc["token"]) for doc in world.documents()} == {("completed", 1)}


def test_a_lost_attempt_keeps_when_it_began(world: World) -> None:
    world.start("w1")
    n = world.submit(lambda n: jobs.note.bind(n, world.ledger, 3.0))
    wait_until(lambda: world.queue.get(world.accepted[n]).refresh().record.started_at is not None)
    world.workers["w1"].kill()
    world.start("w2")
    world.come_to_rest()
    lost, again = world.queue.get(world.accepted[n]).refresh().record.attempts
    assert (lost.ending, again.ending) == ("lost", "completed")
    assert lost.started_at is not None
    assert lost.wait_s is not None
