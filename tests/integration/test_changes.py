"""Waiting jobs that are changed, and jobs that are changed in bulk by a filter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from redis import Redis

from dtqkit import (
    Bulk,
    InvalidOption,
    InvalidPayload,
    InvalidQuery,
    JobConflict,
    MatchesEverything,
    RetryAfter,
    Settings,
    TaskQueue,
)
from dtqkit.direct import many
from dtqkit.local import LocalStores
from dtqkit.store import Store
from dtqkit.transitions import update as update_transition
from tests import sample
from tests.conftest import Mongo
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture
def redis(stores: LocalStores) -> Iterator[Any]:
    with Redis.from_url(stores.redis_url, decode_responses=True) as redis:
        yield redis


@pytest.fixture
def lane(redis: Any, settings: Settings) -> Any:
    """The ids of a lane."""
    return lambda name: redis.lrange(f"{settings.namespace}:queue:{name}", 0, -1)


# -- one job


@pytest.mark.parametrize(
    ("change", "kind", "named"),
    [
        ({"payload": "x"}, InvalidPayload, "payload is 'x'; it is a dict"),
        ({"payload": ["x"]}, InvalidPayload, "payload is .*; it is a dict"),
        ({"tags": ["a", "\ud800"]}, InvalidOption, r"tags\[1\] is .*lone surrogate"),
    ],
)
def test_a_change_that_cannot_be_kept_names_its_field(
    queue: TaskQueue, change: Any, kind: type[Exception], named: str
) -> None:
    [job] = queue.submit_many([sample.add.bind(1)])
    with pytest.raises(kind, match=named):
        job.update(change)


@pytest.mark.parametrize(("option", "value"), [("tags", ("\ud800",)), ("idempotency_key", "\udfff")])
def test_an_option_that_utf_8_cannot_encode_is_named(option: str, value: object) -> None:
    with pytest.raises(InvalidOption, match=f"{option}.* is .*lone surrogate"):
        sample.add.options(**{option: value})  # pyright: ignore[reportArgumentType]


def test_a_waiting_job_changes_its_lane(queue: TaskQueue, lane: Any) -> None:
    job = sample.add.submit(1)
    assert lane("medium") == [job.id]
    job.update(priority="high", tags=["urgent", "b"])
    assert (job.record.priority, job.record.tags, job.record.rev) == ("high", ("urgent", "b"), 2)
    assert (lane("medium"), lane("high")) == ([], [job.id])
    assert queue.jobs(q="urgent").items[0].id == job.id


def test_a_waiting_job_gets_another_payload(queue: TaskQueue) -> None:
    job = sample.add.submit(1)
    with pytest.raises(InvalidPayload, match="b"):
        job.update(payload={"a": 1, "b": "two"})
    with pytest.raises(InvalidPayload, match="c"):
        job.update(payload={"a": 1, "c": 2})
    job.update(payload={"a": 3, "b": 4})
    assert job.record.payload == {"a": 3, "b": 4}
    with Workers(queue):
        assert job.result(timeout=10) == 7


def test_a_job_is_delayed_and_brought_forward(queue: TaskQueue, lane: Any, redis: Any, settings: Settings) -> None:
    job = sample.add_async.submit(1)
    job.update(delay_s=600)
    assert job.record.status == "scheduled"
    assert lane("medium") == []
    assert redis.zcard(f"{settings.namespace}:queue:scheduled") == 1
    job.update(delay_s=0, priority="low")
    assert (job.record.status, job.record.due_at) == ("pending", None)
    assert redis.zcard(f"{settings.namespace}:queue:scheduled") == 0
    assert lane("low") == [job.id]
    with Workers(queue):
        assert job.result(timeout=10) == 2


def test_a_job_that_runs_or_is_over_cannot_be_changed(queue: TaskQueue, worker: Workers) -> None:
    job = sample.sleep_async.submit(0.5)
    wait_until(lambda: job.refresh().status == "running")
    with pytest.raises(JobConflict, match="is running: a job that is running cannot be changed"):
        job.update(priority="high")
    job.result(timeout=10)
    with pytest.raises(JobConflict, match="is completed: a job that is over cannot be changed"):
        job.update(priority="high")


def test_what_a_job_cannot_be_changed_to_is_named(queue: TaskQueue) -> None:
    job = sample.add.submit(1)
    for given, message in (
        ({}, "nothing is to be changed"),
        ({"priority": "urgent"}, "priority is 'urgent'"),
        ({"delay_s": -1}, "delay_s is -1"),
        ({"tags": "urgent"}, "tags"),
        ({"timeout_s": 3}, "timeout_s cannot be changed"),
    ):
        with pytest.raises(InvalidOption, match=message):
            job.update(**given)  # pyright: ignore[reportArgumentType]
    assert job.refresh().record.rev == 1


def test_a_job_is_listed_after_two_changes_that_cross(
    queue: TaskQueue, lane: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second change takes the job back after the first one has done half of its work."""
    job, other = sample.add.submit(1), TaskQueue(settings)
    done: list[str] = []
    for name in ("announce", "unlist"):
        step = getattr(update_transition, name)

        async def then_the_other(broker: Any, jobs: Any, step: Any = step) -> None:
            await step(broker, jobs)
            if not done:
                done.append(job.id)
                await asyncio.to_thread(lambda: other.get(job.id).update(priority="medium"))

        monkeypatch.setattr(update_transition, name, then_the_other)
    with other:
        job.update(priority="high")
    assert done == [job.id]
    assert job.refresh().record.priority == "medium"
    assert job.id in lane("medium")


