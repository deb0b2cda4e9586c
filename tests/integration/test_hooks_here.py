"""Middleware and a lifespan of a queue whose workers live in this process, as in a notebook; and around submits."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from typing_extensions import override

from dtqkit import (
    AsyncTaskQueue,
    BatchRefused,
    Call,
    Context,
    JobFailed,
    LifespanFailed,
    Middleware,
    MiddlewareFailed,
    Settings,
    TaskDefinitionError,
    TaskQueue,
    current_context,
    task,
)
from dtqkit.worker.report import TaskStopped
from tests import sample
from tests.serving import TOKEN, Server, publish
from tests.wait import wait_until
from tests.workers import Workers


class Spy(Middleware):
    """Keeps what it has seen of submits; refuses those of 3."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @override
    @asynccontextmanager
    async def submit(self, calls: Sequence[Call[Any]], /) -> AsyncGenerator[None]:
        if any(call.payload.get("a") == 3 for call in calls):
            raise PermissionError("no threes")
        self.seen.append([call.payload["a"] for call in calls])
        for call in calls:
            call.payload["a"] = 100
        try:
            yield
        except BaseException as error:
            self.seen.append(type(error).__name__)
            raise


def submits(queue: TaskQueue, add: Any, spy: Spy) -> None:
    """Each submit is seen once, with all its calls; what is changed in them changes no job."""
    job = add.submit(1)
    assert job.refresh().record.payload == {"a": 1}
    jobs = queue.submit_many(add.bind(n) for n in (4, 5))
    assert [one.refresh().record.payload["a"] for one in jobs] == [4, 5]
    add.map([6, 7])
    add.options(priority="low").submit(8)
    assert spy.seen == [[1], [4, 5], [6, 7], [8]]
    before = queue.jobs().items
    for refused in (lambda: add.submit(3), lambda: add.map([1, 3])):
        with pytest.raises(PermissionError, match="no threes"):
            refused()
    assert queue.jobs().items == before


def test_a_submit_is_within_the_middlewares_of_its_queue(queue: TaskQueue) -> None:
    spy = Spy()
    queue.middleware(spy)
    submits(queue, sample.add_async, spy)


def test_a_remote_submit_is_within_the_middlewares_of_the_client(queue: TaskQueue, settings: Settings) -> None:
    publish(settings, [one.info for one in queue.registry])
    with (
        Server(settings.replace(token=TOKEN, port=0, ws_port=0)) as server,
        TaskQueue.connect(server.http, token=TOKEN) as client,
    ):
        spy = client.middleware(Spy())

        @client.task
        async def add_async(a: int, b: int = 1) -> int: ...

        submits(client, add_async, spy)


def test_an_asynchronous_submit_is_within_them_too(queue: TaskQueue, settings: Settings) -> None:
    async def story() -> list[Any]:
        async with AsyncTaskQueue(settings) as core:
            spy = core.middleware(Spy())
            await core.submit(sample.add_async, 1)
            await core.submit_many([sample.add_async.bind(n) for n in (4, 5)])
            with pytest.raises(PermissionError):
                await core.submit(sample.add_async, 3)
            twice = [sample.add_async.options(idempotency_key="one").bind(n) for n in (6, 7)]
            with pytest.raises(BatchRefused):
                await core.submit_many(twice)
            return spy.seen

    assert asyncio.run(story()) == [[1], [4, 5], [6, 7], "BatchRefused"]


def test_an_error_after_a_submit_names_its_middleware_and_says_that_the_job_is_accepted(queue: TaskQueue) -> None:
    class Leaves(Middleware):
        @override
        @asynccontextmanager
        async def submit(self, calls: Sequence[Call[Any]], /) -> AsyncGenerator[None]:
            yield
            raise ConnectionError("no tracer")

    queue.middleware(Leaves)
    with pytest.raises(MiddlewareFailed, match=r"Leaves raised ConnectionError: no tracer after .* accepted its jobs"):
        sample.add_async.submit(1)
    assert queue.depths().medium == 1


# -- around runs, and the lifespan


