"""A worker claims only what starts at once, and what cannot start there blocks nothing and loses nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from dtqkit import JobFailed, Settings, TaskQueue
from dtqkit.broker import Broker
from dtqkit.client.decorators import QueuedTask
from dtqkit.client.handles import JobHandle
from dtqkit.model.jobs import Job
from dtqkit.store import Store
from dtqkit.worker import lookahead
from dtqkit.worker.kinds import Kinds
from dtqkit.worker.lookahead import WINDOW, LookAhead
from dtqkit.worker.slots import Free
from dtqkit.worker.unknown import UnknownTasks
from tests import sample
from tests.wait import wait_until
from tests.workers import Workers

Mongo = MongoClient[dict[str, Any]]


def records(jobs: Sequence[JobHandle[Any]]) -> list[Job]:
    return [job.refresh().record for job in jobs]


def statuses(jobs: Sequence[JobHandle[Any]]) -> list[str]:
    return [record.status for record in records(jobs)]


def test_jobs_for_a_child_are_claimed_one_for_each_child(queue: TaskQueue, worker: Workers) -> None:
    # Given one child, and eight slots for coroutines, when three jobs of 0.4 s wait for the child
    jobs = sample.sleep.map([0.4, 0.4, 0.4])
    assert jobs.results(timeout=20) == ["slept"] * 3
    # Then each was claimed when it could begin: one that is claimed beside another waits for the other's end
    for record in records(jobs):
        assert record.claimed_at
        assert record.started_at
        assert (record.started_at - record.claimed_at).total_seconds() < 0.35


def test_high_priority_waits_for_one_child_only(queue: TaskQueue, worker: Workers) -> None:
    low = sample.sleep.options(priority="low").map([0.5] * 6)
    wait_until(lambda: "running" in statuses(low))
    high = sample.sleep.options(priority="high").submit(0.0)
    high.result(timeout=20)
    # It started as soon as the child was free: at most one of the others after the running one
    assert statuses(low).count("pending") >= 4


def test_a_coroutine_runs_while_what_stands_before_it_waits_for_a_child(queue: TaskQueue, worker: Workers) -> None:
    # Given a child that is busy, and a lane with more jobs for it than one look sees
    sample.sleep.submit(3.0)
    waiting = sample.add.map(range(WINDOW + 40))
    wait_until(lambda: queue.depths().running == 1)
    # When jobs for the worker's own loop come behind them
    behind = [sample.add_async.submit(n) for n in range(10)]
    # Then they run meanwhile
    assert [job.result(timeout=2.5) for job in behind] == [n + 1 for n in range(10)]
    assert set(statuses(waiting[:5])) == {"pending"}
    # And what was passed over is run in its order afterwards
    waiting.results(timeout=60)
    starts = [record.claimed_at for record in records(waiting[:40])]
    assert None not in starts
    assert starts == sorted(starts, key=lambda at: at or datetime.min.replace(tzinfo=UTC))


def test_what_stands_far_behind_runs_too_and_what_comes_at_the_front_first(
    queue: TaskQueue, worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given looks that see few jobs, and many more that wait for a busy child
    monkeypatch.setattr(lookahead, "WINDOW", 8)
    blocker = sample.sleep.submit(60.0)
    wait_until(lambda: blocker.refresh().status == "running")
    waiting = sample.add.map(range(50))
    # Then what comes behind them runs meanwhile, one after the other
    for n in range(3):
        assert sample.add_async.submit(n).result(timeout=15) == n + 1
    # And what stands at the front of a lane of its own does not wait for the turn of such a place
    far = sample.sleep_async.options(priority="low").map([0.0] * 40)
    assert sample.add_async.options(priority="high").submit(7).result(timeout=3) == 8
    far.results(timeout=30)
    assert set(statuses(waiting[:3])) == {"pending"}
    waiting.cancel()
    blocker.cancel()


def test_jobs_that_are_claimed_together_are_never_more_than_can_start(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that ran or were over when the worker first saw their ids, and wait again."""
    ids = [job.id for job in sample.add.map(range(40))]

    async def looks() -> tuple[int, int]:
        broker, store = Broker(queue.settings), Store(queue.settings)
        await store.open()
        kinds = Kinds(queue.registry, dict)
        assert "add" in kinds.names("process")
        look_ahead = LookAhead(broker, store, kinds, UnknownTasks(kinds), ("medium",))
        with monkeypatch.context() as patched:  # they run elsewhere; their ids are listed all the same

            async def none_waits(_ids: object) -> dict[str, str]:
                return {}

            patched.setattr(store.jobs, "tasks_of", none_waits)
            over = await look_ahead.take(Free(8, 1), "loop")
        await broker.push({"medium": ids}, {})
        fit = await look_ahead.take(Free(8, 1), "loop")
        await broker.close()
        await store.close()
        return len(over), len(fit)

    assert asyncio.run(looks()) == (40, 1)


