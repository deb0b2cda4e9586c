"""Waits on real stores: statuses that are polled, stores that are far or away, and jobs that wait for jobs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import copy_context
from typing import Any
from urllib.parse import urlsplit

import pytest

from dtqkit import JobFailed, TaskQueue
from dtqkit.local import LocalStores
from dtqkit.worker.context import JobContext, enter
from tests import sample
from tests.faults.proxy import Proxy
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture
def far(queue: TaskQueue) -> Iterator[TaskQueue]:
    """A queue whose MongoDB is 50 ms away."""
    uri = queue.settings.atlas_uri
    port = urlsplit(uri).port
    assert port is not None
    with Proxy(port) as proxy:
        proxy.set("delay", 0.025)
        with TaskQueue(queue.settings.replace(atlas_uri=uri.replace(f":{port}", f":{proxy.port}"))) as far:
            far.include("tests.sample")
            yield far
    queue.include("tests.sample")


def polled(n: int, every_s: float) -> None:
    job = sample.sleep_async.submit(n % 7 * 0.01)
    wait_until(lambda: job.status in ("completed", "failed"), interval_s=every_s)
    record = job.record
    assert (record.status, record.result) == ("completed", "slept")
    assert len(record.attempts) == 1
    assert job.result(timeout=10) == "slept"


def test_a_hundred_jobs_that_are_polled_have_their_results(queue: TaskQueue, worker: Workers) -> None:
    for n in range(100):
        polled(n, 0.005)


def test_so_have_those_whose_record_is_far_from_the_events(far: TaskQueue, worker: Workers) -> None:
    for n in range(15):
        polled(n, 0.02)
    job = sample.fail.submit("no")
    wait_until(lambda: job.status == "failed")
    with pytest.raises(JobFailed, match="ValueError: no"):
        job.result(timeout=10)


def test_a_record_is_polled_while_redis_is_away(queue: TaskQueue, own_stores: LocalStores) -> None:
    settings = queue.settings.replace(redis_url=own_stores.redis_url, atlas_uri=own_stores.atlas_uri)
    with TaskQueue(settings) as other:
        other.include("tests.sample")
        with Workers(other):
            jobs = [sample.sleep_async.submit(1.0) for _ in range(3)]
            waited = sample.sleep_async.submit(1.0)
            wait_until(lambda: all(job.refresh().status == "running" for job in [*jobs, waited]))
            own_stores.kill_redis()
            wait_until(lambda: all(job.status == "completed" for job in jobs), timeout_s=20)
            assert [job.record.result for job in jobs] == ["slept"] * 3
            assert waited.result(timeout=20) == "slept"
            own_stores.restart_redis(empty=True)
    queue.include("tests.sample")


def test_a_repr_of_many_jobs_is_bounded_and_says_of_when_it_is(queue: TaskQueue, own_stores: LocalStores) -> None:
    settings = queue.settings.replace(redis_url=own_stores.redis_url, atlas_uri=own_stores.atlas_uri)
    with TaskQueue(settings) as other:
        other.include("tests.sample")
        jobs = sample.add_async.map(range(3))
        assert repr(jobs) == "<3 jobs: 3 pending>"
        own_stores.kill_mongo()
        began = time.monotonic()
        shown, html = repr(jobs), jobs._repr_html_()  # pyright: ignore[reportPrivateUsage]
        assert time.monotonic() - began < 2
        assert shown.startswith("<3 jobs: 3 pending, as of ")
        assert html is not None
        assert "as of " in html
        own_stores.restart_mongo()
    assert repr(jobs).startswith("<3 jobs: 3 pending, as of ")  # of a closed queue
    queue.include("tests.sample")


def test_twenty_thousand_handles_are_made_waited_for_and_cancelled(queue: TaskQueue) -> None:
    jobs = queue.submit_many(sample.noop.bind() for _ in range(20_000))
    began = time.monotonic()
    assert len(jobs.wait(timeout=0.5).not_done) == 20_000
    assert set(jobs.statuses) == {"pending"}
    assert time.monotonic() - began < 15
    assert jobs[:100].cancel() == 100
    assert len(jobs[:100].wait(timeout=10).done) == 100


# -- a job that waits lends its slot


class Lending(JobContext):
    """The context of a job, which notes what it lends its slot to."""

    def __init__(self) -> None:
        self.lent: list[tuple[str, ...]] = []
        super().__init__("b" * 24, "parent", 1, "w", lambda *_: None, lambda ids: self.lent.append(tuple(ids)))


def in_job(context: JobContext, work: Any) -> Any:
    """What `work` returns, in a thread where a job runs."""
    answers: list[Any] = []

    def run() -> None:
        enter(context)
        answers.append(work())

    thread = threading.Thread(target=lambda: copy_context().run(run))
    thread.start()
    thread.join(30)
    return answers[0]


def test_a_job_that_waits_lends_its_slot_for_as_long_as_it_waits(queue: TaskQueue, worker: Workers) -> None:
    for wait in (
        lambda jobs: jobs.results(timeout=20),
        lambda jobs: jobs.wait(timeout=20),
        lambda jobs: list(jobs.as_completed(timeout=20)),
        lambda jobs: asyncio.run(awaited(jobs)),
        lambda jobs: [job.result(timeout=20) for job in jobs],
    ):
        context = Lending()
        jobs = sample.sleep_async.map([0.2, 0.1])
        in_job(context, lambda wait=wait, jobs=jobs: wait(jobs))
        assert context.lent[-1] == ()
        lent = [ids for ids in context.lent if ids]
        assert lent
        assert {job_id for ids in lent for job_id in ids} <= {job.id for job in jobs}
        context.lent.clear()
        in_job(context, jobs.results)  # over already: nothing is waited for
        assert context.lent == []


async def awaited(jobs: Sequence[Any]) -> list[Any]:
    return [await job for job in jobs]


def test_threads_of_a_job_that_wait_side_by_side_lend_for_all_of_them(queue: TaskQueue) -> None:
    context = Lending()
    first, second = sample.add_async.submit(1), sample.add_async.submit(2)

    def both() -> None:
        def wait(job: Any) -> None:
            enter(context)
            job.result(timeout=30)

        threads = [threading.Thread(target=wait, args=(job,)) for job in (first, second)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(context.lent) == 2)
        with Workers(queue):
            for thread in threads:
                thread.join(30)

    in_job(context, both)
    assert set(context.lent[1]) == {first.id, second.id}
    assert len(context.lent[2]) == 1
    assert context.lent[3] == ()


def test_a_wait_outside_a_job_and_one_that_times_out(queue: TaskQueue) -> None:
    context = Lending()
    job = sample.add_async.submit(1)

    def late() -> None:
        with pytest.raises(TimeoutError):
            job.result(timeout=0.1)

    in_job(context, late)
    assert context.lent == [(job.id,), ()]
    late()
    assert len(context.lent) == 2
