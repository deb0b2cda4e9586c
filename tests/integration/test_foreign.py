"""Documents that another program has written, or somebody by hand: one of them stops no round and no listing."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from dtqkit import Settings, TaskQueue
from dtqkit.broker import Broker
from dtqkit.broker.found import Tick
from dtqkit.control import StatsQuery
from dtqkit.control.operations import STATS
from dtqkit.recovery import deadletters
from dtqkit.recovery.audit import Auditor
from dtqkit.recovery.deadletters import DeadLetterRounds
from dtqkit.recovery.followups import FollowUpRounds
from dtqkit.recovery.schedules import ScheduleRounds
from dtqkit.store import Store
from dtqkit.store.minutes import LAG_S, MINUTE, minute_of
from dtqkit.store.schedules import LOOK
from dtqkit.transitions import lose
from dtqkit.transitions.lose import LostJobs
from tests import sample
from tests.conftest import Mongo
from tests.integration.test_rounds import LONG_AGO, dead, document, run
from tests.wait import wait_until
from tests.workers import Workers

#: Beyond what Python can hold.
YEAR_12000 = DatetimeMS(316_517_000_000_000)
BEFORE_CHRIST = DatetimeMS(-99_000_000_000_000)


@pytest.fixture
def database(mongo: Mongo, settings: Settings) -> Any:
    return mongo[settings.database_name]


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.replace(dead_letter_cooldown_s=0.1)


def without(doc: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in doc.items() if name not in names}


def about(caplog: pytest.LogCaptureFixture, job: dict[str, Any]) -> list[str]:
    return [record.getMessage() for record in caplog.records if str(job["_id"]) in record.getMessage()]


# -- rounds


def test_failed_jobs_of_another_program_do_not_stop_the_round_of_dead_letters(
    quick: Settings, database: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deadletters, "PIECE", 4)
    unkeyed = {**dead(), "unique": "active", "recoveries": 0}
    odd = [
        without(dead(), "death_seq"),
        without(dead("exception"), "death_seq"),
        without(dead("exception"), "task", "priority", "created_at"),
        {**dead("exception"), "death_seq": "first"},
        {**dead(), "error": "boom"},
        {**dead(), "ended_at": "yesterday"},
        without(dead(), "ended_at"),
        {**dead(), "recoveries": "none", "failed_at": "never", "max_losses": "3", "rev": "x"},
        {**dead(), "_id": f"text {ObjectId()}"},
        unkeyed,
        {**dead(), "declined": "x", "failures": [], "snoozes": "x"},
    ]
    good = [dead() for _ in range(6)]
    database.jobs.insert_many([*odd, *good])
    database.deadletter.insert_many(
        [{"_id": ObjectId()}, {"_id": good[0]["_id"], "death_seq": "x"}, {"_id": odd[1]["_id"], "death_seq": None}]
    )
    database.configuration.insert_one({"_id": "recoveries", "next": "soon"})

    async def story(broker: Broker, store: Store) -> None:
        rounds = DeadLetterRounds(quick, broker, store)
        first = [piece async for piece in rounds.pieces()]
        assert sum(piece.requeued for piece in first) >= len(good)
        assert not any([piece.repaired + piece.requeued async for piece in rounds.pieces()])

    run(quick, story)
    ids = [doc["_id"] for doc in good]
    assert database.jobs.count_documents({"_id": {"$in": ids}, "status": "scheduled"}) == len(good)
    # One without death_seq is requeued like any other, and one that is not has its dead letter
    assert database.jobs.find_one({"_id": odd[0]["_id"]})["status"] == "scheduled"
    assert database.jobs.find_one({"_id": odd[7]["_id"]})["status"] == "scheduled"
    left = {doc["_id"]: doc["death_seq"] for doc in database.deadletter.find()}
    failed = {doc["_id"] for doc in database.jobs.find({"status": "failed", "_id": {"$type": "objectId"}})}
    assert left.keys() == failed
    assert left[odd[1]["_id"]] == 0
    assert len(about(caplog, unkeyed)) == 1


def test_running_jobs_of_another_program_do_not_keep_others_from_being_taken_from_lost_workers(
    settings: Settings, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lose, "PIECE", 3)
    held = {"claim": ObjectId(), "worker": "gone", "lease_until": LONG_AGO, "claimed_at": LONG_AGO}
    odd = [
        without(document("running", **held), "token", "rev", "losses"),
        without(document("running"), "task", "created_at", "priority"),
        document("running", **held, failures="x", earlier="none", max_losses="x"),
        document("running", **held, priority="urgent"),
        document("running", **{**held, "claimed_at": "then", "lease_until": "then"}),
        document("running", **held, _id=f"text {ObjectId()}"),
    ]
    good = [document("running", **held) for _ in range(4)]
    database.jobs.insert_many([*odd, *good])

    async def story(broker: Broker, store: Store) -> None:
        lost = LostJobs(broker, store, random.Random(1))
        scan = await store.scans.look(100)
        assert await lost.mark_overdue(scan.overdue) >= len(good) + 4
        assert await lost.mark_overdue(scan.overdue) == 0

    run(settings, story)
    assert database.jobs.count_documents({"_id": {"$in": [doc["_id"] for doc in good]}, "status": "scheduled"}) == 4
    mended = database.jobs.find_one({"_id": odd[0]["_id"]})
    assert (mended["status"], mended["losses"], mended["rev"]) == ("scheduled", 1, 2)


def test_waiting_jobs_of_another_program_do_not_stop_an_audit(settings: Settings, database: Any) -> None:
    odd = [
        without(document("pending"), "priority"),
        document("pending", priority="urgent"),
        document("scheduled", due_at="tomorrow"),
        document("pending", expires_s="soon"),
        document("pending", expires_s=float("nan")),
        document("pending", expires_s=float("inf")),
        document("pending", expires_s=5, created_at="now"),
        document("pending", cancel_requested=True, rev="x"),
        document("pending", _id=f"text {ObjectId()}"),
    ]
    good = document("pending")
    late = document("pending", expires_s=5)
    database.jobs.insert_many([*odd, good, late])

    async def story(broker: Broker, store: Store) -> None:
        auditor = Auditor(broker, store)
        await auditor.audit()
        listed = await broker.listed(lambda: None)
        assert {str(doc["_id"]) for doc in (*odd[:7], good)} <= set(listed.lanes)
        assert (await auditor.audit()).listed == 0

    run(settings, story)
    assert database.jobs.find_one({"_id": late["_id"]})["status"] == "cancelled"


def test_ended_jobs_of_another_program_do_not_stop_minutes_expiry_or_statistics(
    queue: TaskQueue, settings: Settings, database: Any
) -> None:
    now = datetime.now(UTC)
    then = minute_of(now) - 2 * MINUTE

    def ended(**more: Any) -> dict[str, Any]:
        at = ObjectId(int(then.timestamp()).to_bytes(4, "big") + ObjectId().binary[4:])
        return {**document("completed", ended_at=then, claimed_at=then, run_ms=5.0, created_at=then), "_id": at, **more}

    old = ObjectId(int(LONG_AGO.timestamp()).to_bytes(4, "big") + ObjectId().binary[4:])
    odd = [
        without(ended(), "priority"),
        without(ended(), "task"),
        ended(task=["x"]),
        ended(task={"x": 1}, priority={"x": 1}),
        ended(claimed_at="then"),
        ended(start_ms="x", run_ms="x"),
        ended(ended_at=datetime(1950, 1, 1, tzinfo=UTC)),
        ended(ended_at=YEAR_12000),
        {"_id": old},
        {"_id": ObjectId(old.binary[:4] + ObjectId().binary[4:]), "status": "failed", "ended_at": "then"},
    ]
    expired = document("completed", ended_at=LONG_AGO)
    expired["_id"] = ObjectId(old.binary[:4] + ObjectId().binary[4:])
    database.jobs.insert_many([*odd, ended(), expired])

    async def story(broker: Broker, store: Store) -> None:
        while await store.minutes.close(now + timedelta(seconds=LAG_S)):
            pass
        totals = await store.minutes.totals()
        assert totals is not None
        assert sum(n for (what, _, _), n in totals.counts.items() if what == "completed") >= 8
        assert (await store.upkeep.expire(now - timedelta(days=30), None)).done == 1

    run(settings, story)
    stats = queue.run(queue.core.control.ask(STATS, StatsQuery(window_s=3600)))
    assert stats.completed >= 7
    assert "tests.sample.noop" in {task.task for task in stats.tasks}


def test_what_another_program_has_written_about_follow_ups_is_cleared(settings: Settings, database: Any) -> None:
    entry = {"token": 1, "on": "success", "task": "nobody", "attempt": 1}
    over = {"ended_at": LONG_AGO, "followups": [entry]}
    odd = [document("completed", **over, followed_by="x"), document("completed", **over, follow_depth="x")]
    good = document("completed", **over)
    database.jobs.insert_many([*odd, good])

    async def story(broker: Broker, store: Store) -> None:
        await FollowUpRounds(broker, store).run()

    run(settings, story)
    assert database.jobs.count_documents({"followups.token": {"$exists": True}}) == 0
    assert database.jobs.count_documents({"task": "nobody"}) == 2
    (follower,) = database.jobs.find({"follows": str(odd[0]["_id"])})
    assert database.jobs.find_one({"_id": odd[0]["_id"]})["followed_by"] == [str(follower["_id"])]


# -- schedules


def test_schedules_that_cannot_be_read_or_run_do_not_keep_the_others_from_their_turn(
    queue: TaskQueue,
    settings: Settings,
    database: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More of them than one look reads, and all of them due before the others."""
    good = queue.schedule("good", sample.noop.bind(), every_s=3600)
    record = without(database.schedules.find_one({"_id": "good"}), "_id")
    now = datetime.now(UTC)
    long_ago = {**record, "next_at": now - timedelta(days=1), "due_at": now - timedelta(days=1)}
    database.schedules.insert_many(
        [
            *({**long_ago, "_id": f"bad {n}", "overlap": "newer"} for n in range(LOOK + 20)),
            *({**long_ago, "_id": f"early {n}", "due_at": BEFORE_CHRIST} for n in range(LOOK + 20)),
            {**long_ago, "_id": {"name": "odd"}},
            {**long_ago, "_id": "list", "due_at": [now]},
            {**long_ago, "_id": "far", "next_at": datetime(9999, 12, 31, tzinfo=UTC)},
            {**long_ago, "_id": "raises", "cron": None, "every_s": None, "jitter_s": float("nan")},
            without({**long_ago, "_id": "no rev"}, "rev"),
        ]
    )
    database.schedules.update_one({"_id": "good"}, {"$set": {"next_at": now, "due_at": now}})

    async def story(broker: Broker, store: Store) -> None:
        rounds = ScheduleRounds(settings.replace(lease_s=180.0), broker, store, lambda _: None)
        async with asyncio.timeout(20):
            await rounds.run()
        assert rounds._next is not None
        looks = 0
        look = store.schedules.look

        async def counted(*aside: Any) -> Any:
            nonlocal looks
            looks += 1
            return await look(*aside)

        # Until a round has passed, or something changes, they cost nothing
        monkeypatch.setattr(store.schedules, "look", counted)
        assert not rounds.due(_tick())
        database.schedules.update_one({"_id": "bad 3"}, {"$set": {"overlap": "allow"}})
        assert rounds.due(_tick("changed"))
        await rounds.run()
        assert looks < 10
        await rounds.close()

    run(settings, story)
    assert [job.schedule for job in good.runs()] == ["good"]
    assert database.jobs.count_documents({"schedule": "no rev"}) == 1
    assert database.jobs.count_documents({"schedule": "bad 3"}) == 1
    said = [record.getMessage() for record in caplog.records if "'bad 7'" in record.getMessage()]
    assert len(said) == 1
    assert "dtqkit schedules remove bad 7" in said[0]
    assert any("'early 1'" in record.getMessage() for record in caplog.records)