def test_a_delay_after_which_a_job_could_only_expire_is_refused(queue: TaskQueue) -> None:
    job = sample.add.options(expires_s=60).submit(1)
    lasting = sample.add.submit(2)
    with pytest.raises(InvalidOption, match=r"delay_s is 60 and job .* expires in .* 60 s after its submission"):
        job.update(delay_s=60)
    assert queue.update_many({"delay_s": 60}, task="add") == Bulk(matched=2, changed=1)
    assert (job.refresh().status, lasting.refresh().status) == ("pending", "scheduled")
    assert queue.update_many({"delay_s": 20}, task="add") == Bulk(matched=2, changed=2)
    job.update(delay_s=10)
    job.update(delay_s=0)
    assert job.status == "pending"


def test_a_job_that_has_begun_once_does_not_expire_and_is_delayed(queue: TaskQueue) -> None:
    @queue.task(expires_s=60)
    async def later() -> None:
        raise RetryAfter(600)

    job = later.submit()
    with Workers(queue):
        wait_until(lambda: job.refresh().status == "scheduled")
    job.update(delay_s=100)
    assert queue.update_many({"delay_s": 100}, task="later").changed == 1


# -- many jobs


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PIECE", 7)


@pytest.mark.usefixtures("small_pieces")
def test_all_jobs_that_match_are_cancelled_and_no_other(queue: TaskQueue, lane: Any) -> None:
    wanted = queue.submit_many(sample.add.bind(n) for n in range(20))
    delayed = sample.add.options(delay_s=60).submit(1)
    others = queue.submit_many(sample.noop.bind() for _ in range(20))
    counted = queue.cancel_many(task="add", dry_run=True)
    assert (counted.matched, counted.changed) == (21, 0)
    assert {job.refresh().status for job in wanted} == {"pending"}
    assert queue.cancel_many(task="add", status="pending") == Bulk(matched=20, changed=20)
    assert {job.refresh().status for job in wanted} == {"cancelled"}
    assert (delayed.refresh().status, others[0].refresh().status) == ("scheduled", "pending")
    assert lane("medium") == [job.id for job in others]
    assert queue.cancel_many(task="add") == Bulk(matched=1, changed=1)


def test_running_jobs_are_asked_to_stop(queue: TaskQueue, worker: Workers) -> None:
    running = sample.sleep_async.submit(30)
    wait_until(lambda: running.refresh().status == "running")
    assert queue.cancel_many(task="sleep_async") == Bulk(matched=1, changed=1, stopping=1)
    wait_until(lambda: running.refresh().status == "cancelled")


@pytest.mark.usefixtures("small_pieces")
def test_a_bulk_that_is_interrupted_goes_on_from_its_cursor_or_from_the_start(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "WORK_S", 0.0)
    queue.submit_many(sample.add.bind(n) for n in range(20))
    seen: list[Bulk] = []

    def stop(done: Bulk) -> None:
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        queue.cancel_many(task="add", progress=stop)
    assert (seen[0].matched, seen[0].changed) == (7, 7)
    late = sample.add.submit(99)
    rest = queue.cancel_many(task="add", cursor=seen[0].cursor)
    assert (rest.matched, rest.changed, rest.cursor) == (13, 13, None)
    assert late.refresh().status == "pending", "newer than where it went on"
    again = queue.cancel_many(task="add")
    assert (again.matched, again.changed) == (1, 1)


@pytest.mark.usefixtures("small_pieces")
def test_failed_jobs_are_requeued_in_bulk(queue: TaskQueue) -> None:
    with Workers(queue):
        jobs = queue.submit_many(sample.fail.bind(f"no {n}") for n in range(9))
        wait_until(lambda: {job.refresh().status for job in jobs} == {"failed"})
    assert queue.requeue_many(task="fail", dry_run=True).matched == 9
    assert queue.requeue_many(task="fail") == Bulk(matched=9, changed=9)
    assert {(job.refresh().status, job.record.failures) for job in jobs} == {("pending", 0)}
    assert len(queue.dead_letters(task="fail").items) == 0
    with Workers(queue):
        wait_until(lambda: {job.refresh().status for job in jobs} == {"failed"})


@pytest.mark.usefixtures("small_pieces")
def test_waiting_jobs_are_moved_to_another_lane_in_bulk(queue: TaskQueue, lane: Any) -> None:
    jobs = queue.submit_many(sample.add.options(tags=("night",)).bind(n) for n in range(20))
    other = sample.add.submit(1)
    assert queue.update_many({"priority": "low", "tags": ["day"]}, q="night") == Bulk(matched=20, changed=20)
    assert sorted(lane("low")) == sorted(job.id for job in jobs)
    assert lane("medium") == [other.id]
    assert {job.refresh().record.tags for job in jobs} == {("day",)}
    assert queue.update_many({"delay_s": 600}, priority="low").changed == 20
    assert lane("low") == []
    assert {job.refresh().status for job in jobs} == {"scheduled"}


