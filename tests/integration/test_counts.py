"""What is counted, over any window, is what a look at each document would count; closed minutes stay as they are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from dtqkit import Settings, TaskQueue
from dtqkit.control import StatsQuery
from dtqkit.control.operations import DEPTHS, STATS, TOTALS
from dtqkit.direct.counts import total, window
from dtqkit.model.errors import StoreUnavailable
from dtqkit.recovery.minutes import MinuteRounds
from dtqkit.store import Store, minutes
from dtqkit.store.minutes import LAG_S, MAX_TASKS, MINUTE, OTHER, Counts, add, minute_of, summed
from dtqkit.store.recount import Recount
from tests import sample
from tests.conftest import Mongo
from tests.serving import fill
from tests.wait import wait_until
from tests.workers import Workers

T = TypeVar("T")
With = Callable[[Callable[[Store], Coroutine[Any, Any, T]]], T]
Document = dict[str, Any]


@pytest.fixture
def on_store(settings: Settings) -> With[Any]:
    """Run a coroutine function on a store that is opened for it."""

    def run(work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        async def main() -> T:
            store = Store(settings)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(main())

    return run


_number = iter(range(1, 1 << 24))


def job(now: datetime, age_s: float, status: str = "completed", ended_s: float | None = None, **more: Any) -> Document:
    """A document: created `age_s` before `now`, ended `ended_s` before it."""
    created = now - timedelta(seconds=age_s)
    doc: Document = {
        "_id": ObjectId(int(created.timestamp()).to_bytes(4, "big") + next(_number).to_bytes(8, "big")),
        "task": "shop",
        "payload": {},
        "priority": "medium",
        "status": status,
        "created_at": created,
        "token": 1,
        "losses": 0,
        "rev": 3,
    }
    if ended_s is not None:
        doc["ended_at"] = now - timedelta(seconds=ended_s)
    return doc | more


def by_hand(docs: Iterable[Document], since: datetime, until: datetime) -> Counts:
    counts: Counts = Counter()
    for doc in docs:
        key = (doc["priority"], doc["task"])
        if since <= doc["_id"].generation_time < until:
            counts["submitted", *key] += 1
        if "ended_at" in doc and since <= doc["ended_at"] < until:
            counts[doc["status"], *key] += 1
        for failed_at in doc.get("failed_at", ()):
            counts["failed", *key] += since <= failed_at < until
    return +counts


async def close_all(store: Store, now: datetime | None = None) -> None:
    while await store.minutes.close(now or store.now()):
        pass


ages = st.floats(min_value=0.0, max_value=1_200.0).map(lambda s: round(s, 3))
ends = st.one_of(
    st.tuples(st.sampled_from(["completed", "failed", "cancelled"]), ages),
    st.tuples(st.sampled_from(["pending", "running", "scheduled"]), st.none()),
)
lots = st.lists(
    st.tuples(
        ages, ends, st.sampled_from(["a", "b.c", "$d"]), st.sampled_from(["high", "low"]), st.lists(ages, max_size=2)
    ),
    max_size=40,
)


@limits(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lots, st.lists(st.floats(min_value=10, max_value=1_300), min_size=1, max_size=3), ages)
def test_any_window_counts_what_each_document_says(
    settings: Settings,
    mongo: Mongo,
    on_store: With[None],
    made: list[tuple[float, tuple[str, float | None], str, str, list[float]]],
    windows: list[float],
    closed_before_s: float,
) -> None:
    async def check(store: Store) -> None:
        mongo[settings.database_name]["jobs"].delete_many({})
        mongo[settings.database_name]["minutes"].drop()
        now = store.now()
        docs = [
            job(
                now,
                age,
                status,
                ended,
                task=task,
                priority=lane,
                failed_at=[now - timedelta(seconds=s) for s in failed],
            )
            for age, (status, ended), task, lane, failed in made
        ]
        if docs:
            fill(settings, docs)
        await close_all(store, now - timedelta(seconds=closed_before_s))
        for window_s in windows:
            seen = await window(store, window_s)
            assert seen.counts == by_hand(docs, seen.since, seen.until)
            for minute in seen.minutes:
                found = summed(by_hand(docs, minute.at, minute.at + MINUTE))
                assert {what: getattr(minute, what) for what in found} == found
        at, counts = await total(store)
        assert counts == by_hand(docs, datetime.fromtimestamp(0, at.tzinfo), at)

    on_store(check)


def test_a_bulk_of_5000_is_5000(queue: TaskQueue) -> None:
    sample.add.map(range(5_000))
    stats = queue.run(queue.core.control.ask(STATS, StatsQuery(window_s=60)))
    (total,) = queue.run(queue.core.control.ask(TOTALS)).totals
    assert (stats.submitted, stats.tasks[0].submitted, total.submitted) == (5_000, 5_000, 5_000)


def test_more_ends_than_a_sample_are_counted_and_the_percentiles_say_that_they_are_of_a_sample(
    queue: TaskQueue, worker: Workers
) -> None:
    queue.submit_many(sample.noop.bind() for _ in range(6_000))

    def ended() -> bool:
        stats = queue.run(queue.core.control.ask(STATS, StatsQuery(window_s=300)))
        assert stats.completed <= 6_000
        return stats.completed == 6_000 and stats.sampled == 5_000

    wait_until(ended, timeout_s=60, interval_s=0.2)


def test_a_closed_minute_survives_requeue_and_expiry(
    settings: Settings, mongo: Mongo, on_store: With[None], queue: TaskQueue
) -> None:
    jobs = mongo[settings.database_name]["jobs"]

    async def check(store: Store) -> None:
        now = store.now()
        docs = [
            job(now, 600, "failed", 590, death_seq=1),
            job(now, 600, "completed", 590),
            job(now, 30, "failed", 5, death_seq=1),
        ]
        fill(settings, docs)
        before = (await total(store))[1]
        assert summed(before) == {"submitted": 3, "completed": 1, "failed": 2, "cancelled": 0}
        await close_all(store)
        for doc in docs:
            if doc["status"] == "failed":
                assert await store.jobs.requeue(doc["_id"], 1)
        assert (await total(store))[1] == before
        assert (await window(store, 900)).counts == before
        jobs.delete_many({"_id": {"$in": [doc["_id"] for doc in docs[:2]]}})
        assert (await total(store))[1] == before
        assert (await window(store, 900)).counts == before

    on_store(check)


def test_a_minute_is_closed_when_what_was_written_late_in_it_is_there(settings: Settings, on_store: With[None]) -> None:
    async def check(store: Store) -> None:
        end = minute_of(store.now()) - MINUTE
        fill(settings, [job(end, 50, "completed", 40)])
        await close_all(store, end + timedelta(seconds=LAG_S - 1))
        late = job(end, 0.5, "completed", 0.001)
        fill(settings, [late])
        await close_all(store, end + timedelta(seconds=LAG_S + 1))
        series = (await window(store, 900)).minutes
        assert [(m.submitted, m.completed) for m in series if m.at == end - MINUTE] == [(2, 2)]

    on_store(check)


def test_a_leader_that_was_away_closes_what_it_missed_in_pieces(
    settings: Settings, mongo: Mongo, on_store: With[None]
) -> None:
    async def check(store: Store) -> None:
        now = store.now()
        ages = [30 * 86_400, 86_400, 7_200, 7_000, 100]
        docs = [job(now, age, "completed", age - 10) for age in ages]
        fill(settings, docs)
        pieces = 0
        while await store.minutes.close(now):
            pieces += 1
        assert pieces <= 2 * len(ages)  # and not one for each hour in which nothing happened
        kept = list(mongo[settings.database_name]["minutes"].find({"_id": {"$type": "date"}}))
        assert sum(doc["submitted"] for doc in kept) == sum(doc["completed"] for doc in kept)
        assert sum(doc["submitted"] for doc in kept) >= 4
        assert summed((await total(store))[1])["completed"] == 5

    on_store(check)


def test_two_leaders_count_once(settings: Settings, mongo: Mongo, on_store: With[None]) -> None:
    async def check(store: Store) -> None:
        now = store.now()
        fill(settings, [job(now, 60 * n, "completed", 60 * n - 1) for n in range(1, 100)])
        other = Store(settings)
        await other.open()
        await asyncio.gather(close_all(store), close_all(other), close_all(store), close_all(other))
        assert summed((await total(store))[1])["completed"] == summed((await total(other))[1])["completed"] == 99
        await other.close()

    on_store(check)


def test_nothing_is_written_for_a_time_in_which_nothing_happened(
    settings: Settings, mongo: Mongo, on_store: With[None]
) -> None:
    minutes = mongo[settings.database_name]["minutes"]

    async def check(store: Store) -> None:
        now = store.now()
        await close_all(store, now)
        assert minutes.count_documents({}) == 0
        fill(settings, [job(now, 200, "completed", 199)])
        await close_all(store, now)
        written = list(minutes.find({}))
        for minute in range(1, 50):
            await close_all(store, now + minute * MINUTE)
        assert list(minutes.find({})) == written

    on_store(check)


def test_old_minutes_expire_and_the_totals_stay(settings: Settings, mongo: Mongo, on_store: With[None]) -> None:
    async def check(store: Store) -> None:
        now = store.now()
        fill(settings, [job(now, 10 * 86_400, "completed", 10 * 86_400 - 5), job(now, 400, "completed", 400)])
        await close_all(store)
        await MinuteRounds(store, retention_days=5).run()
        kept = mongo[settings.database_name]["minutes"].count_documents({"_id": {"$type": "date"}})
        assert kept == 1
        assert summed((await total(store))[1])["completed"] == 2

    on_store(check)


def test_the_depths_of_a_minute_are_kept_and_stand_until_something_changes(
    settings: Settings, on_store: With[None]
) -> None:
    async def check(store: Store) -> None:
        now = store.now()
        end = minute_of(now - 10 * MINUTE)
        fill(settings, [job(end, 30, "pending", priority="high"), job(end, 20, "running", priority="low")])
        for minute in range(3):
            await close_all(store, end + minute * MINUTE + timedelta(seconds=LAG_S + 1))
        by_minute = {minute.at: minute for minute in (await window(store, 60)).minutes}
        assert by_minute[end - 2 * MINUTE].waiting is None
        for at in (end - MINUTE, end, end + MINUTE, end + 5 * MINUTE):
            assert by_minute[at].waiting == {"high": 1, "medium": 0, "low": 0}
            assert by_minute[at].running == 1

    on_store(check)


def test_waits_are_those_of_old_and_new_documents_and_never_of_what_did_not_run(
    settings: Settings, queue: TaskQueue, on_store: With[None]
) -> None:
    async def check(store: Store) -> None:
        now = store.now()

        def at(seconds: float) -> datetime:
            return now - timedelta(seconds=seconds)

        attempt = {"number": 1, "worker": "w", "queued_at": at(50), "ended_at": at(20), "ending": "failed"}
        fill(
            settings,
            [
                job(now, 50, "completed", 20, task="old", started_at=at(40), run_ms=20_000.0),
                job(now, 50, "completed", 20, task="new", claimed_at=at(40), start_ms=3_000, run_ms=17_000.0),
                job(now, 50, "completed", 20, task="at once", claimed_at=at(50), run_ms=30_000.0),
                job(
                    now,
                    50,
                    "failed",
                    20,
                    task="failed old",
                    run_ms=1.0,
                    queued_at=at(20),
                    earlier=[{**attempt, "started_at": at(45), "run_ms": 1.0}],
                ),
                job(
                    now,
                    50,
                    "failed",
                    20,
                    task="failed new",
                    run_ms=1.0,
                    earlier=[{**attempt, "claimed_at": at(45), "start_ms": 1_000, "run_ms": 1.0}],
                ),
                job(
                    now,
                    50,
                    "failed",
                    20,
                    task="never ran",
                    queued_at=at(20),
                    earlier=[{**attempt, "claimed_at": at(45), "run_ms": None, "ending": "lost"}],
                ),
                job(now, 50, "failed", 20, task="no attempt is kept"),
            ],
        )

    on_store(check)
    stats = queue.run(queue.core.control.ask(STATS, StatsQuery(window_s=60)))
    waits = {one.task: one.wait_p50_s for one in stats.tasks}
    assert waits == {
        "old": 10,
        "new": 13,
        "at once": 0,
        "failed old": 5,
        "failed new": 6,
        "never ran": None,
        "no attempt is kept": None,
    }
    assert {one.task for one in stats.tasks if one.run_p50_s is None} == {"never ran", "no attempt is kept"}
    assert stats.sampled is None


def test_an_id_has_the_time_of_mongodb_whatever_the_clock_of_the_submitter_says(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    job = sample.add.submit(1).record
    assert abs((ObjectId(job.id).generation_time - job.created_at).total_seconds()) < 1
    assert queue.run(queue.core.control.ask(STATS, StatsQuery(window_s=60))).submitted == 1


def test_very_many_tasks_share_a_name_and_no_count_is_lost() -> None:
    counts: Counts = Counter()
    for n in range(300):
        counts = add(counts, Counter({("completed", "high", f"task {n}"): 2}))
    assert len(counts) == MAX_TASKS + 1
    assert counts["completed", "high", OTHER] == 200
    assert sum(counts.values()) == 600


def test_jobs_that_failed_and_were_requeued_at_once_stay_failures(queue: TaskQueue, worker: Workers) -> None:
    jobs = [sample.fail.submit("no") for _ in range(3)]
    wait_until(lambda: all(job.refresh().status == "failed" for job in jobs), timeout_s=20)
    for job in jobs:
        job.requeue()
    wait_until(lambda: all(job.refresh().status == "failed" for job in jobs), timeout_s=20)
    stats = queue.run(queue.core.control.ask(STATS, StatsQuery(window_s=60)))
    assert (stats.submitted, stats.failed) == (3, 6)


def test_the_leader_closes_minutes_that_nobody_closed(settings: Settings, mongo: Mongo, queue: TaskQueue) -> None:
    queue.run(queue.core.control.ask(DEPTHS))  # the collection is there, with its indexes
    now = datetime.now(UTC)
    fill(settings, [job(now, 60 * n, "completed", 60 * n - 1) for n in range(3, 200)])
    minutes = mongo[settings.database_name]["minutes"]

    def completed() -> int:
        return sum(doc["completed"] for doc in minutes.find({"_id": {"$type": "date"}}))

    with Workers(queue):
        wait_until(lambda: completed() == 197, timeout_s=30)
    assert queue.run(queue.core.control.ask(TOTALS)).totals[0].completed == 197


def test_what_was_committed_after_its_minute_was_closed_is_added_once(settings: Settings, on_store: With[None]) -> None:
    async def check(store: Store) -> None:
        now = store.now()
        docs = [job(now, 60 * n, "completed", 60 * n - 1) for n in range(1, 40)]
        fill(settings, docs)
        await close_all(store)
        for _ in range(3):  # nothing was late yet
            assert not await store.recount.run(now, now - timedelta(days=1))
        late = [job(now, 400, "completed", 390, task="late"), job(now, 410, "failed", 395, death_seq=1)]
        at = now + 10 * MINUTE  # so old are they when they are counted again
        fill(settings, late)
        assert summed((await total(store))[1])["submitted"] == len(docs)
        rounds = MinuteRounds(store, retention_days=5)
        store.now = lambda: at  # type: ignore[method-assign]
        await rounds.run()
        for _ in range(3):
            await store.recount.run(at, at - timedelta(days=5))
        all_of_them = by_hand([*docs, *late], datetime.fromtimestamp(0, UTC), at)
        assert (await total(store))[1] == all_of_them
        seen = await window(store, 3_600)
        assert seen.counts == by_hand([*docs, *late], seen.since, seen.until)
        for minute in seen.minutes:
            found = summed(by_hand([*docs, *late], minute.at, minute.at + MINUTE))
            assert {what: getattr(minute, what) for what in found} == found

    on_store(check)


def test_a_second_count_that_was_stopped_half_way_is_finished_by_the_next(
    settings: Settings, on_store: With[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(store: Store) -> None:
        now = store.now()
        fill(settings, [job(now, 60 * n, "completed", 60 * n - 1) for n in range(1, 30)])
        await close_all(store)
        assert not await store.recount.run(now, now - timedelta(days=1))
        fill(settings, [job(now, 400, "completed", 399) for _ in range(4)])
        later = now + 10 * MINUTE

        async def stopped(*_: object) -> bool:
            raise StoreUnavailable("MongoDB", "", "stopped")

        with monkeypatch.context() as patched:
            patched.setattr(Recount, "_add_to_totals", stopped)
            with pytest.raises(StoreUnavailable):
                await store.recount.run(later, now - timedelta(days=1))
        other = Store(settings)
        await other.open()
        await asyncio.gather(*(one.recount.run(later, now - timedelta(days=1)) for one in (store, other)))
        await other.close()
        assert summed((await total(store))[1])["completed"] == 33
        assert sum(minute.completed for minute in (await window(store, 3_600)).minutes) == 33

    on_store(check)


def test_deleted_minutes_are_not_counted_a_second_time(settings: Settings, mongo: Mongo, on_store: With[None]) -> None:
    async def check(store: Store) -> None:
        now = store.now()
        fill(settings, [job(now, 86_400, "completed", 86_399), job(now, 1_200, "completed", 1_199)])
        await close_all(store)
        totals = {"_id": "totals"}
        minutes = mongo[settings.database_name]["minutes"]
        minutes.update_one(totals, {"$set": {"checked": now - timedelta(days=2)}})
        await store.minutes.expire(now - timedelta(days=0.5))
        while (minutes.find_one(totals) or {})["checked"].replace(tzinfo=UTC) < now - 30 * MINUTE:
            await store.recount.run(now, now - timedelta(days=0.5))
        assert summed((await total(store))[1])["completed"] == 2

    on_store(check)


def test_after_hours_without_a_leader_all_minutes_are_counted_a_second_time_at_once(
    settings: Settings, mongo: Mongo, on_store: With[None]
) -> None:
    async def check(store: Store) -> None:
        now = store.now()
        fill(settings, [job(now, 18_000, "completed", 17_999), job(now, 1_200, "completed", 1_199)])
        await close_all(store)
        minutes = mongo[settings.database_name]["minutes"]
        minutes.update_one({"_id": "totals"}, {"$set": {"checked": now - timedelta(hours=5)}})
        rounds = MinuteRounds(store, retention_days=5)
        store.now = lambda: now  # type: ignore[method-assign]
        for _ in range(10):
            if rounds.due():
                await rounds.run()
        checked = (minutes.find_one({"_id": "totals"}) or {})["checked"].replace(tzinfo=UTC)
        assert checked > now - 30 * MINUTE
        assert not rounds.due()

    on_store(check)


def test_a_process_that_was_overtaken_while_it_closed_minutes_leaves_none_out(
    settings: Settings, on_store: With[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers that catch up count different spans: the one that is later begins where the other one has ended."""

    async def check(store: Store) -> None:
        now = store.now()
        fill(settings, [job(now, 60 * n, "completed", 60 * n - 1) for n in range(1, 50)])
        begun = now - 45 * MINUTE
        await close_all(store, begun)  # there are totals
        other = Store(settings)
        await other.open()
        await other.minutes.totals()
        count = store.minutes.count_and_sample

        async def overtaken(*args: Any, **more: Any) -> Any:
            counted = await count(*args, **more)
            monkeypatch.undo()
            await other.minutes.close(now - 30 * MINUTE)
            return counted

        monkeypatch.setattr(store.minutes, "count_and_sample", overtaken)
        await close_all(store)
        await other.close()
        assert summed((await total(store))[1])["completed"] == 49

    on_store(check)


@pytest.mark.parametrize(("quiet", "closes"), [(200, [0, 10]), (0, list(range(14)))])
def test_minutes_are_closed_ten_at_a_time_while_little_happens(
    settings: Settings, on_store: With[None], monkeypatch: pytest.MonkeyPatch, quiet: int, closes: list[int]
) -> None:
    monkeypatch.setattr(minutes, "QUIET", quiet)

    async def check(store: Store) -> None:
        first = minute_of(store.now()) - 30 * MINUTE
        fill(settings, [job(first + n * MINUTE, 30, "completed", 20) for n in range(14)])
        rounds = MinuteRounds(store, retention_days=5)
        close, closed = store.minutes.close, list[int]()

        async def noted(now: datetime) -> bool:
            closed.append(round((now - first) / MINUTE))
            return await close(now)

        monkeypatch.setattr(store.minutes, "close", noted)
        for n in range(14):
            for _ in range(2):  # a leader asks each second
                at = first + n * MINUTE + timedelta(seconds=LAG_S + 1)
                monkeypatch.setattr(store, "now", lambda at=at: at)
                await rounds.run()
        assert closed == closes
        assert summed((await total(store))[1])["completed"] == 14

    on_store(check)
