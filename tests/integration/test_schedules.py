"""Schedules on real stores: what is due is enqueued once, whatever its leader does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from pymongo import MongoClient

from dtqkit import (
    InvalidCron,
    InvalidPayload,
    InvalidSchedule,
    JobConflict,
    ScheduleNotFound,
    ScheduleTaken,
    ScheduleUnreadable,
    Settings,
    TaskQueue,
    UnknownTask,
    UnknownZone,
)
from dtqkit.control.schedule_operations import PAUSE_SCHEDULE
from dtqkit.control.schedules import SchedulePause
from dtqkit.model.schedules import Definition
from dtqkit.run import declared as run_declared
from dtqkit.store import Store
from dtqkit.store.schedules import DUE, Look
from dtqkit.tasks.registry import TaskRegistry
from tests import sample
from tests.wait import wait_until
from tests.workers import Workers

Mongo = MongoClient[dict[str, Any]]


def document(mongo: Mongo, settings: Settings, name: str) -> dict[str, Any]:
    found = mongo[settings.database_name]["schedules"].find_one({"_id": name})
    assert found is not None
    return found


def set_back(mongo: Mongo, settings: Settings, name: str, **fields: Any) -> None:
    """As if that had happened earlier."""
    mongo[settings.database_name]["schedules"].update_one({"_id": name}, {"$set": fields, "$inc": {"rev": 1}})


def jobs_of(mongo: Mongo, settings: Settings, name: str) -> list[dict[str, Any]]:
    found = mongo[settings.database_name]["jobs"].find({"schedule": name})
    return sorted(found, key=lambda doc: doc["scheduled_for"])


def test_a_schedule_runs_its_task_again_and_again_at_times_that_follow_from_each_other(
    queue: TaskQueue, worker: Workers
) -> None:
    schedule = queue.schedule("pulse", sample.add_async.bind(2), every_s=1)
    first = schedule.record.next_at
    assert first is not None
    runs = wait_until(lambda: found if len(found := schedule.runs()) >= 3 else [])
    times = [job.scheduled_for for job in reversed(runs)]
    assert times == [first + timedelta(seconds=n) for n in range(len(times))]
    assert {job.schedule for job in runs} == {"pulse"}
    assert queue.get(runs[-1].id).result(timeout=10) == 3
    record = schedule.refresh().record
    assert (record.missed, record.skipped, record.trouble) == (0, 0, "")
    schedule.remove()
    with pytest.raises(ScheduleNotFound, match="'pulse'"):
        schedule.refresh()


def test_a_task_knows_the_nominal_time_in_a_child_and_on_the_loop(queue: TaskQueue, worker: Workers) -> None:
    for task in (sample.nominal, sample.nominal_async):
        job = queue.schedule(task.name, task.bind(), cron="0 3 1 1 *").run_now()
        text = job.result(timeout=20)
        assert datetime.fromisoformat(text) == job.record.scheduled_for
        assert text.endswith("+00:00")
        assert task.submit().result(timeout=20) is None


def test_what_cannot_be_a_schedule_is_refused_with_its_own_error(queue: TaskQueue) -> None:
    call = sample.add.bind(1)
    with pytest.raises(InvalidCron, match="the minute is '99'"):
        queue.schedule("s", call, cron="99 * * * *")
    with pytest.raises(UnknownZone, match="Europe/Berlin"):
        queue.schedule("s", call, cron="0 3 * * *", tz="Europe/Berln")
    with pytest.raises(InvalidSchedule, match="neither of cron and every_s"):
        queue.schedule("s", call)
    with pytest.raises(InvalidSchedule, match="overlap is 'queue'; it is one of allow"):
        queue.schedule("s", call, every_s=1, overlap="queue")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidSchedule, match="catch_up is 'soon'"):
        queue.schedule("s", call, every_s=1, catch_up="soon")
    with pytest.raises(InvalidSchedule, match="cannot have the option idempotency_key"):
        queue.schedule("s", sample.add.options(idempotency_key="k").bind(1), every_s=1)
    with pytest.raises(InvalidSchedule, match="cannot have the option unique: its overlap"):
        queue.schedule("s", sample.add.options(unique="active").bind(1), every_s=1)
    with pytest.raises(InvalidPayload):
        queue.run(queue.core.control.ask(_schedule(), _definition(payload={"a": "x"})))
    with pytest.raises(UnknownTask, match="'ad'"):
        queue.run(queue.core.control.ask(_schedule(), _definition(task="ad")))
    assert queue.schedules() == []


def _schedule() -> Any:
    from dtqkit.control.schedule_operations import SCHEDULE

    return SCHEDULE


def _definition(**fields: Any) -> Definition:
    return Definition(**{"name": "s", "task": "add", "payload": {"a": 1}, "every_s": 60.0, **fields})


def test_the_name_of_a_schedule_belongs_to_its_task(queue: TaskQueue) -> None:
    first = queue.schedule("nightly", sample.add.bind(1), every_s=60)
    again = queue.schedule("nightly", sample.add.bind(1), every_s=60)
    assert again.record == first.record
    changed = queue.schedule("nightly", sample.add.options(priority="high").bind(2), every_s=60, overlap="skip")
    assert (changed.record.payload, changed.record.overlap, changed.record.options) == (
        {"a": 2},
        "skip",
        {"priority": "high"},
    )
    assert changed.record.next_at == first.record.next_at
    with pytest.raises(ScheduleTaken, match="runs task 'add' already"):
        queue.schedule("nightly", sample.noop.bind(), every_s=60)


def test_a_paused_schedule_enqueues_nothing_and_counts_what_it_skips(
    queue: TaskQueue, worker: Workers, settings: Settings, mongo: Mongo
) -> None:
    schedule = queue.schedule("pulse", sample.noop.bind(), every_s=1).pause("too loud")
    assert schedule.record.paused is not None
    assert schedule.record.paused.reason == "too loud"
    assert "paused: too loud" in repr(schedule)
    next_at = document(mongo, settings, "pulse")["next_at"]
    wait_until(lambda: datetime.now(UTC) > next_at.replace(tzinfo=UTC) + timedelta(seconds=0.5))
    assert schedule.runs() == ()
    schedule.resume()
    wait_until(lambda: schedule.refresh().record.enqueued >= 1)
    assert schedule.record.paused is None
    assert schedule.record.skipped >= 1
    assert schedule.record.missed == 0
    enqueued = [job.scheduled_for for job in schedule.runs()]
    assert next_at.replace(tzinfo=UTC) not in enqueued


def test_what_is_due_before_a_pause_runs(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    schedule = queue.schedule("s", sample.add.bind(1), every_s=3600)
    late = datetime.now(UTC) - timedelta(seconds=5)
    set_back(mongo, settings, "s", anchor_at=late, next_at=late, due_at=late)
    record = schedule.pause().record
    assert (record.enqueued, record.missed, record.skipped) == (1, 0, 0)
    assert len(jobs_of(mongo, settings, "s")) == 1
    assert schedule.pause("again").record.enqueued == 1


@pytest.mark.parametrize("reason", [None, 5, ["x"], "\ud800", "x" * 501])
def test_a_pause_with_a_reason_that_cannot_be_kept_changes_nothing(queue: TaskQueue, reason: Any) -> None:
    schedule = queue.schedule("s", sample.add.bind(1), every_s=3600)
    asked = SchedulePause(name="s", reason=reason)
    for pause in (
        lambda: schedule.pause(reason),
        lambda: queue.run(schedule.asynchronous.pause(reason)),
        lambda: queue.run(queue.core.control.ask(PAUSE_SCHEDULE, asked)),
    ):
        with pytest.raises(InvalidSchedule, match="reason ") as raised:
            pause()
        assert raised.value.field == "reason"
    assert schedule.refresh().record.paused is None


@pytest.mark.parametrize(
    "fields",
    [
        {"paused": {"at": datetime(2026, 1, 1, tzinfo=UTC), "reason": None}},
        {"overlap": "newer"},
        {"created_at": "soon"},
        {"payload": {"": 5}},
        {"payload": {"": "{"}},
    ],
)
def test_a_schedule_that_cannot_be_read_says_so_and_can_be_removed(
    queue: TaskQueue, settings: Settings, mongo: Mongo, fields: dict[str, Any]
) -> None:
    schedule = queue.schedule("s", sample.add.bind(1), every_s=3600)
    set_back(mongo, settings, "s", **fields)
    for ask in (
        schedule.refresh,
        schedule.resume,
        schedule.run_now,
        lambda: queue.schedule_of("s"),
        lambda: queue.schedule("s", sample.add.bind(2), every_s=60),
    ):
        with pytest.raises(ScheduleUnreadable, match=r"schedule 's' cannot be read .*dtqkit schedules remove s"):
            ask()
    assert queue.schedules() == []
    schedule.remove()
    assert "<Schedule s: " in repr(schedule)
    assert queue.schedule("s", sample.add.bind(2), every_s=60).record.payload == {"a": 2}


@pytest.mark.parametrize(
    ("name", "error"), [("\ud800", ScheduleNotFound), (5, InvalidSchedule), (None, InvalidSchedule)]
)
def test_what_cannot_be_a_name_is_answered_with_an_error_of_its_own(
    queue: TaskQueue, name: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=ascii(name).replace("\\", "\\\\")):
        queue.schedule_of(name)


def test_a_run_now_counts_as_running_and_works_while_paused(queue: TaskQueue, worker: Workers) -> None:
    schedule = queue.schedule("slow", sample.sleep_async.bind(30.0), every_s=1, overlap="skip").pause()
    job = schedule.run_now()
    wait_until(lambda: job.refresh().status == "running")
    schedule.resume()
    wait_until(lambda: schedule.refresh().record.skipped >= 2)
    assert [one.id for one in schedule.runs()] == [job.id]
    job.cancel()
    wait_until(lambda: len(schedule.runs()) > 1)
    schedule.remove()
    for one in schedule.runs():
        if not one.is_over:
            queue.get(one.id).cancel()


def test_one_run_waits_for_the_one_before_and_a_running_one_is_cancelled(queue: TaskQueue, worker: Workers) -> None:
    waits = queue.schedule("waits", sample.sleep_async.bind(2.5), every_s=1, overlap="queue_one")
    cancels = queue.schedule("cancels", sample.sleep_async.bind(20.0), every_s=1, overlap="cancel_running")
    wait_until(lambda: len(waits.runs()) >= 2, timeout_s=20)
    first, second = sorted(waits.runs(), key=lambda job: job.created_at)[:2]
    assert first.scheduled_for is not None
    assert second.scheduled_for == first.scheduled_for + timedelta(seconds=1)
    assert waits.refresh().record.skipped >= 1
    ended = queue.get(first.id).record.ended_at
    assert ended is not None
    assert second.created_at >= ended
    wait_until(lambda: "cancelled" in [job.status for job in cancels.runs()], timeout_s=20)
    for schedule in (waits, cancels):
        schedule.remove()
    for one in (*waits.runs(), *cancels.runs()):
        with contextlib.suppress(JobConflict):  # it is over
            queue.get(one.id).cancel()


def test_a_schedule_of_a_unique_task_leaves_the_jobs_of_others_alone(
    queue: TaskQueue, settings: Settings, mongo: Mongo
) -> None:
    @queue.task(unique="active", name="sync")
    async def sync(n: int) -> None:
        pass

    queue.pause(task="sync")
    mine = sync.submit(1)
    schedule = queue.schedule("s", sync.bind(1), every_s=1, overlap="cancel_running")
    with Workers(queue):
        wait_until(lambda: schedule.refresh().record.skipped >= 2)
        record = schedule.refresh().record
        assert (record.enqueued, record.missed, record.live, record.last_job) == (0, 0, (), None)
        now = schedule.run_now()
        assert (now.id, now.was_duplicate) == (mine.id, True)
        assert document(mongo, settings, "s").get("live", []) == []
        begin = record.created_at - timedelta(seconds=10)
        found = schedule.backfill(begin, begin + timedelta(seconds=3))
        assert (found.times, found.enqueued, found.found, found.skipped) == (3, 0, 0, 3)
        assert mine.refresh().status == "pending"
        mine.cancel()
        wait_until(lambda: schedule.refresh().record.enqueued)
        schedule.remove()


def test_the_runs_of_a_schedule_are_its_own_whatever_keys_calls_give(queue: TaskQueue) -> None:
    schedule = queue.schedule("s", sample.add.bind(1), cron="0 3 1 1 *")
    sample.add.options(idempotency_key="schedule:s@2026-01-01T00:00:00.000Z").submit(1)
    assert schedule.runs() == ()
    assert [one.id for one in (schedule.run_now(),)] == [one.id for one in schedule.runs()]


def test_past_times_are_made_up_for_once(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    schedule = queue.schedule("hourly", sample.add.bind(1), cron="0 * * * *", tz="Asia/Kolkata")
    now = datetime.now(UTC)
    found = schedule.backfill(now - timedelta(hours=10), now)
    assert (found.times, found.enqueued, found.found) == (10, 10, 0)
    again = schedule.backfill(now - timedelta(hours=12), now + timedelta(days=3))
    assert (again.times, again.enqueued, again.found) == (12, 2, 10)
    times = [doc["scheduled_for"].replace(tzinfo=UTC) for doc in jobs_of(mongo, settings, "hourly")]
    assert [at.minute for at in times] == [30] * 12
    assert len(set(times)) == 12
    with pytest.raises(InvalidSchedule, match="more than 1,000 times"):
        schedule.backfill(now - timedelta(days=100), now)
    with pytest.raises(InvalidSchedule, match="not after start"):
        schedule.backfill(now, now)
    with pytest.raises(InvalidSchedule, match="with a time zone"):
        schedule.backfill(datetime(2026, 1, 1), now)  # noqa: DTZ001
    assert schedule.next_runs(3) == tuple(
        schedule.record.next_at + timedelta(hours=n) for n in range(3) if schedule.record.next_at
    )


def test_a_backfill_between_extreme_times_is_answered_with_its_own_error(queue: TaskQueue) -> None:
    now = datetime.now(UTC)
    east, west = timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))
    first = [datetime(1, 1, 1, tzinfo=zone) for zone in (east, UTC)]
    schedules = [
        queue.schedule("cron", sample.add.bind(1), cron="0 3 1 1 *", tz="America/New_York"),
        queue.schedule("every", sample.add.bind(1), every_s=86_400 * 366),
    ]
    for schedule, start in itertools.product(schedules, first):
        with pytest.raises(InvalidSchedule, match=r"start is 0001-01-01T00:00:00.*from 1970 on") as raised:
            schedule.backfill(start, now)
        assert raised.value.field == "start"
    for schedule, zone in itertools.product(schedules, (east, west)):
        end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=zone)
        assert schedule.backfill(now - timedelta(minutes=1), end).times <= 1
        assert schedule.backfill(end - timedelta(minutes=1), end).times == 0
        assert schedule.backfill(datetime(1970, 1, 1, tzinfo=UTC), end).times > 50


def test_what_was_missed_while_no_leader_lived_is_counted_or_made_up_for(
    queue: TaskQueue, settings: Settings, mongo: Mongo
) -> None:
    last = queue.schedule("last", sample.noop.bind(), every_s=10, catch_up="30m")
    every = queue.schedule("all", sample.noop.bind(), every_s=10, catch_up=100.5, catch_up_runs="all")
    for name in ("last", "all"):
        doc = document(mongo, settings, name)
        earlier = doc["next_at"] - timedelta(minutes=60)
        set_back(mongo, settings, name, next_at=earlier, due_at=earlier)
    with Workers(queue):
        wait_until(lambda: last.refresh().record.enqueued and every.refresh().record.enqueued >= 10)
    assert (last.record.missed, last.record.enqueued) == (359, 1)
    assert every.record.missed + every.record.enqueued == 360
    assert every.record.enqueued in (10, 11)
    times = [doc["scheduled_for"] for doc in jobs_of(mongo, settings, "all")]
    assert [b - a for a, b in itertools.pairwise(times)] == [timedelta(seconds=10)] * (len(times) - 1)


def test_a_run_that_cannot_be_enqueued_says_why_and_the_next_one_is_tried(queue: TaskQueue, settings: Settings) -> None:
    schedule = queue.schedule("large", sample.fail.bind("x" * 2_000), every_s=1)
    with Workers(queue, settings=settings.replace(max_payload=1_000)):
        wait_until(lambda: schedule.refresh().record.missed >= 2)
        assert "DTQ_MAX_PAYLOAD" in schedule.record.trouble
        assert schedule.runs() == ()
    with Workers(queue):
        wait_until(lambda: schedule.refresh().record.enqueued >= 1)
    assert schedule.record.trouble == ""


@pytest.mark.parametrize("pending", [[], [datetime(2026, 1, 1, tzinfo=UTC)]])
def test_a_schedule_whose_zone_is_not_known_here_says_so_and_can_be_mended(
    queue: TaskQueue, settings: Settings, mongo: Mongo, pending: list[datetime]
) -> None:
    schedule = queue.schedule("s", sample.add.bind(1), cron="* * * * *", tz="Europe/Berlin")
    queue.registry.scheduled.add(_definition(name="declared", cron="* * * * *", every_s=None), sample.add)
    queue.apply_schedules()
    late = datetime.now(UTC) - timedelta(minutes=2)
    for name in ("s", "declared"):
        set_back(mongo, settings, name, tz="Mars/Base", next_at=late, due_at=late, pending=pending)
    set_back(mongo, settings, "declared", **{"declared.hash": "another"})
    with Workers(queue):
        wait_until(lambda: schedule.refresh().record.trouble)
        assert "tz is 'Mars/Base', which is no time zone" in schedule.record.trouble
        due_at = schedule.record.due_at
        assert due_at is not None
        assert timedelta(seconds=30) < due_at - datetime.now(UTC) < timedelta(seconds=90)
        wait_until(lambda: queue.schedule_of("declared").record.tz == "UTC")  # as the worker's code has it
    assert len(jobs_of(mongo, settings, "s")) == len(pending)
    set_back(mongo, settings, "s", due_at=late, pending=pending)
    assert "Mars/Base" in repr(schedule.refresh())
    mended = queue.schedule("s", sample.add.bind(1), cron="* * * * *", tz="Europe/Berlin")
    assert mended.record.tz == "Europe/Berlin"
    with Workers(queue):
        wait_until(lambda: schedule.refresh().record.enqueued > 2 * len(pending))
    assert schedule.record.trouble == ""


def test_two_leaders_at_once_enqueue_each_time_once(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    """Both look at the same moments, and both act on what they see."""
    from dtqkit.broker import Broker
    from dtqkit.recovery.schedules import ScheduleRounds
    from dtqkit.store import Store

    names = [f"s{n}" for n in range(6)]
    for name, overlap in zip(names, ("allow", "skip", "queue_one") * 2, strict=True):
        queue.schedule(name, sample.noop.bind(), every_s=1, overlap=overlap, catch_up_runs="all")  # pyright: ignore[reportArgumentType]

    async def lead(store: Store, broker: Broker, until: float) -> None:
        rounds = ScheduleRounds(settings, broker, store, lambda _: None)
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await rounds.run()
            await asyncio.sleep(0.05)  # the pace of its rounds
        await rounds.close()

    async def both() -> None:
        stores, brokers = [Store(settings) for _ in range(3)], [Broker(settings) for _ in range(3)]
        for store, broker in zip(stores, brokers, strict=True):
            await store.open()
            await broker.open(await store.identity())
        until = asyncio.get_running_loop().time() + 4.0
        await asyncio.gather(*(lead(s, b, until) for s, b in zip(stores, brokers, strict=True)))
        for part in (*stores, *brokers):
            await part.close()

    asyncio.run(both())
    for name in names:
        times = [doc["scheduled_for"] for doc in jobs_of(mongo, settings, name)]
        record = queue.schedule_of(name).record
        assert len(times) == len(set(times)) == record.enqueued
        accounted = record.enqueued + record.missed + record.skipped + (record.held_at is not None)
        assert record.next_at == record.anchor_at + timedelta(seconds=1 + accounted)
        if record.overlap == "allow":
            assert (record.missed, record.skipped) == (0, 0)
            assert accounted >= 3


def test_a_leader_without_schedules_does_not_look_for_them_and_sees_one_that_was_not_announced(
    queue: TaskQueue, settings: Settings, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = mongo[settings.database_name]
    database.command("profile", 2)

    def looks() -> int:
        return database["system.profile"].count_documents(
            {"ns": f"{settings.database_name}.schedules", "command.aggregate": "schedules"}
        )

    def scans() -> int:
        return database["system.profile"].count_documents({"command.aggregate": "jobs", "command.maxTimeMS": 3_000})

    async def lost(_: object) -> None:
        pass

    monkeypatch.setattr("dtqkit.broker.broker.Broker.note_schedules", lost)
    with Workers(queue):
        wait_until(looks)
        before, begin = looks(), scans()
        wait_until(lambda: scans() >= begin + 3, timeout_s=60)
        assert looks() == before
        schedule = queue.schedule("soon", sample.noop.bind(), every_s=1)
        wait_until(schedule.runs, timeout_s=2 * settings.round_s + 10)
    database.command("profile", 0)


def test_declared_schedules_are_put_into_the_record_by_workers_and_pruned_when_asked(settings: Settings) -> None:
    with TaskQueue(settings) as queue:
        queue.include("tests.sample")

        @queue.scheduled("0 3 * * *", name="gone")
        @queue.task(name="declared.gone")
        def gone() -> None: ...

        @queue.scheduled(every_s=1, payload={"a": 5}, overlap="skip")
        @queue.task(name="declared.kept")
        def kept(a: int) -> int:
            return a

        with Workers(queue):
            wait_until(lambda: len(queue.schedules()) == 2)
            schedule = queue.schedule_of("declared.kept")
            assert schedule.record.declared is not None
            assert schedule.record.declared.app == __name__
            runs = wait_until(schedule.runs)
            assert runs[-1].payload == {"a": 5}
        with pytest.raises(ScheduleTaken, match="in the code of"):
            queue.schedule("gone", sample.noop.bind(), every_s=60)
        with pytest.raises(ScheduleTaken, match="declared twice"):
            queue.scheduled("0 4 * * *", name="gone", payload={"a": 1})(kept)
        with pytest.raises(InvalidPayload):
            queue.scheduled("0 4 * * *", name="bad")(kept)
        assert gone() is None
    with TaskQueue(settings) as later:

        @later.scheduled(every_s=1, payload={"a": 6}, overlap="skip", name="declared.kept")
        @later.task(name="declared.kept")
        def kept_too(a: int) -> int:
            return a

        applied = later.apply_schedules()
        assert (applied.changed, applied.removed) == (("declared.kept",), ())
        applied = later.apply_schedules(prune=True)
        assert (applied.unchanged, applied.removed) == (("declared.kept",), ("gone",))
        assert [one.name for one in later.schedules()] == ["declared.kept"]


@pytest.mark.parametrize("due_at", [None, "soon", 5, {}, [], [datetime(2026, 1, 1, tzinfo=UTC)]])
def test_a_schedule_that_is_due_at_no_date_does_not_stop_the_others(
    queue: TaskQueue, settings: Settings, mongo: Mongo, due_at: Any
) -> None:
    for name in ("bad", "good"):
        queue.schedule(name, sample.add.bind(1), every_s=60)
    set_back(mongo, settings, "bad", due_at=due_at)
    set_back(mongo, settings, "good", due_at=datetime(2026, 1, 1, tzinfo=UTC))

    async def look() -> Look:
        store = Store(settings)
        try:
            await store.open()
            return await store.schedules.look()
        finally:
            await store.close()

    found = asyncio.run(look())
    assert ([one.name for one in found.due], found.next_due) == (["good"], None)


def test_the_look_for_what_is_due_uses_its_index(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    queue.schedule("s", sample.add.bind(1), every_s=60)
    plan = mongo[settings.database_name]["schedules"].find(DUE).sort("due_at").explain()
    stages = str(plan["queryPlanner"]["winningPlan"])
    assert "'indexName': 'due'" in stages
    assert "'SORT'" not in stages


def test_a_declared_schedule_that_cannot_be_read_does_not_keep_the_others_out(
    settings: Settings, mongo: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    with TaskQueue(settings) as queue:

        @queue.task(name="declared.one")
        def one(a: int) -> int:
            return a

        for name in ("first", "second"):
            queue.scheduled(every_s=3600, name=name, payload={"a": 1})(one)
        queue.apply_schedules()
        set_back(mongo, settings, "first", overlap="newer")
        queue.scheduled(every_s=3600, name="third", payload={"a": 1})(one)
        with Workers(queue):
            wait_until(lambda: len(queue.schedules()) == 2)
        applied = queue.apply_schedules()
        assert (applied.unchanged, applied.made) == (("second", "third"), ())
        assert "dtqkit schedules remove first" in applied.refused["first"]
    assert "schedule 'first' cannot be read" in caplog.text


def test_a_fault_that_nobody_foresaw_is_logged_and_declarations_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    again = asyncio.Event()

    class Faulty:
        visits = 0

        async def apply(self, *_: object) -> None:
            self.visits += 1
            if self.visits == 3:
                again.set()
            raise KeyError("foreseen by no one")

    async def visit() -> None:
        faulty = Faulty()
        monkeypatch.setattr(run_declared, "Scheduling", lambda *_: faulty)
        async with run_declared.declared(settings, registry, cast("Any", None), cast("Any", None)):
            await asyncio.wait_for(again.wait(), 20)

    registry = TaskRegistry()
    registry.scheduled.add(_definition(), sample.add)
    monkeypatch.setattr(run_declared, "VISIT_S", 0.01)
    monkeypatch.setattr(run_declared, "Ticker", lambda *_: None)
    asyncio.run(visit())
    assert "foreseen by no one" in caplog.text


def test_a_schedule_that_is_declared_where_workers_live_runs_at_once() -> None:
    with TaskQueue.local(workers=1) as queue:

        @queue.scheduled(every_s=1)
        def beat() -> str:
            return "beaten"

        runs = wait_until(lambda: queue.schedule_of("beat").runs(), timeout_s=20)
        assert queue.get(runs[-1].id).result(timeout=20) == "beaten"