@pytest.mark.usefixtures("small_pieces")
def test_only_jobs_that_are_over_are_deleted(queue: TaskQueue, mongo: Any, settings: Settings) -> None:
    with Workers(queue):
        jobs = queue.submit_many(sample.fail.bind("no") for _ in range(9))
        wait_until(lambda: {job.refresh().status for job in jobs} == {"failed"})
    waiting = sample.fail.submit("later")
    assert queue.delete_many(task="fail") == Bulk(matched=9, changed=9)
    assert [job.id for job in queue.jobs().items] == [waiting.id]
    assert mongo[settings.database_name]["deadletter"].count_documents({}) == 0


def test_a_job_stays_until_what_follows_it_is_submitted(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    ended, plain = sample.fail.submit("no"), sample.fail.submit("no")
    jobs = mongo[settings.database_name]["jobs"]
    over = {"status": "failed", "death_seq": 1, "ended_at": datetime.now(UTC)}
    jobs.update_many({}, {"$set": over})
    left = {"on": "failure", "task": "noop", "attempt": 1, "token": 1, "at": over["ended_at"]}
    jobs.update_one({"_id": ObjectId(ended.id)}, {"$set": {"followups": [left]}})
    assert queue.delete_many(task="fail") == Bulk(matched=2, changed=1)
    assert [job.id for job in queue.jobs().items] == [ended.id]

    async def expire() -> int:
        store = Store(settings)
        await store.open()
        piece = await store.upkeep.expire(datetime.now(UTC) + timedelta(minutes=1), None)
        await store.close()
        return piece.done

    assert asyncio.run(expire()) == 0
    jobs.update_one({"_id": ObjectId(ended.id)}, {"$set": {"followups": []}})
    assert asyncio.run(expire()) == 1
    assert plain.id not in [job.id for job in queue.jobs().items]


def test_a_bulk_that_matches_everything_must_say_so(queue: TaskQueue) -> None:
    jobs = queue.submit_many(sample.add.bind(n) for n in range(3))
    for call in (queue.cancel_many, queue.requeue_many, queue.delete_many):
        with pytest.raises(MatchesEverything, match="or all=True"):
            call()
        with pytest.raises(MatchesEverything, match="or all=True"):
            call(dry_run=True, task=None)
    with pytest.raises(MatchesEverything, match="update every job that is pending or scheduled"):
        queue.update_many({"priority": "low"})
    assert queue.cancel_many(all=True).changed == 3
    assert {job.refresh().status for job in jobs} == {"cancelled"}


def test_a_filter_that_a_bulk_does_not_know_is_named(queue: TaskQueue) -> None:
    for call, message in (
        (lambda: queue.cancel_many(status="completed"), "cancel changes jobs that are pending, scheduled, running"),
        (lambda: queue.delete_many(status="running"), "delete changes jobs that are completed, failed, cancelled"),
        (lambda: queue.requeue_many(status="cancelled"), "requeue changes jobs that are failed"),
        (lambda: queue.cancel_many(tusk="add"), "there is no filter 'tusk'"),  # pyright: ignore[reportCallIssue]
        (lambda: queue.cancel_many(since="yesterday"), "since is 'yesterday'"),
        (lambda: queue.cancel_many(task="add", cursor="nonsense"), "cursor"),
        (lambda: queue.cancel_many(task="add", dry_run="yes"), "dry_run"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(InvalidQuery, match=message):
            call()
    with pytest.raises(InvalidOption, match="payload cannot be changed"):
        queue.update_many({"payload": {}}, task="add")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidOption, match="nothing is to be changed"):
        queue.update_many({}, task="add")


def test_cancelled_ids_in_a_lane_do_not_hold_up_what_is_behind_them(
    queue: TaskQueue, redis: Any, settings: Settings
) -> None:
    """Ids that could not be taken out of the lanes, since Redis was away then."""
    jobs = queue.submit_many(sample.add_async.bind(n) for n in range(2_000))
    queue.cancel_many(task="add_async")
    redis.rpush(f"{settings.namespace}:queue:medium", *[job.id for job in jobs])
    behind = sample.noop.submit()
    with Workers(queue):
        behind.result(timeout=10)
        wait_until(lambda: redis.llen(f"{settings.namespace}:queue:medium") == 0)


def test_a_failed_job_without_a_number_of_its_failure_can_be_requeued(
    queue: TaskQueue, mongo: Mongo, settings: Settings
) -> None:
    jobs = [sample.add.submit(1, n) for n in range(3)]
    mongo[settings.database_name]["jobs"].update_many(
        {}, {"$set": {"status": "failed", "ended_at": datetime.now(UTC)}, "$unset": {"death_seq": ""}}
    )
    jobs[0].refresh().requeue()
    assert queue.requeue_many(task="add") == Bulk(matched=2, changed=2)
    assert {job.refresh().status for job in jobs} == {"pending"}
