"""Pauses of a lane, of a task and of a task's jobs with certain values, with real workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId
from redis import Redis

from dtqkit import InvalidPause, JobHandle, NotPaused, Settings, TaskQueue
from dtqkit.broker import Broker
from dtqkit.broker.parking import Parking
from dtqkit.local import LocalStores
from dtqkit.model.pauses import Pauses
from dtqkit.store import Store
from dtqkit.worker.pausing import KnownPauses
from dtqkit.worker.sift import Sifter
from tests import sample
from tests.integration.test_rounds import run
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture
def redis(stores: LocalStores) -> Iterator[Any]:
    with Redis.from_url(stores.redis_url, decode_responses=True) as redis:
        yield redis


@pytest.fixture
def parked(redis: Any, settings: Settings) -> Any:
    """How many ids are parked."""
    return lambda: redis.zcard(f"{settings.namespace}:queue:parked")


@pytest.fixture
def in_force(caplog: pytest.LogCaptureFixture) -> Callable[..., None]:
    """Waits until the worker has logged so many pauses."""
    caplog.set_level("INFO", "dtqkit.worker")
    return lambda n=1: wait_until(lambda: sum("is paused since" in r.getMessage() for r in caplog.records) >= n)


def done(job: JobHandle[Any]) -> Any:
    return job.result(timeout=10)


def waits(job: JobHandle[Any]) -> None:
    record = job.refresh().record
    assert (record.status, record.attempt, record.failures) == ("pending", 0, 0)


def test_jobs_of_a_paused_task_wait_and_block_nothing(
    queue: TaskQueue, worker: Workers, parked: Any, in_force: Callable[..., None]
) -> None:
    assert done(sample.add_async.submit(1)) == 2
    queue.pause(task="noop", reason="maintenance")
    in_force()
    held = queue.submit_many(sample.noop.bind() for _ in range(40))
    behind = sample.add_async.submit(2)
    assert done(behind) == 3
    wait_until(lambda: parked() == 40)
    for job in held[:3]:
        waits(job)
    assert [(str(p), p.reason, p.waiting) for p in queue.pauses()] == [("task 'noop'", "maintenance", 40)]
    queue.resume(task="noop")
    held.results(timeout=10)
    assert all(job.record.attempt == 1 for job in held)
    assert queue.pauses() == ()
    assert parked() == 0


def test_a_paused_lane_is_not_fetched(queue: TaskQueue, worker: Workers, in_force: Callable[..., None]) -> None:
    queue.pause(lane="low")
    in_force()
    low = sample.add_async.options(priority="low").submit(1)
    assert done(sample.add_async.submit(5)) == 6
    waits(low)
    queue.resume(lane="low")
    assert done(low) == 2


def test_a_worker_whose_lanes_are_all_paused_waits_and_goes_on(
    queue: TaskQueue, worker: Workers, in_force: Callable[..., None]
) -> None:
    for lane in ("high", "medium", "low"):
        queue.pause(lane=lane)
    in_force(3)
    job = sample.add_async.submit(1)
    waits(job)
    for lane in ("low", "medium", "high"):
        queue.resume(lane=lane)
    assert done(job) == 2


def test_only_jobs_with_the_values_of_where_are_paused(
    queue: TaskQueue, worker: Workers, parked: Any, in_force: Callable[..., None]
) -> None:
    queue.pause(task="add_async", where={"a": 7})
    in_force()
    seven, eight = sample.add_async.submit(7), sample.add_async.submit(8)
    assert done(eight) == 9
    wait_until(lambda: parked() == 1)
    waits(seven)
    queue.resume(task="add_async", where={"a": 7})
    assert done(seven) == 8


def test_a_default_counts_as_given(
    queue: TaskQueue, worker: Workers, parked: Any, in_force: Callable[..., None]
) -> None:
    queue.pause(task="add_async", where={"b": 1})
    in_force()
    plain, other = sample.add_async.submit(1), sample.add_async.submit(1, b=2)
    assert done(other) == 3
    wait_until(lambda: parked() == 1)
    waits(plain)
    queue.resume(task="add_async", where={"b": 1})
    assert done(plain) == 2


def test_a_payload_that_is_stored_as_text_is_looked_into_as_well(
    queue: TaskQueue, worker: Workers, in_force: Callable[..., None]
) -> None:
    @queue.task
    async def keyed(a: int, more: dict[str, int]) -> int:
        return a + sum(more.values())

    queue.pause(task="keyed", where={"a": 7})
    in_force()
    held, free = keyed.submit(7, {"x.y": 1}), keyed.submit(8, {"x.y": 1})
    assert done(free) == 9
    wait_until(lambda: held.refresh().status == "scheduled")
    assert held.record.attempt == 0
    queue.resume(task="keyed", where={"a": 7})


def test_a_pause_ends_by_itself(queue: TaskQueue, worker: Workers, parked: Any, in_force: Callable[..., None]) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=2)
    queue.pause(task="add_async", until=ends)
    in_force()
    job = sample.add_async.submit(1)
    wait_until(lambda: parked() == 1)
    assert done(job) == 2
    assert datetime.now(UTC) > ends - timedelta(seconds=0.1)
    assert queue.pauses() == ()


def test_a_paused_lane_ends_by_itself(queue: TaskQueue, worker: Workers, in_force: Callable[..., None]) -> None:
    for lane in ("high", "medium", "low"):
        queue.pause(lane=lane, until=datetime.now(UTC) + timedelta(seconds=1.5))
    in_force(3)
    assert done(sample.add_async.submit(1)) == 2


def test_a_pause_survives_a_flush(
    queue: TaskQueue, worker: Workers, redis: Any, settings: Settings, parked: Any, in_force: Callable[..., None]
) -> None:
    queue.pause(task="add_async")
    in_force()
    job = sample.add_async.submit(1)
    wait_until(lambda: parked() == 1)
    for key in redis.scan_iter(match=f"{settings.namespace}:*"):
        redis.delete(key)
    wait_until(lambda: parked() == 1, message="listed by the rebuild, and parked again")
    waits(job)
    queue.resume(task="add_async")
    assert done(job) == 2


def test_a_job_that_runs_goes_on(queue: TaskQueue, worker: Workers) -> None:
    running = sample.sleep_async.submit(1.0)
    wait_until(lambda: running.refresh().status == "running")
    queue.pause(task="sleep_async")
    assert done(running) == "slept"
    queue.resume(task="sleep_async")


def test_many_jobs_of_a_paused_task_are_out_of_the_way_at_once(queue: TaskQueue, parked: Any) -> None:
    queue.submit_many(sample.noop.bind() for _ in range(3_000))
    behind = sample.add_async.submit(1)
    queue.pause(task="noop")
    with Workers(queue):
        assert done(behind) == 2
        wait_until(lambda: parked() >= 2_900)
        queue.cancel_many(task="noop")


def test_a_waiting_parent_is_not_lent_a_paused_child(
    queue: TaskQueue, worker: Workers, in_force: Callable[..., None]
) -> None:
    queue.pause(task="add_async")
    in_force()

    @queue.task
    async def parent() -> int:
        from dtqkit import AsyncTaskQueue

        async with AsyncTaskQueue(queue.settings) as inner:
            return await (await inner.submit(sample.add_async, 1))

    job = parent.submit()
    wait_until(lambda: job.refresh().status == "running")
    wait_until(lambda: queue.jobs(task="add_async").items)
    assert queue.jobs(task="add_async").items[0].status == "pending"
    queue.resume(task="add_async")
    assert done(job) == 2


def test_a_pause_that_matches_nothing_is_refused(queue: TaskQueue) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("lane", {}, "lane or task is needed"),
        ("lane", {"lane": "lwo"}, "'lwo'; there are high, medium, low"),
        ("lane", {"lane": "low", "task": "noop"}, "beside the task"),
        ("where", {"lane": "low", "where": {"a": 1}}, "goes with a task"),
        ("task", {"task": "nop"}, "no worker has published"),
        ("where", {"task": "add", "where": {"c": 1}}, "does not have; it has a, b"),
        ("where", {"task": "add", "where": {"a": [1]}}, "compared with a text, a number"),
        ("where", {"task": "add", "where": "a=1"}, "it is a dict"),
        ("until", {"task": "add", "until": tomorrow.replace(tzinfo=None)}, "without a time zone"),
        ("until", {"task": "add", "until": datetime(2020, 1, 1, tzinfo=UTC)}, "which is over"),
        ("until", {"task": "add", "until": 30}, "it is a datetime"),
    ]
    for field, given, message in wrong:
        with pytest.raises(InvalidPause, match=message) as refused:
            queue.pause(**given)
        assert refused.value.field == field, given
    assert queue.pauses() == ()
    assert queue.pause(task="nop", allow_unknown=True).task == "nop"
    with pytest.raises(NotPaused, match="lane 'low' is not paused; paused is task 'nop'"):
        queue.resume(lane="low")
    queue.resume(task="nop")


def test_a_pause_again_changes_its_end_and_its_reason(
    queue: TaskQueue, worker: Workers, parked: Any, in_force: Callable[..., None]
) -> None:
    queue.pause(task="add_async", until=datetime.now(UTC) + timedelta(seconds=60))
    in_force()
    job = sample.add_async.submit(1)
    wait_until(lambda: parked() == 1)
    queue.pause(task="add_async", until=datetime.now(UTC) + timedelta(seconds=1), reason="shorter")
    assert [pause.reason for pause in queue.pauses()] == ["shorter"]
    assert done(job) == 2


def test_a_leader_lists_what_a_resume_that_died_has_left(
    queue: TaskQueue,
    worker: Workers,
    parked: Any,
    redis: Any,
    settings: Settings,
    mongo: Any,
    in_force: Callable[..., None],
) -> None:
    queue.pause(task="add_async")
    in_force()
    job = sample.add_async.submit(1)
    wait_until(lambda: parked() == 1)
    database = mongo[settings.database_name]
    database["configuration"].update_one({"_id": "pauses"}, {"$set": {"pauses": [], "version": 9}})
    redis.set(f"{settings.namespace}:queue:pauses", "9", ex=60)
    assert done(job) == 2


@pytest.mark.parametrize("wrong", ["77", "garbage"])
def test_a_wrong_version_in_redis_is_replaced(
    queue: TaskQueue, worker: Workers, redis: Any, settings: Settings, wrong: str, in_force: Callable[..., None]
) -> None:
    queue.pause(task="add_async")
    in_force()
    redis.set(f"{settings.namespace}:queue:pauses", wrong, ex=60)
    wait_until(lambda: redis.get(f"{settings.namespace}:queue:pauses") == "1")
    redis.delete(f"{settings.namespace}:queue:pauses")
    redis.rpush(f"{settings.namespace}:queue:pauses", "a list")
    wait_until(lambda: redis.type(f"{settings.namespace}:queue:pauses") == "string")
    queue.resume(task="add_async")


def test_an_entry_that_cannot_be_read_holds_nothing_and_stops_no_worker(
    queue: TaskQueue, settings: Settings, mongo: Any, redis: Any, in_force: Callable[..., None], caplog: Any
) -> None:
    now = datetime.now(UTC)
    good = {"id": "task:noop", "task": "noop", "reason": "", "paused_at": now}
    wrong: list[Any] = [
        {"id": "task:a", "task": "a", "reason": ""},
        {"id": 7, "task": "a", "paused_at": now},
        {"id": "b", "task": "add_async", "paused_at": "today"},
        {"id": "c", "task": "add_async", "paused_at": now, "until": "tomorrow"},
        {"id": "d", "task": "add_async", "paused_at": now, "where": "{"},
        {"id": "e", "task": "add_async", "paused_at": now, "where": f'{{"a": {2**70}}}'},
        {"id": "f", "task": "add_async", "paused_at": "2026-01-31T08:00:00", "until": "2096-01-31T08:00:00"},
        {"id": "g", "paused_at": now},
        "add_async",
        None,
    ]
    configuration = mongo[settings.database_name]["configuration"]
    record: dict[str, Any] = {"version": 9, "pauses": [*wrong, good], "more": 1}
    # A worker that starts with them, and one that runs when they come
    with Workers(queue):
        assert done(sample.add_async.submit(1)) == 2
        configuration.insert_one({"_id": "pauses", **record})
        redis.set(f"{settings.namespace}:queue:pauses", "9", ex=60)
        in_force()
        assert done(sample.add_async.submit(2)) == 3
    with Workers(queue):
        assert done(sample.add_async.submit(3)) == 4
    assert [pause.id for pause in queue.pauses()] == ["task:noop"]
    assert "'task:a'" in caplog.text
    for version in ("7", 7.5, None, True):
        configuration.replace_one({"_id": "pauses"}, {"version": version, "pauses": "none"})
        assert queue.pauses() == ()
        queue.pause(task="noop")
        found = configuration.find_one({"_id": "pauses"})
        assert (found["version"], len(found["pauses"])) == (1, 1), version


def test_the_pauses_known_so_far_stay_in_force_while_they_cannot_be_read() -> None:
    class Book:
        async def read(self) -> Pauses:
            raise TypeError("odd")

    known: Any = KnownPauses(SimpleNamespace(pauses=Book()), ("low",))  # pyright: ignore[reportArgumentType]
    known._read = Pauses(3)
    assert asyncio.run(known.read("4")) is False
    assert known.version == 3
    assert not known._reading


def test_after_mongodb_was_restored_from_a_backup_workers_read_its_older_pauses(
    queue: TaskQueue, worker: Workers, mongo: Any, settings: Settings, in_force: Callable[..., None]
) -> None:
    queue.pause(task="noop")
    backup = mongo[settings.database_name]["configuration"].find_one({"_id": "pauses"})
    queue.pause(task="add_async")
    in_force(2)
    job = sample.add_async.submit(1)
    # Nothing announces what the record has now
    mongo[settings.database_name]["configuration"].replace_one({"_id": "pauses"}, backup)
    assert job.result(timeout=30) == 2
    queue.resume(task="noop")


def test_a_job_whose_payload_is_changed_out_of_a_pause_is_listed_again_at_once(
    queue: TaskQueue, redis: Any, settings: Settings
) -> None:
    """By who changes it: there is no leader here."""
    lane, parked = (f"{settings.namespace}:queue:{name}" for name in ("medium", "parked"))
    queue.include(sample)
    queue.pause(task="add_async", where={"a": 7}, allow_unknown=True)
    jobs = [sample.add_async.submit(7) for _ in range(3)]
    listed = sample.add_async.submit(7)
    for job in jobs:
        redis.lrem(lane, 0, job.id)
        redis.zadd(parked, {f"medium:{job.id}": "+inf"})
    jobs[0].update(payload={"a": 8})
    assert redis.zcard(parked) == 2
    assert redis.lrange(lane, 0, -1) == [listed.id, jobs[0].id]
    # Another change, and one of a job that is not parked, list nothing
    jobs[1].update(tags=["b"])
    listed.update(payload={"a": 8})
    assert redis.zcard(parked) == 2
    assert redis.llen(lane) == 2


def test_a_job_whose_payload_is_changed_out_of_a_pause_while_a_worker_parks_it_is_listed_at_once(
    queue: TaskQueue, redis: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change comes between the worker's look at the job and its parking, when there is nothing to list yet."""
    lane, parked = (f"{settings.namespace}:queue:{name}" for name in ("medium", "parked"))
    queue.include(sample)
    queue.pause(task="add_async", where={"a": 7}, allow_unknown=True)
    job, held = sample.add_async.submit(7), sample.add_async.submit(7)
    redis.delete(lane)  # both are popped
    park = Parking.park

    async def parks(self: Parking, version: int, members: Mapping[str, float]) -> bool:
        await asyncio.to_thread(job.update, {"payload": {"a": 8}})
        assert not redis.zcard(parked)
        return await park(self, version, members)

    monkeypatch.setattr(Parking, "park", parks)

    async def work(broker: Broker, store: Store) -> None:
        pauses = KnownPauses(store, ("medium",))
        await pauses.load()
        docs = await store.jobs.status_of([ObjectId(job.id), ObjectId(held.id)])
        assert await Sifter(broker, store, pauses).park(docs) == ([], {f"medium:{one.id}" for one in (job, held)})

    run(settings, work)
    assert redis.lrange(lane, 0, -1) == [job.id]
    assert redis.zrange(parked, 0, -1) == [f"medium:{held.id}"]


def test_nothing_is_parked_by_pauses_that_were_read_before_they_ended(
    queue: TaskQueue, redis: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker reads that a pause is over after it has looked which jobs that pause holds, and before it parks."""
    queue.include(sample)
    queue.pause(task="add_async", allow_unknown=True)
    job = sample.add_async.submit(7)

    async def work(broker: Broker, store: Store) -> None:
        pauses = KnownPauses(store, ("medium",))
        await pauses.load()
        held = store.pauses.held

        async def ends_meanwhile(*asked: Any) -> Any:
            found = await held(*asked)
            await asyncio.to_thread(queue.resume, task="add_async")
            await pauses.read("2")
            return found

        monkeypatch.setattr(store.pauses, "held", ends_meanwhile)
        await Sifter(broker, store, pauses).park(await store.jobs.status_of([ObjectId(job.id)]))

    run(settings, work)
    assert not redis.zcard(f"{settings.namespace}:queue:parked")