def test_a_job_for_a_child_runs_while_the_loop_is_full_of_coroutines(queue: TaskQueue) -> None:
    with Workers(queue, settings=queue.settings.replace(concurrency=2)):
        sample.sleep_async.map([3.0] * 6)
        wait_until(lambda: queue.depths().running == 2)
        assert sample.add.submit(1).result(timeout=2.5) == 2


def test_a_mixed_lane_is_drained_by_both_kinds_of_slot(queue: TaskQueue, worker: Workers) -> None:
    calls = [(sample.add if n % 3 else sample.add_async).bind(n) for n in range(300)]
    jobs = queue.submit_many(calls)
    assert jobs.results(timeout=60) == [n + 1 for n in range(300)]
    assert all(len(record.attempts) == 1 for record in records(jobs[::7]))


# -- what a worker cannot begin


def test_a_job_of_an_unknown_task_waits_untouched_for_a_worker_that_knows_it(
    queue: TaskQueue, settings: Settings, worker: Workers
) -> None:
    with TaskQueue(settings) as other:

        @other.task(max_attempts=1, isolation="thread")
        def of_another_app(n: int) -> int:
            return n

        jobs = of_another_app.map(range(20))
        # The worker that does not know it has seen it, and others run beside it
        sample.add.submit(1).result(timeout=20)
        with Workers(other, name="new"):
            assert jobs.results(timeout=30) == list(range(20))
        for record in records(jobs):
            assert (record.failures, record.losses, record.claim_number) == (0, 0, 1)
        # And no worker knows it again: it waits, without a claim
        late = of_another_app.submit(7)
        assert sample.add.submit(2).result(timeout=20) == 3
        assert (late.refresh().record.status, late.record.claim_number) == ("pending", 0)
        late.cancel()


def test_a_payload_that_does_not_bind_here_is_run_by_a_worker_of_another_version(settings: Settings) -> None:
    with TaskQueue(settings) as old, TaskQueue(settings) as new:

        @old.task(name="resize", max_attempts=1, isolation="thread")
        def resize_before(page: int) -> int:
            return page

        @new.task(name="resize", max_attempts=1, isolation="thread")
        def resize(page: int, dpi: int) -> int:
            return page * dpi

        with Workers(old, name="old"):
            jobs = new.submit_many(resize.bind(page, dpi=2) for page in range(10))
            wait_until(lambda: sum(record.declined for record in records(jobs)) >= 10)
            with Workers(new, name="new"):
                assert jobs.results(timeout=30) == [page * 2 for page in range(10)]
        for record in records(jobs):
            assert (record.failures, record.losses, len(record.attempts)) == (0, 0, 1)


@contextmanager
def older_worker(settings: Settings) -> Iterator[QueuedTask[..., int, Any]]:
    """A worker with an older version of the code, and the task of today, which takes one argument more."""
    with TaskQueue(settings) as old, TaskQueue(settings) as new:

        @old.task(name="resize", isolation="thread")
        def resize_before(page: int) -> int:
            return page

        @new.task(name="resize", isolation="thread")
        def resize(page: int, dpi: int) -> int:
            return page * dpi

        with Workers(old):
            yield resize


