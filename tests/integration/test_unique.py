"""Unique jobs: one of a key while it waits, while it is active, or in a window; debounce; what duplicates get."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from dtqkit import (
    BatchRefused,
    Bulk,
    DuplicateJob,
    IdempotencyConflict,
    InvalidOption,
    JobConflict,
    Settings,
    TaskQueue,
)
from dtqkit.broker import Broker
from dtqkit.client.decorators import QueuedTask
from dtqkit.control.operations import HEALTH, TOTALS
from dtqkit.store import Store
from dtqkit.transitions.lose import LostJobs
from dtqkit.transitions.requeue import requeue_automatically
from dtqkit.web.metrics import Metrics
from tests import sample
from tests.conftest import Mongo
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture
def jobs(mongo: Mongo, settings: Settings, queue: TaskQueue) -> Any:
    return mongo[settings.database_name]["jobs"]


def echo_of(queue: TaskQueue) -> QueuedTask[..., Any]:
    @queue.task
    async def echo(value: Any) -> Any:
        return value

    return echo


def end(jobs: Any, job_id: str, status: str = "failed") -> None:
    """As a worker of an older version would: its slot is not freed."""
    jobs.update_one({"_id": ObjectId(job_id)}, {"$set": {"status": status, "ended_at": datetime.now(UTC)}})


# -- waiting


def test_while_it_waits_there_is_one_job_for_a_payload(queue: TaskQueue, jobs: Any) -> None:
    once = sample.add.options(unique="waiting")
    first, again, other = once.submit(1, 2), once.submit(a=1, b=2), once.submit(1, 3)
    assert (first.was_duplicate, again.was_duplicate, other.was_duplicate) == (False, True, False)
    assert again.id == first.id != other.id
    assert queue.get(first.id).record.duplicates == 1
    assert jobs.count_documents({}) == 2


def test_a_waiting_job_is_unique_until_it_is_claimed(queue: TaskQueue) -> None:
    once = sample.sleep_async.options(unique="waiting", unique_key="one")
    first = once.submit(30.0)
    with Workers(queue):
        wait_until(lambda: first.refresh().status == "running")
        later = sample.sleep_async.options(unique="waiting", unique_key="one", delay_s=60)
        second, third = later.submit(30.0), later.submit(30.0)
        assert first.id != second.id == third.id
        assert [first.was_duplicate, second.was_duplicate, third.was_duplicate] == [False, False, True]
        assert first.refresh().record.unique_slot is None
        for job in (first, second):
            job.cancel()


def test_a_retry_of_a_started_job_goes_on_without_its_slot(queue: TaskQueue, jobs: Any) -> None:
    once = sample.fail_until.options(unique="waiting", unique_key="k")
    first = once.submit(2)
    with Workers(queue):
        assert first.result(timeout=20) == 2
    assert jobs.count_documents({"unique_slot": {"$exists": True}}) == 0
    assert not once.submit(2).was_duplicate


# -- active


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled", "cancelled while it runs"])
def test_an_active_job_is_unique_until_it_is_over_however_it_ends(queue: TaskQueue, ending: str) -> None:
    task = {"completed": sample.add_async, "failed": sample.fail}.get(ending, sample.sleep_async)
    once = task.options(unique="active", unique_key="k", max_attempts=2)  # type: ignore[attr-defined]
    argument: Any = {"completed": 1, "failed": "no"}.get(ending, 30.0)
    first = once.submit(argument)
    assert once.submit(argument).id == first.id
    if ending == "cancelled":
        first.cancel()
    else:
        with Workers(queue):
            if ending == "cancelled while it runs":
                wait_until(lambda: first.refresh().status == "running")
                assert once.submit(argument).id == first.id
                first.cancel()
            wait_until(lambda: first.refresh().record.is_over)
    assert first.status == ending.partition(" ")[0]
    assert first.record.unique_slot is None
    assert not once.submit(argument).was_duplicate


def test_an_active_job_holds_its_slot_while_it_waits_for_a_retry(queue: TaskQueue) -> None:
    once = sample.fail_slowly.options(unique="active", max_attempts=3)
    first = once.submit(0.0)
    with Workers(queue):
        wait_until(lambda: first.refresh().record.failures == 1)
        assert (first.status, once.submit(0.0).id) == ("scheduled", first.id)


def test_plain_and_unique_jobs_with_equal_ends_free_only_what_they_hold(queue: TaskQueue, jobs: Any) -> None:
    plain = [sample.noop.bind() for _ in range(5)]
    unique = [sample.noop.options(unique="active", unique_key=f"k{i}").bind() for i in range(5)]
    window = [sample.noop.options(unique="window", unique_for_s=600, unique_key=f"w{i}").bind() for i in range(5)]
    handles = queue.submit_many([*plain, *unique, *window])
    with Workers(queue):
        handles.results(timeout=20)
    held = [doc["unique"] for doc in jobs.find({"unique_slot": {"$exists": True}})]
    assert held == ["window"] * 5
    assert not jobs.count_documents({"unique": {"$exists": False}, "unique_slot": {"$exists": True}})


# -- window


def test_a_window_lets_one_job_in_until_its_time_is_over_by_mongodbs_clock(queue: TaskQueue, jobs: Any) -> None:
    once = sample.noop.options(unique="window", unique_for_s=3600)
    first = once.submit()
    with Workers(queue):
        first.result(timeout=20)
    assert once.submit().id == first.id
    until = first.refresh().record.unique_until
    assert until is not None
    assert abs((until - first.record.created_at).total_seconds() - 3600) < 2
    past = datetime.now(UTC) - timedelta(milliseconds=1)
    jobs.update_one({"_id": ObjectId(first.id)}, {"$set": {"unique_until": past}})
    second = once.submit()
    assert (second.was_duplicate, second.id == first.id) == (False, False)
    assert first.refresh().record.unique_slot is None


def test_a_job_is_kept_until_its_window_is_over(queue: TaskQueue, settings: Settings) -> None:
    job = sample.noop.options(unique="window", unique_for_s=3600).submit()
    plain = sample.noop.submit()
    with Workers(queue):
        job.result(timeout=20)
        plain.result(timeout=20)

    async def expire() -> None:
        store = Store(settings)
        await store.open()
        await store.upkeep.expire(datetime.now(UTC) + timedelta(minutes=1), None)
        await store.close()

    asyncio.run(expire())
    assert [kept.id for kept in queue.jobs().items] == [job.id]


# -- replace and debounce


def test_a_debounced_job_starts_after_the_last_submit_and_has_its_payload(queue: TaskQueue, jobs: Any) -> None:
    calm = sample.add.options(debounce_s=60, unique_key="doc-7")
    first = calm.submit(1)
    due = first.record.due_at
    second = calm.submit(2, b=5)
    assert (first.id, second.was_duplicate, second.status) == (second.id, True, "scheduled")
    assert second.record.payload == {"a": 2, "b": 5}
    assert due is not None
    assert second.record.due_at is not None
    assert second.record.due_at > due
    assert second.record.rev > first.record.rev or second.record.rev == 2
    assert jobs.count_documents({}) == 1


def test_a_debounced_job_runs_once_with_what_came_last(queue: TaskQueue) -> None:
    calm = sample.add.options(debounce_s=0.6, unique_key="doc-7")
    handles = [calm.submit(i) for i in range(10)]
    with Workers(queue):
        assert handles[0].result(timeout=20) == 10
        after = calm.submit(20)
        assert after.id != handles[0].id
        assert after.result(timeout=20) == 21
    assert {handle.id for handle in handles} == {handles[0].id}


def test_submits_that_never_pause_delay_a_debounced_job_by_its_maximum(queue: TaskQueue) -> None:
    calm = sample.add.options(debounce_s=50, debounce_max_s=60, unique_key="doc-7")
    first = calm.submit(1)
    last = calm.submit(2)
    assert last.record.due_at is not None
    assert last.record.due_at > first.record.created_at + timedelta(seconds=49)
    assert last.record.due_at <= first.record.created_at + timedelta(seconds=60)
    eager = sample.add.options(debounce_s=50, debounce_max_s=50, unique_key="other")
    begun = eager.submit(1).record.created_at
    assert eager.submit(2).record.due_at == begun + timedelta(seconds=50)


def test_a_delay_that_is_shorter_than_a_millisecond_is_none(queue: TaskQueue) -> None:
    calm = sample.add.options(debounce_s=1e-30, debounce_max_s=60, unique_key="k")
    assert (calm.submit(1).id, calm.submit(2).was_duplicate) == (queue.jobs().items[0].id, True)


def test_a_replacement_takes_all_that_a_submit_says_and_nothing_of_the_one_before(queue: TaskQueue) -> None:
    first = sample.add.options(
        unique="waiting", unique_key="k", on_duplicate="replace", tags=("a",), priority="low", delay_s=60, timeout_s=7
    ).submit(1)
    second = sample.add.options(unique="waiting", unique_key="k", on_duplicate="replace", max_attempts=9).submit(2)
    job = queue.get(first.id).record
    assert second.id == first.id
    assert (job.tags, job.priority, job.status, job.due_at, job.timeout_s) == ((), "medium", "pending", None, 300.0)
    assert (job.max_attempts, job.payload, job.duplicates) == (9, {"a": 2}, 1)
    with Workers(queue):
        assert second.result(timeout=20) == 3


def test_a_replacement_has_nothing_of_what_its_job_came_from_or_had_been_through(queue: TaskQueue, jobs: Any) -> None:
    latest = sample.fail.options(unique="waiting", unique_key="k", on_duplicate="replace", max_attempts=1, expires_s=60)
    job = latest.submit("one")
    with Workers(queue):
        wait_until(lambda: job.refresh().status == "failed")
    job.requeue()
    came = {"follows": "a" * 24, "schedule": "s", "scheduled_for": datetime.now(UTC), "declined": 2, "token": 3}
    jobs.update_one({"_id": ObjectId(job.id)}, {"$set": came})
    assert latest.submit("two").id == job.id
    record = job.refresh().record
    assert (record.follows, record.schedule, record.scheduled_for, record.error) == (None, None, None, None)
    assert (record.earlier, record.declined, record.attempt, record.claim_number) == ((), 0, 1, 3)
    assert "replaced_now" not in jobs.find_one({"_id": ObjectId(job.id)})
    long_ago = datetime.now(UTC) - timedelta(seconds=90)
    jobs.update_one({"_id": ObjectId(job.id)}, {"$set": {"created_at": long_ago}})
    with Workers(queue):
        wait_until(lambda: job.refresh().status == "cancelled")


def test_a_replacement_after_the_start_is_a_new_job(queue: TaskQueue) -> None:
    latest = sample.sleep_async.options(unique="waiting", unique_key="k", on_duplicate="replace")
    first = latest.submit(30.0)
    with Workers(queue):
        wait_until(lambda: first.refresh().status == "running")
        second = latest.submit(31.0)
        assert second.id != first.id
        assert first.refresh().record.payload == {"seconds": 30.0}
        assert second.record.payload == {"seconds": 31.0}
        first.cancel()
        second.cancel()


def test_a_job_that_is_unique_in_another_way_is_not_replaced(queue: TaskQueue) -> None:
    first = sample.add.options(unique="active", unique_key="k").submit(1)
    with pytest.raises(DuplicateJob, match="cannot be replaced") as refused:
        sample.add.options(unique="waiting", unique_key="k", on_duplicate="replace").submit(2)
    assert refused.value.job_id == first.id
    assert queue.get(first.id).record.payload == {"a": 1}


# -- raise


def test_a_duplicate_can_be_an_error_that_names_the_job(queue: TaskQueue) -> None:
    once = sample.add.options(unique="active", unique_key="k", on_duplicate="raise")
    first = once.submit(1)
    with pytest.raises(DuplicateJob, match=f"{first.id}.*until it is over") as refused:
        once.submit(2)
    assert refused.value.job_id == first.id
    assert isinstance(refused.value, JobConflict)
    assert queue.get(first.id).record.duplicates == 1


# -- bulk


def test_in_a_bulk_each_job_gets_its_own_answer(queue: TaskQueue, jobs: Any) -> None:
    stored = sample.add.options(unique="active").submit(0)
    handles = sample.add.options(unique="active").map([0, 1, 2, 1, 2, 2])
    assert [handle.was_duplicate for handle in handles] == [True, False, False, True, True, True]
    assert handles[0].id == stored.id
    assert [handles[i].id for i in (1, 2, 2)] == [handles[i].id for i in (3, 4, 5)]
    assert jobs.count_documents({}) == 3
    assert queue.get(handles[2].id).record.duplicates == 2
    with Workers(queue):
        assert handles.results(timeout=20) == [1, 2, 3, 2, 3, 3]


def test_in_a_bulk_duplicates_can_be_refused_and_the_last_one_can_replace(queue: TaskQueue) -> None:
    strict = sample.add.options(unique="active", on_duplicate="raise")
    with pytest.raises(BatchRefused) as refused:
        strict.map([1, 2, 1])
    assert len(refused.value.accepted) == 2
    ((index, error),) = refused.value.refused
    assert (index, type(error)) == (2, DuplicateJob)
    latest = sample.add.options(unique="waiting", unique_key="k", on_duplicate="replace").map([1, 2, 3])
    assert len({handle.id for handle in latest}) == 1
    assert [handle.was_duplicate for handle in latest] == [False, True, True]
    assert queue.get(latest[0].id).record.payload == {"a": 3}


@pytest.mark.parametrize("on_duplicate", ["return", "raise"])
def test_many_unique_jobs_are_made_in_one_insert_beside_those_that_are_there(
    queue: TaskQueue, jobs: Any, on_duplicate: Any
) -> None:
    sample.add.options(unique="active").map(range(0, 100, 2))
    many = sample.add.options(unique="active", on_duplicate=on_duplicate)
    wanted = [*range(100), 7, 8]
    if on_duplicate == "return":
        handles = many.map(wanted)
        assert [handle.record.payload["a"] for handle in handles] == wanted
        assert [i for i, handle in enumerate(handles) if not handle.was_duplicate] == list(range(1, 100, 2))
    else:
        with pytest.raises(BatchRefused) as some:
            many.map(wanted)
        assert [handle.record.payload["a"] for handle in some.value.accepted] == list(range(1, 100, 2))
        assert {type(error) for _, error in some.value.refused} == {DuplicateJob}
    assert jobs.count_documents({}) == 100
    found = {doc["payload"]["a"]: doc.get("duplicates", 0) for doc in jobs.find()}
    assert (found[1], found[2], found[7], found[8]) == (0, 1, 1, 2)


def test_in_one_bulk_plain_and_unique_jobs_are_answered_in_order(queue: TaskQueue) -> None:
    once = sample.add.options(unique="active")
    handles = queue.submit_many([sample.add.bind(1), once.bind(2), sample.add.bind(3), once.bind(2), once.bind(5)])
    assert [handle.record.payload["a"] for handle in handles] == [1, 2, 3, 2, 5]
    assert [handle.was_duplicate for handle in handles] == [False, False, False, True, False]


# -- with an idempotency key


def test_with_an_idempotency_key_a_repeated_submit_gets_its_first_job(queue: TaskQueue) -> None:
    once = sample.add.options(unique="active", unique_key="k", idempotency_key="i", on_duplicate="raise")
    first, again = once.submit(1), once.submit(1)
    assert (again.id, again.was_duplicate) == (first.id, False)
    with pytest.raises(IdempotencyConflict):
        once.submit(2)
    with pytest.raises(DuplicateJob):
        sample.add.options(unique="active", unique_key="k", idempotency_key="j", on_duplicate="raise").submit(1)
    first.cancel()
    assert once.submit(1).id == first.id


def test_an_idempotency_key_of_a_plain_job_is_found_whatever_the_slot(queue: TaskQueue) -> None:
    plain = sample.add.options(idempotency_key="i").submit(1)
    assert sample.add.options(unique="active", unique_key="k", idempotency_key="i").submit(1).id == plain.id


def test_a_replacement_with_an_idempotency_key_is_done_once(queue: TaskQueue) -> None:
    latest = sample.add.options(unique="waiting", unique_key="k", on_duplicate="replace")
    first = latest.submit(1)
    keyed = sample.add.options(unique="waiting", unique_key="k", on_duplicate="replace", idempotency_key="i")
    assert keyed.submit(2).id == first.id
    assert keyed.submit(2).id == first.id
    assert queue.get(first.id).record.duplicates == 1
    assert latest.submit(3).id == first.id
    assert queue.get(first.id).record.idempotency_key is None


# -- keys


def test_a_key_belongs_to_its_task(queue: TaskQueue) -> None:
    first = sample.add.options(unique="active", unique_key="k").submit(1)
    assert sample.add_async.options(unique="active", unique_key="k").submit(1).id != first.id


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (1, 1.0, True),
        (0, -0.0, True),
        (-0.0, 0.0, True),
        (10**17, 1e17, True),
        (2**53 + 1, float(2**53), False),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        (None, False, False),
        ([1, 2], [2, 1], False),
        ({"a": {"x": 1.0, "y": [2.0]}}, {"a": {"y": [2], "x": 1}}, True),
        ({"a.b": 1, "$c": 2}, {"$c": 2.0, "a.b": 1}, True),
        (1e300, 1e300, True),
        (float("nan"), float("nan"), True),
        ("é", "e\u0301", False),
    ],
)
def test_two_payloads_are_the_same_by_value(queue: TaskQueue, one: Any, other: Any, same: bool) -> None:
    once = echo_of(queue).options(unique="waiting")
    assert (once.submit(one).id == once.submit(other).id) is same


def test_a_task_can_be_unique_by_itself_and_a_call_can_say_otherwise(queue: TaskQueue) -> None:
    @queue.task(unique="active")
    async def sync(repo: str) -> None: ...

    first = sync.submit("a")
    assert sync.submit("a").id == first.id
    assert sync.submit("b").id != first.id
    assert sync.options(unique_key="other").submit("a").id != first.id
    calm = sync.options(debounce_s=9, unique_key="calm").submit("a")
    assert (calm.record.unique, calm.status) == ("waiting", "scheduled")
    with pytest.raises(InvalidOption, match="unique_for_s"):
        sync.options(unique_for_s=5)


# -- requeue


@pytest.mark.parametrize("during", ["waiting", "active"])
def test_a_dead_job_is_not_requeued_while_another_one_has_its_key(queue: TaskQueue, during: Any) -> None:
    once = sample.fail.options(unique=during, unique_key="k", max_attempts=1)
    dead = once.submit("no")
    with Workers(queue):
        wait_until(lambda: dead.refresh().status == "failed")
    other = once.submit("no")
    assert other.id != dead.id
    with pytest.raises(DuplicateJob, match=f"{dead.id}.*{other.id}.*'k'"):
        dead.requeue()
    assert queue.requeue_dead().requeued == 0
    assert dead.refresh().status == "failed"
    other.cancel()
    assert dead.requeue().status == "pending"
    assert once.submit("no").id == dead.id


@pytest.mark.parametrize("during", ["waiting", "active"])
def test_a_slot_that_its_job_should_have_freed_does_not_stop_a_bulk(queue: TaskQueue, jobs: Any, during: Any) -> None:
    once = {key: sample.fail.options(unique=during, unique_key=key, max_attempts=1) for key in "kl"}
    dead, held = (once[key].submit("no") for key in "kl")
    with Workers(queue):
        wait_until(lambda: {dead.refresh().status, held.refresh().status} == {"failed"})
    late, active = (once[key].submit("no") for key in "kl")
    end(jobs, late.id, "completed")
    assert queue.requeue_many(task="fail") == Bulk(matched=2, changed=1)
    assert (dead.refresh().status, held.refresh().status) == ("pending", "failed")
    assert once["k"].submit("no").id == dead.id
    assert active.refresh().status == "pending"


def test_a_dead_job_is_requeued_by_itself_only_when_its_slot_is_free(
    queue: TaskQueue, settings: Settings, jobs: Any
) -> None:
    once = sample.fail.options(unique="active", unique_key="k", max_attempts=1)
    dead, plain = once.submit("no"), sample.fail.options(max_attempts=1).submit("no")
    with Workers(queue):
        wait_until(lambda: dead.refresh().status == plain.refresh().status == "failed")
    other = once.submit("no")

    async def recover() -> set[ObjectId]:
        store, broker = Store(settings), Broker(settings)
        await store.open()
        try:
            return await requeue_automatically(broker, store, await store.upkeep.failed(None, 10))
        finally:
            await broker.close()
            await store.close()

    assert asyncio.run(recover()) == {ObjectId(plain.id)}
    other.cancel()
    assert asyncio.run(recover()) == {ObjectId(dead.id)}
    assert once.submit("no").id == dead.id


# -- claims that do not begin, and workers of other versions


def test_a_claim_that_could_not_begin_gives_the_slot_back(queue: TaskQueue, jobs: Any) -> None:
    once = sample.add.options(unique="waiting", unique_key="k")
    first = once.submit(1)
    jobs.update_one({"_id": ObjectId(first.id)}, {"$set": {"payload": {"a": "no number"}}})
    with Workers(queue):
        wait_until(lambda: first.refresh().record.declined >= 2)
    assert first.refresh().record.unique_slot is not None
    assert once.submit(1).id == first.id


@pytest.mark.parametrize(("during", "status"), [("waiting", "running"), ("active", "completed"), ("active", "failed")])
def test_a_slot_that_an_older_worker_did_not_free_is_free(
    queue: TaskQueue, jobs: Any, during: Any, status: str
) -> None:
    once = sample.add.options(unique=during, unique_key="k")
    first = once.submit(1)
    end(jobs, first.id, status)
    second = once.submit(1)
    assert (second.id == first.id, second.was_duplicate) == (False, False)
    assert queue.get(first.id).record.unique_slot is None


# -- plain jobs, counts, options


def test_a_plain_job_has_no_field_of_a_unique_one(queue: TaskQueue, jobs: Any) -> None:
    waiting, run = sample.add.options(delay_s=60).submit(1), sample.add.submit(1)
    dead = sample.fail.submit("no")
    with Workers(queue):
        run.result(timeout=20)
        wait_until(lambda: dead.refresh().status == "failed")
        dead.requeue()
    waiting.cancel()
    assert not [
        name
        for doc in jobs.find()
        for name in doc
        if "unique" in name or name in ("duplicates", "replaced_by", "replaced_before")
    ]


def test_duplicates_are_counted(queue: TaskQueue) -> None:
    once = sample.add.options(unique="active", unique_key="k")
    for _ in range(4):
        once.submit(1)

    def counted() -> int:
        totals = queue.run(queue.core.control.ask(TOTALS)).totals
        return sum(total.duplicates for total in totals if total.task == "add")

    wait_until(lambda: counted() == 3)
    metrics = Metrics(queue.core.control)
    text = queue.run(metrics.text(queue.run(queue.core.control.ask(HEALTH)), 0)).decode()
    assert 'dtqkit_duplicate_submits_total{priority="medium",task="add"} 3.0' in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unique_key": "k"}, "unique_key is 'k', but unique is missing: add unique="),
        ({"on_duplicate": "raise"}, "on_duplicate is 'raise', but unique is missing"),
        ({"unique_for_s": 5}, "unique_for_s is 5, but unique is missing"),
        ({"unique": "active", "unique_for_s": 5}, "unique_for_s is 5, but unique is 'active'.*leave out"),
        ({"unique": "window"}, "unique is 'window', but unique_for_s is missing: add"),
        ({"unique": "active", "on_duplicate": "replace"}, "on_duplicate is 'replace'.*use unique='waiting'"),
        ({"debounce_s": 5, "on_duplicate": "return"}, "debounce_s is 5, but on_duplicate is 'return'.*leave out"),
        ({"debounce_s": 5, "unique": "active"}, "debounce_s is 5, but unique is 'active'.*leave out"),
        (
            {"debounce_s": 5, "starts_at": datetime(2030, 1, 1, tzinfo=UTC)},
            "starts_at is 2030-01-01 .*debounce_s is 5.*leave out starts_at",
        ),
        ({"debounce_s": 5, "delay_s": 5}, "delay_s is 5, but debounce_s is 5.*leave out delay_s"),
        ({"debounce_max_s": 5}, "debounce_max_s is 5, but debounce_s is missing: add"),
        ({"debounce_s": 5, "debounce_max_s": 4}, "debounce_max_s is 4, but debounce_s is 5.*at least"),
        ({"debounce_s": 0}, "debounce_s is 0; it is a number of seconds, from more than 0"),
        ({"unique": "active", "unique_key": ""}, "unique_key is ''; it is a text of 1 to 200 characters"),
        ({"unique": "active", "unique_key": "k" * 201}, "unique_key is .*; it is a text of 1 to 200 characters"),
        ({"unique": "active", "unique_key": 7}, "unique_key is 7; it is a text of 1 to 200 characters"),
        ({"unique": "active", "unique_key": b"k"}, "unique_key is a bytes; it is a text"),
        ({"unique": "active", "unique_key": "\ud800"}, "unique_key is .*surrogate"),
        ({"unique": "always"}, "unique is 'always'; it is one of "),
        ({"unique": "window", "unique_for_s": float("nan")}, "unique_for_s is nan"),
        ({"unique": "active", "on_duplicate": "ignore"}, "on_duplicate is 'ignore'; it is one of"),
    ],
)
def test_options_that_do_not_go_together_are_errors_that_say_what_to_do(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        sample.add.options(**options)


# -- beside expires_s, starts_at, on_success


def test_a_unique_job_starts_at_its_time_exactly(queue: TaskQueue) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    later = sample.add.options(unique="waiting", on_duplicate="replace", unique_key="k")
    first = later.submit(1)
    at_a_time = sample.add.options(unique="waiting", on_duplicate="replace", unique_key="k", starts_at=at)
    assert (at_a_time.submit(2).id, at_a_time.submit(3).record.due_at) == (first.id, at)
    assert later.submit(4).record.due_at is None


def test_what_follows_on_jobs_can_be_unique(queue: TaskQueue, jobs: Any) -> None:
    @queue.task(unique="active", unique_key="one")
    async def publish() -> None:
        await asyncio.sleep(30)

    handles = sample.add.options(on_success=publish).map([1, 2, 3])
    with Workers(queue):
        handles.results(timeout=20)
        wait_until(lambda: jobs.count_documents({"followed_by": {"$exists": True}}) == 3)
        followers = {doc["followed_by"][0] for doc in jobs.find({"task": "add"})}
        assert followers == {str(doc["_id"]) for doc in jobs.find({"task": "publish"})}
        assert len(followers) == 1
        queue.get(followers.pop()).cancel()


def test_a_debounced_job_expires_after_its_last_submit(queue: TaskQueue, jobs: Any) -> None:
    calm = sample.add.options(debounce_s=0.2, expires_s=60, unique_key="k")
    first = calm.submit(1)
    long_ago = datetime.now(UTC) - timedelta(seconds=90)
    jobs.update_one({"_id": ObjectId(first.id)}, {"$set": {"created_at": long_ago}})
    assert calm.submit(2).id == first.id
    with Workers(queue):
        assert first.result(timeout=20) == 3


@pytest.mark.parametrize("during", ["waiting", "active"])
def test_a_job_that_has_expired_frees_its_slot(queue: TaskQueue, jobs: Any, during: Any) -> None:
    once = sample.add.options(unique=during, expires_s=60, unique_key="k")
    first = once.submit(1)
    long_ago = datetime.now(UTC) - timedelta(seconds=90)
    jobs.update_one({"_id": ObjectId(first.id)}, {"$set": {"created_at": long_ago}})
    with Workers(queue):
        wait_until(lambda: first.refresh().status == "cancelled")
    assert first.refresh().record.unique_slot is None
    assert once.submit(1).id != first.id


@pytest.mark.parametrize("during", ["waiting", "active"])
def test_a_job_that_has_expired_and_that_no_worker_has_seen_yet_is_not_found(
    queue: TaskQueue, jobs: Any, during: Any
) -> None:
    once = sample.add.options(unique=during, expires_s=60, unique_key="k")
    first = once.submit(1)
    assert once.submit(1).was_duplicate
    long_ago = datetime.now(UTC) - timedelta(seconds=90)
    jobs.update_one({"_id": ObjectId(first.id)}, {"$set": {"created_at": long_ago}})
    second = once.submit(1)
    assert (second.was_duplicate, second.id == first.id) == (False, False)
    assert once.submit(1).id == second.id
    with Workers(queue):
        assert second.result(timeout=20) == 2
        wait_until(lambda: first.refresh().status == "cancelled")
    error = first.record.error
    assert error is not None
    assert error.kind == "expired"


def test_a_payload_that_is_the_key_is_not_changed_and_another_can_be(queue: TaskQueue) -> None:
    once = sample.add.options(unique="active")
    job = once.submit(1)
    with pytest.raises(JobConflict, match=r"made of its payload.*cancel it .* or give such jobs a unique_key"):
        job.update(payload={"a": 2})
    assert job.refresh().record.payload == {"a": 1}
    assert job.update(payload={"a": 1}, priority="high").record.priority == "high"
    assert once.submit(1).id == job.id
    assert not once.submit(2).was_duplicate
    named = sample.add.options(unique="active", unique_key="k").submit(1)
    assert named.update(payload={"a": 2}).record.payload == {"a": 2}


# -- lost workers


@pytest.mark.parametrize(
    ("during", "max_losses", "status", "holds"),
    [("active", 1, "failed", False), ("active", 3, "scheduled", True), ("waiting", 3, "scheduled", False)],
)
def test_a_lost_worker_frees_the_slot_only_when_the_job_is_over(
    queue: TaskQueue, settings: Settings, jobs: Any, during: Any, max_losses: int, status: str, holds: bool
) -> None:
    @queue.task(unique=during, max_losses=max_losses)
    async def one() -> None: ...

    first = one.submit()

    async def lose() -> None:
        store, broker = Store(settings), Broker(settings)
        await store.open()
        job = ObjectId(first.id)
        doc = await store.jobs.claim_one(job, ObjectId(), "gone", 60.0, tasks=["one"])
        assert doc is not None
        jobs.update_one({"_id": job}, {"$set": {"lease_until": datetime.now(UTC) - timedelta(seconds=1)}})
        lost = LostJobs(broker, store, random.Random(1))
        assert await lost.mark_overdue(await store.jobs.running_of("gone")) == 1
        await broker.close()
        await store.close()

    asyncio.run(lose())
    record = first.refresh().record
    assert (record.status, record.unique_slot is not None) == (status, holds)
    assert one.submit().was_duplicate is holds
