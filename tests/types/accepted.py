"""The examples of the documentation, with the types that checkers must give them. It is checked, never run."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, assert_type

from dtqkit import (
    AsyncJobHandle,
    AsyncTaskQueue,
    Call,
    Context,
    Job,
    JobEnd,
    JobHandle,
    JobList,
    Middleware,
    RetryAfter,
    TaskQueue,
    current_context,
    task,
)
from dtqkit.control import HistoryQuery, JobQuery, JobRequest, Page
from dtqkit.control.operations import DEPTHS, GET_JOB, HISTORY, LIST_JOBS
from dtqkit.model.events import Depths
from dtqkit.model.jobs import Status
from dtqkit.testing import TestQueue, replaced

queue = TaskQueue()


@queue.task(priority="high", max_attempts=3, timeout_s=60)
def render(page: int, dpi: int = 150) -> str:
    return f"{page} at {dpi}"


@queue.task
async def alert(end: JobEnd) -> None: ...


@queue.task(
    retry_on=(ConnectionError, TimeoutError), give_up_on=ValueError, backoff=(1, 5, 60), on_failure=alert, expires_s=60
)
def careful(page: int) -> int:
    raise RetryAfter(30)


assert_type(careful.options(starts_at=datetime.now(UTC), on_success="alert").submit(3), JobHandle[int])


@queue.task
def plain(page: int) -> str:
    return str(page)


@task
async def fetch(url: str, *, tries: int = 1) -> bytes:
    return url.encode() * tries


@task(isolation="thread", backoff_s=0.5)
def build(ctx: Context, n: int) -> int:
    ctx.progress(0.4, "half way")
    ctx.log("…")
    return n


@task
async def crawl(ctx: Context, url: str) -> list[str]:
    return [url, ctx.job_id]


@task
def untyped(a, b=2):  # type: ignore[no-untyped-def]
    return a + b


def _report(n: int, *, loud: bool = False) -> str:
    return str(n)


class Service:
    @staticmethod
    @queue.task
    def static(n: int) -> int:
        return n

    def bound(self, n: int) -> int:
        return n


report = queue.task(_report)
renamed = queue.task(name="report_again", isolation="process")(_report)
bound = queue.task(Service().bound)
part = queue.task(name="part")(partial(_report, loud=True))


def other_callables() -> None:
    assert_type(report.submit(3, loud=True), JobHandle[str])
    assert_type(renamed(3), str)
    assert_type(Service.static.submit(3), JobHandle[int])
    assert_type(Service.static(3), int)
    assert_type(bound.submit(3), JobHandle[int])
    assert_type(part.submit(3).result(), str)


def here() -> None:
    assert_type(render(3), str)
    assert_type(plain(3), str)


def submits() -> None:
    job = render.submit(3, dpi=200)
    assert_type(job, JobHandle[str])
    assert_type(job.result(timeout=30), str)
    assert_type(render.delay(3), JobHandle[str])
    assert_type(plain.submit(3), JobHandle[str])
    assert_type(fetch.submit("a", tries=2), JobHandle[bytes])
    assert_type(build.submit(3), JobHandle[int])
    assert_type(crawl.submit(url="a"), JobHandle[list[str]])
    untyped.submit(1, b=3)
    job.refresh().cancel().requeue()
    assert_type(job.log(), tuple[str, ...])
    assert_type(job.record, Job)


def in_bulk(pages: Sequence[tuple[int, int]]) -> None:
    jobs = render.map(range(1000))
    assert_type(jobs, JobList[str])
    assert_type(jobs.results(), list[str])
    assert_type(jobs.results(timeout=3, return_exceptions=True), list[str | Exception])
    assert_type(jobs.wait(3).done, JobList[str])
    done, not_done = jobs.wait(timeout=3)
    print(done.results(), not_done.cancel())
    assert_type(jobs.statuses, list[Status])
    assert_type(render.map([1, 2], [150, 300]), JobList[str])
    assert_type(render.map(range(3), dpi=300), JobList[str])
    assert_type(render.starmap(pages), JobList[str])
    assert_type(render.starmap([{"page": 1}, {"page": 2, "dpi": 3}], dpi=2), JobList[str])
    assert_type(render.starmap([(1, 2), {"page": 2}]), JobList[str])
    assert_type(jobs[0], JobHandle[str])
    assert_type(jobs[:2], JobList[str])
    for job in jobs.as_completed(timeout=3):
        assert_type(job, JobHandle[str])
    assert_type(queue.submit_many(render.bind(p, dpi=d) for p, d in pages), JobList[str])


def with_options() -> None:
    once = render.options(priority="low", delay_s=30, idempotency_key="p3", tags=["a"])
    assert_type(once.submit(3), JobHandle[str])
    assert_type(once.map([1, 2]), JobList[str])
    assert_type(once.starmap([(1, 2)]), JobList[str])
    assert_type(queue.submit_call(once.bind(3, dpi=2)), JobHandle[str])


def looks() -> None:
    failed: Page[Job] = queue.jobs(status="failed", task="render", since="7d", limit=50)
    print(failed.items)
    assert_type(queue.get("65f000000000000000000000"), JobHandle[Any])
    print(queue.history(since="7d", columns=["task", "payload"]))
    assert_type(queue.depths().high, int)
    assert_type(queue.requeue_dead(task="render", dry_run=True).matched, int)
    assert_type(current_context(), Context | None)
    with queue:
        pass


async def awaits() -> None:
    assert_type(await render.submit(3), str)
    assert_type(await fetch("a"), bytes)
    async with AsyncTaskQueue() as q:
        handle = await q.submit(render, 3, dpi=200)
        assert_type(handle, AsyncJobHandle[str])
        assert_type(await handle, str)
        assert_type(await q.submit(build, 3), AsyncJobHandle[int])
        assert_type(await q.submit_many([fetch.bind("a")]), list[AsyncJobHandle[bytes]])
        assert_type(await q.control.ask(GET_JOB, JobRequest(id=handle.id)), Job)
        assert_type(await q.control.ask(DEPTHS), Depths)
        assert_type((await q.control.ask(LIST_JOBS, JobQuery(limit=3))).items, tuple[Job, ...])
        async for row in await q.control.ask(HISTORY, HistoryQuery()):
            assert_type(row.run_s, float | None)


@queue.middleware
class Timing(Middleware):
    @asynccontextmanager
    async def submit(self, calls: Sequence[Call[Any]], /) -> AsyncIterator[None]:
        assert_type(calls[0].payload, dict[str, Any])
        yield

    @asynccontextmanager
    async def run(self, ctx: Context, /) -> AsyncIterator[None]:
        ctx.log(f"{ctx.state}")
        yield


assert_type(queue.middleware(Timing()), Timing)
assert_type(AsyncTaskQueue().middleware(Timing), type[Timing])


@queue.lifespan
async def connect() -> AsyncIterator[dict[str, int]]:
    yield {}


@queue.lifespan
def load() -> Iterator[int]:
    yield 3


@queue.lifespan
@contextmanager
def managed() -> Iterator[int]:
    yield 3


# -- tests of code that uses a queue

with replaced(queue, inline=True) as test:
    assert_type(test, TestQueue)
    assert_type(test.submitted(render), JobList[str])
    assert_type(test.submitted(build).results(), list[int])
    assert_type(test.submitted("render"), JobList[Any])
    assert_type(test.replace(AsyncTaskQueue()), TestQueue)
    test.advance(days=3, hours=1.5)
    test.advance(timedelta(days=1))
    test.lose_worker(render.submit(3))
    assert_type(test.now(), datetime)


@TestQueue(datetime(2026, 1, 1, tzinfo=UTC)).task
def in_a_test(n: int) -> int:
    return n


assert_type(in_a_test.submit(3), JobHandle[int])