@task
def state(ctx: Context) -> Any:
    return [ctx.state, os.getpid(), threading.current_thread() is threading.main_thread()]


@task
async def state_async(ctx: Context) -> Any:
    return ctx.state


@task
async def finishes(ctx: Context) -> str:
    """Is asked to stop, and finishes what it does."""
    ctx.log("began")
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        return "done"
    return "never asked"


@task(isolation="thread")
def finishes_in_thread(ctx: Context) -> str:
    ctx.log("began")
    with suppress(TaskStopped):
        for _ in range(3000):
            time.sleep(0.01)
        return "never asked"
    return "done"


@task(isolation="process")
def asks_for_a_process() -> None: ...


@pytest.fixture
def here(queue: TaskQueue) -> Iterator[TaskQueue]:
    """A queue like that of TaskQueue.local(), with the stores of the tests."""
    queue.add(state)
    queue.add(state_async)
    queue._work_here(2)  # pyright: ignore[reportPrivateUsage]
    yield queue
    queue.close()


def test_a_lifespan_that_is_registered_later_is_entered_at_once_and_left_at_the_end(here: TaskQueue) -> None:
    events: list[str] = []
    assert state_async.submit().result(timeout=20) is None

    @here.lifespan
    async def connect() -> AsyncGenerator[str]:
        events.append("enter")
        yield "first"
        events.append("leave")

    assert events == ["enter"]  # once for both workers
    assert state_async.submit().result(timeout=20) == "first"
    assert state.submit().result(timeout=20) == ["first", os.getpid(), False]  # no child process could have it

    def again() -> Generator[str]:
        events.append("enter again")
        yield "second"
        events.append("leave again")

    again.__qualname__, again.__module__ = connect.__qualname__, connect.__module__
    here.lifespan(again)  # the cell is run again
    assert events == ["enter", "leave", "enter again"]
    assert state_async.submit().result(timeout=20) == "second"
    here.close()
    assert events == ["enter", "leave", "enter again", "leave again"]


def test_a_job_that_begins_while_a_newer_lifespan_is_entered_waits_for_its_state(here: TaskQueue) -> None:
    entering, enter = threading.Event(), threading.Event()

    def first() -> Generator[str]:
        yield "first"

    async def second() -> AsyncGenerator[str]:
        entering.set()
        await asyncio.to_thread(enter.wait, 30)
        yield "second"

    second.__qualname__ = first.__qualname__
    here.lifespan(first)
    renewing = threading.Thread(target=here.lifespan, args=[second])
    renewing.start()
    assert entering.wait(20)
    jobs = [one.submit() for one in (state_async, state)]
    wait_until(lambda: all(job.refresh().status == "running" for job in jobs))
    enter.set()
    assert jobs[0].result(timeout=20) == "second"
    assert jobs[1].result(timeout=20)[0] == "second"
    renewing.join(20)


def test_a_middleware_that_looks_at_cancelled_makes_no_release_of_a_success(here: TaskQueue) -> None:
    looked: list[bool] = []

    @here.middleware
    class Looks(Middleware):
        @override
        @asynccontextmanager
        async def run(self, context: Context, /) -> AsyncGenerator[None]:
            yield
            current = current_context()
            assert current is not None
            looked.extend([context.cancelled, current.cancelled])

    for one in (finishes, finishes_in_thread):
        here.add(one)
        job = one.submit()
        wait_until(lambda job=job: job.log())
        job.cancel()
        assert job.result(timeout=30) == "done"
    assert looked == [True] * 4


def test_a_lifespan_that_raises_where_workers_are_says_so_where_it_is_registered(here: TaskQueue) -> None:
    def connect() -> Generator[None]:
        raise ConnectionError("no database")
        yield

    with pytest.raises(LifespanFailed, match=r"connect raised ConnectionError: no database \(.*test_hooks_here"):
        here.lifespan(connect)
    assert state_async.submit().result(timeout=20) is None

    def mended() -> Generator[int]:
        yield 1

    here.lifespan(mended)
    assert state_async.submit().result(timeout=20) == 1