def test_what_no_worker_can_begin_fails_in_the_end_and_says_why(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtqkit.model.lifecycle.MIN_PATIENCE_S", 0.02)
    monkeypatch.setattr("dtqkit.model.lifecycle.MAX_DECLINED", 3)
    with older_worker(settings) as resize:
        job = resize.submit(1, dpi=2)
        with pytest.raises(JobFailed, match="dpi"):
            job.result(timeout=20)
        record = job.refresh().record
        assert (record.declined, record.failures) == (2, 0)
        assert record.error is not None
        assert record.error.kind == "invalid_payload"


def test_a_cancel_of_a_job_that_is_given_back_is_kept(settings: Settings) -> None:
    with older_worker(settings) as resize:
        job = resize.submit(1, dpi=2)
        wait_until(lambda: job.refresh().record.declined > 0)
        job.cancel()
        wait_until(lambda: job.refresh().record.status == "cancelled")


def test_a_result_that_cannot_be_recorded_fails_once(queue: TaskQueue, worker: Workers) -> None:
    with pytest.raises(JobFailed):
        sample.give.options(max_attempts=3).submit("object").result(timeout=20)
    (job,) = queue.jobs(task="give").items
    assert (job.claim_number, job.failures) == (1, 1)


# -- three times


def test_a_wait_ends_when_the_task_begins_and_a_running_job_says_since_when(queue: TaskQueue, worker: Workers) -> None:
    sample.add.submit(1).result(timeout=20)
    job = sample.sleep.submit(1.0)
    wait_until(lambda: job.refresh().record.started_at is not None, timeout_s=5)
    running = job.record
    assert running.status == "running"
    assert running.claimed_at is not None
    assert running.started_at is not None
    assert timedelta(0) <= running.started_at - running.claimed_at < timedelta(seconds=0.5)
    # A listing knows it too
    (listed,) = queue.jobs(task="sleep").items
    assert listed.started_at == running.started_at
    job.result(timeout=20)
    (attempt,) = job.refresh().record.attempts
    assert attempt.started_at == running.started_at
    assert attempt.run_s is not None
    assert 0.9 < attempt.run_s < 1.5


def test_what_never_began_has_no_wait_and_no_run(queue: TaskQueue, mongo: Mongo) -> None:
    job = sample.add.submit(1)
    jobs = mongo[queue.settings.database_name].jobs
    now = datetime.now(UTC)
    lost = {"number": 1, "worker": "w", "queued_at": now, "claimed_at": now, "ended_at": now, "ending": "lost"}
    jobs.update_one({}, {"$set": {"earlier": [lost], "losses": 1}})
    (attempt,) = job.refresh().record.attempts
    assert (attempt.wait_s, attempt.run_s, attempt.started_at) == (None, None, None)
    rows = queue.history()
    assert rows["wait_s"].isna().all()
    assert rows["started_at"].isna().all()
    assert rows["claimed_at"].notna().all()


def test_a_document_of_an_earlier_version_still_reads(queue: TaskQueue, mongo: Mongo) -> None:
    job = sample.add.submit(1)
    now = datetime.now(UTC).replace(microsecond=0)
    then = now - timedelta(seconds=10)
    before = {"number": 1, "worker": "w", "queued_at": then, "started_at": then, "ended_at": now, "ending": "failed"}
    mongo[queue.settings.database_name].jobs.update_one(
        {}, {"$set": {"status": "completed", "started_at": now, "ended_at": now, "earlier": [before], "result": 2}}
    )
    record = job.refresh().record
    assert (record.claimed_at, record.started_at) == (now, now)
    assert [(a.claimed_at, a.started_at) for a in record.attempts] == [(then, then), (now, now)]


# -- after a loss


def test_jobs_that_lost_their_worker_start_again_side_by_side(queue: TaskQueue, mongo: Mongo) -> None:
    # Given six jobs that have each lost a worker once
    jobs = sample.sleep_async.map([10.0] * 6)
    mongo[queue.settings.database_name].jobs.update_many({}, {"$set": {"losses": 1}})
    with Workers(queue):
        # Then they run at the same time
        wait_until(lambda: statuses(jobs).count("running") == 6, timeout_s=9)


def test_jobs_that_failed_together_are_requeued_at_intervals(
    queue: TaskQueue, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtqkit.transitions.requeue.SPACING_S", 0.2)
    jobs = sample.sleep_async.map([0.0] * 8)
    ids = {job.id for job in jobs}
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    error = {"kind": "timeout", "type": "TaskTimeout", "message": "ran longer"}
    dead = {"status": "failed", "death_seq": 1, "ended_at": long_ago, "error": error, "failures": 3}
    mongo[queue.settings.database_name].jobs.update_many({}, {"$set": dead})
    began = time.monotonic()
    with Workers(queue, settings=queue.settings.replace(dead_letter_cooldown_s=0.1)):
        wait_until(lambda: {job.id for job in queue.jobs(status="completed").items} == ids, timeout_s=20)
    # What only ran out of time is no suspect: it runs beside others, at a bounded rate
    assert time.monotonic() - began > 7 * 0.2
    for record in records(jobs):
        assert (record.losses, record.recoveries) == (0, 1)