def _tick(schedules: str = "") -> Tick:
    return Tick(True, 0, 0, 0, 0, "", "", {}, 0, "", schedules)


# -- listings, workers


def test_jobs_of_another_program_are_listed_with_what_can_be_read(
    queue: TaskQueue, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [
        {"_id": ObjectId(), "status": "failed"},
        document("failed", error="boom", earlier=[{"x": 1}]),
        document("completed", payload={"id": ObjectId()}, result=[ObjectId()], ended_at=YEAR_12000, tags="x"),
        document("pending", created_at="now", priority="urgent"),
        document("scheduled", due_at=BEFORE_CHRIST),
        document("cancelled", payload=["x"], claimed_at=YEAR_12000, start_ms=5, created_at=BEFORE_CHRIST),
    ]
    good = document("completed", ended_at=LONG_AGO, claimed_at=LONG_AGO)
    database.jobs.insert_many([*odd, good, {"_id": "text", "task": "t"}])
    page = queue.jobs(limit=50)
    assert {job.id for job in page.items} == {str(doc["_id"]) for doc in (*odd, good)}
    assert msgspec.json.decode(msgspec.json.encode(page.items))
    assert page._repr_html_()
    assert len(queue.jobs(limit=3).items) == 3
    assert [job.id for job in queue.dead_letters().items] == [str(odd[1]["_id"])]
    for doc in odd:
        assert queue.get(str(doc["_id"])).refresh().id == str(doc["_id"])

    async def attempts() -> list[Any]:
        return [row async for row in queue.core.history()]

    assert len(queue.run(attempts())) >= 1
    assert queue.depths().running == 0
    assert len(about(caplog, odd[1])) == 2


def test_a_worker_goes_on_beside_jobs_that_another_program_has_written(
    queue: TaskQueue, settings: Settings, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    queue.include(sample)
    task = sample.add_async.name
    plain = {"task": task, "payload": {"a": 1}, "priority": "medium", "status": "pending"}
    runs = [
        {**plain, "_id": ObjectId(), "losses": 0, "token": 0, "rev": 1},
        {**without(plain, "priority"), "_id": ObjectId(), "losses": 0, "token": 0, "rev": 1},
        {**plain, "_id": ObjectId(), "losses": 0, "status": "scheduled", "due_at": BEFORE_CHRIST, "rev": 1},
    ]
    stays = {**plain, "_id": ObjectId()}
    others = [{**plain, "_id": ObjectId(), "task": 5}, {**plain, "_id": ObjectId(), "losses": 0}]
    database.jobs.insert_many([*runs, stays, *others])
    with Workers(queue):
        ids = [doc["_id"] for doc in runs]
        wait_until(
            lambda: database.jobs.count_documents({"_id": {"$in": ids}, "status": "completed"}) == 3, timeout_s=30
        )
        assert sample.add_async.submit(5).result(timeout=10) == 6
    assert database.jobs.find_one({"_id": stays["_id"]})["status"] == "pending"
    (said,) = about(caplog, stays)
    assert "`losses`" in said


# -- times that Python cannot hold


@pytest.mark.parametrize("until", [YEAR_12000, BEFORE_CHRIST])
def test_a_pause_whose_end_python_cannot_hold_stops_nobody_and_is_named(
    queue: TaskQueue, database: Any, caplog: pytest.LogCaptureFixture, until: DatetimeMS
) -> None:
    queue.include(sample)
    queue.pause(task="noop", allow_unknown=True)
    far = {"id": "task:add_async", "task": "add_async", "paused_at": datetime.now(UTC), "until": until}
    database.configuration.update_one({"_id": "pauses"}, {"$push": {"pauses": far}, "$inc": {"version": 1}})
    with Workers(queue):
        assert sample.add_async.submit(1).result(timeout=10) == 2
        assert [pause.id for pause in queue.pauses()] == ["task:noop"]
    assert any(
        "task:add_async" in (text := record.getMessage()) and "after 9999" in text and "leave `until` out" in text
        for record in caplog.records
    )
    queue.pause(task="add_async")  # its target is paused again: the entry is replaced
    assert len(queue.pauses()) == 2


def test_a_schedule_whose_times_python_cannot_hold_is_named_and_the_others_are_listed(
    queue: TaskQueue, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    handles = {name: queue.schedule(name, sample.noop.bind(), every_s=60) for name in ("far", "early", "edge", "good")}
    database.schedules.update_one({"_id": "far"}, {"$set": {"next_at": YEAR_12000, "due_at": YEAR_12000}})
    database.schedules.update_one({"_id": "early"}, {"$set": {"next_at": BEFORE_CHRIST, "due_at": BEFORE_CHRIST}})
    database.schedules.update_one({"_id": "edge"}, {"$set": {"last_at": datetime(9999, 12, 31, 23, tzinfo=UTC)}})
    assert [one.name for one in queue.schedules()] == ["good"]
    for name in ("far", "early", "edge"):
        assert any(f"dtqkit schedules remove {name}" in record.getMessage() for record in caplog.records)
        handles[name].remove()
    assert database.schedules.count_documents({}) == 1


def test_the_leader_lives_with_times_that_python_cannot_hold(settings: Settings, database: Any) -> None:
    now = datetime.now(UTC)
    held = {"claim": ObjectId(), "worker": "gone", "claimed_at": LONG_AGO}
    database.jobs.insert_many(
        [
            document("running", **held, lease_until=BEFORE_CHRIST),
            document("running", **held, lease_until=LONG_AGO),
            document("scheduled", due_at=YEAR_12000),
            document("failed", ended_at=YEAR_12000, death_seq=1),
            document("failed", ended_at=BEFORE_CHRIST, death_seq=1),
        ]
    )
    database.configuration.insert_one({"_id": "recoveries", "next": YEAR_12000})
    recoverable = dead()
    database.jobs.insert_one(recoverable)

    async def story(broker: Broker, store: Store) -> None:
        lost = LostJobs(broker, store, random.Random(1))
        assert await lost.mark_overdue((await store.scans.look(100)).overdue) == 2
        assert [piece async for piece in DeadLetterRounds(settings, broker, store).pieces()]
        await Auditor(broker, store).audit()

    run(settings.replace(dead_letter_cooldown_s=0.1), story)
    assert database.jobs.count_documents({"status": "running"}) == 0
    due_at = database.jobs.find_one({"_id": recoverable["_id"]}).get("due_at")
    assert due_at is None or due_at.replace(tzinfo=UTC) < now + timedelta(hours=1)