def test_a_queue_with_hooks_refuses_a_task_that_asks_for_a_process_of_workers_here(here: TaskQueue) -> None:
    here.middleware(Spy())
    with pytest.raises(TaskDefinitionError, match=r"isolation is 'process', but the queue has a middleware .* APP"):
        here.add(asks_for_a_process)


def test_hooks_are_refused_where_a_task_has_asked_for_a_process_of_workers_here(here: TaskQueue) -> None:
    here.add(asks_for_a_process)
    with pytest.raises(TaskDefinitionError, match="isolation is 'process', but the queue has a middleware"):
        here.middleware(Spy())
    assert not here.hooks.around_submit


def test_a_middleware_that_raises_fails_the_attempt_and_is_tried_again(here: TaskQueue) -> None:
    @here.middleware
    class Moody(Middleware):
        @override
        @asynccontextmanager
        async def run(self, context: Context, /) -> AsyncGenerator[None]:
            if context.attempt == 1:
                raise ConnectionError("no tracer")
            yield

    for one in (sample.fail_until, sample.add_in_thread):
        job = one.submit(2)
        assert job.result(timeout=30) in (2, 3)
        first = job.refresh().record.attempts[0]
        assert first.error is not None
        assert first.error.type == "MiddlewareFailed"
        assert "middleware Moody raised ConnectionError: no tracer before the task" in first.error.message


@pytest.mark.parametrize("where", ["enter", "leave"])
def test_time_in_a_middleware_counts_for_the_timeout(here: TaskQueue, where: str) -> None:
    @here.middleware
    class Slow(Middleware):
        @override
        @asynccontextmanager
        async def run(self, context: Context, /) -> AsyncGenerator[None]:
            if where == "enter":
                await asyncio.sleep(60)  # until the timeout
            yield
            await asyncio.sleep(60)  # until the timeout

    for one in (sample.add_async, sample.add_in_thread):
        job = one.options(timeout_s=0.3, max_attempts=1).submit(1)
        with pytest.raises(JobFailed, match=r"TaskTimeout: ran longer than timeout_s=0\.3"):
            job.result(timeout=20)


def test_a_timeout_of_a_middleware_ends_a_task_in_a_thread(here: TaskQueue) -> None:
    @here.middleware
    class Hasty(Middleware):
        @override
        @asynccontextmanager
        async def run(self, context: Context, /) -> AsyncGenerator[None]:
            async with asyncio.timeout(0.2):
                yield

    for one in (sample.sleep_in_thread, sample.sleep_async):
        with pytest.raises(JobFailed, match="middleware Hasty raised TimeoutError"):
            one.submit(30.0).result(timeout=20)
    wait_until(lambda: not any(t.name == "dtqkit-sleep_in_thread" for t in threading.enumerate()))


def test_a_lifespan_that_ends_by_itself_stops_its_worker(queue: TaskQueue) -> None:
    async def watched() -> AsyncGenerator[None]:
        async def broken() -> None:
            await asyncio.sleep(0.05)  # after the worker has begun
            raise ConnectionError("lost")

        async with asyncio.TaskGroup() as group:
            group.create_task(broken())
            yield

    queue.lifespan(watched)
    workers = Workers(queue)
    with pytest.raises(LifespanFailed, match=r"watched raised ExceptionGroup: .* while the worker ran"), workers:
        wait_until(lambda: not queue.workers())  # it is off the list


def test_a_local_queue_has_hooks_of_functions_that_are_defined_here() -> None:
    with TaskQueue.local(workers=2) as local:
        seen: list[str] = []

        @local.lifespan
        def load() -> Generator[int]:
            yield 41

        @local.middleware
        class Around(Middleware):
            @override
            @asynccontextmanager
            async def run(self, context: Context, /) -> AsyncGenerator[None]:
                seen.append(context.task)
                yield

        @local.task
        def more(ctx: Context, n: int) -> int:
            return ctx.state + n

        assert more.submit(1).result(timeout=30) == 42
        assert seen == ["more"]
