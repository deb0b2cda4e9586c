"""A TestQueue stands in for the queue of an application, whose code stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dtqkit import (
    AsyncTaskQueue,
    Call,
    Context,
    JobFailed,
    LifespanFailed,
    Middleware,
    Settings,
    StoreUnavailable,
    TaskAlreadyRegistered,
    TaskDefinitionError,
    TaskQueue,
)
from dtqkit.testing import TestQueue, replaced

#: Nobody listens there: whatever is not replaced cannot be submitted.
NOWHERE = Settings(redis_url="redis://127.0.0.1:9/0", atlas_uri="mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50")


class Shop:
    """An application with a queue."""

    def __init__(self) -> None:
        self.queue = queue = TaskQueue(NOWHERE)
        self.sent: list[str] = []

        @queue.task(max_attempts=3, backoff_s=60)
        def welcome(name: str) -> str:
            self.sent.append(name)
            if len(self.sent) == 1:
                raise ConnectionError("the mail server is away")
            return f"hello {name}"

        self.welcome = welcome

    def sign_up(self, name: str) -> str:
        return self.welcome.options(delay_s=86_400).submit(name).id


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.queue.close()


def test_what_goes_to_the_replaced_queue_comes_here(shop: Shop) -> None:
    with replaced(shop.queue, clock=datetime(2026, 1, 1, tzinfo=UTC)) as queue:
        job_id = shop.sign_up("ada")
        assert shop.queue.get(job_id).status == "scheduled"
        assert shop.queue.depths().scheduled == 1
        queue.advance(days=2)
        (job,) = queue.submitted(shop.welcome)
        assert (job.id, job.status, shop.sent) == (job_id, "completed", ["ada", "ada"])
        assert [one.id for one in shop.queue.jobs(status="completed").items] == [job_id]
        assert shop.welcome.map(["b", "c"]).results() == ["hello b", "hello c"]
        assert len(shop.queue.history()) == 4
        assert repr(queue.submitted()) == "<3 jobs: 3 completed>"


def test_afterwards_the_queue_is_what_it_was(shop: Shop) -> None:
    before = dict(vars(shop.queue))
    with pytest.raises(PermissionError), replaced(shop.queue, inline=True):
        _raise_in_a_submit(shop)
    assert dict(vars(shop.queue)) == before
    assert AsyncTaskQueue.until_over.__qualname__ == "AsyncTaskQueue.until_over"
    with pytest.raises(StoreUnavailable):
        shop.welcome.submit("ada")


def _raise_in_a_submit(shop: Shop) -> None:
    shop.welcome.submit("ada")
    raise PermissionError


def test_an_application_that_closes_its_queue_can_be_tested_again(shop: Shop) -> None:
    for _ in range(2):
        with replaced(shop.queue) as queue:
            with shop.queue:
                shop.sign_up("ada")
            assert queue.submitted().statuses == ["scheduled"]


def test_two_test_queues_may_end_in_any_order(shop: Shop) -> None:
    first, second, other = TestQueue(), TestQueue(), TaskQueue(NOWHERE)
    first.replace(shop.queue)
    second.replace(other)
    first.close()

    async def submit() -> None:
        async with AsyncTaskQueue() as queue:
            await queue.submit(shop.welcome, "ada")

    asyncio.run(submit())
    assert len(second.submitted()) == 1
    second.close()
    assert AsyncTaskQueue.until_over.__qualname__ == "AsyncTaskQueue.until_over"


def test_each_test_has_a_record_of_its_own(shop: Shop) -> None:
    for _ in range(2):
        with replaced(shop.queue, inline=True) as queue:
            shop.welcome.options(idempotency_key="same").submit("ada")
            assert len(queue.submitted()) == 1


def test_a_queue_cannot_be_replaced_twice_and_only_a_queue_can_be(shop: Shop) -> None:
    wrong: Any = "shop.queue"
    with replaced(shop.queue), pytest.raises(TaskDefinitionError, match="is replaced already"), replaced(shop.queue):
        pass
    with pytest.raises(TaskDefinitionError, match=r"'shop\.queue' cannot be replaced: give the TaskQueue itself"):
        TestQueue().replace(wrong)


def test_one_test_queue_stands_in_for_several_whose_tasks_have_different_names(shop: Shop) -> None:
    other, third = TaskQueue(NOWHERE), TaskQueue(NOWHERE)

    @other.task
    def count() -> int:
        return 1

    @third.task(name="count")
    def another() -> int:
        return 2

    with TestQueue() as queue:
        queue.replace(shop.queue).replace(other)
        shop.welcome.submit("ada")
        count.submit()
        queue.advance(hours=1)
        assert queue.submitted().statuses == ["completed", "completed"]
        with pytest.raises(TaskAlreadyRegistered):
            queue.replace(third)


def test_a_task_that_is_made_later_is_known(shop: Shop) -> None:
    with replaced(shop.queue):

        @shop.queue.task
        def later() -> str:
            return "later"

        assert later.submit().result() == "later"


def test_schedules_that_code_declares_run_once_they_are_applied(shop: Shop) -> None:
    ran: list[int] = []

    @shop.queue.scheduled("0 * * * *")
    @shop.queue.task
    def hourly() -> None:
        ran.append(1)

    with replaced(shop.queue) as queue:
        queue.advance(days=1)
        assert ran == []
        shop.queue.apply_schedules()
        queue.advance(days=1)
        assert len(ran) == 24


# -- hooks


def test_middleware_is_around_submits_and_runs_as_in_production(shop: Shop) -> None:
    seen: list[str] = []

    @shop.queue.middleware
    class Note(Middleware):  # pyright: ignore[reportUnusedClass] - registered
        @asynccontextmanager
        async def submit(self, calls: Sequence[Call[Any]], /) -> AsyncIterator[None]:
            seen.append(f"submit {len(calls)}")
            if calls[0].payload["name"] == "nobody":
                raise PermissionError("nobody")
            yield

        @asynccontextmanager
        async def run(self, context: Context, /) -> AsyncIterator[None]:
            seen.append(f"run {context.task} {context.attempt}")
            try:
                yield
            finally:
                seen.append("ran")

    with replaced(shop.queue):
        shop.welcome.submit("ada").result()
        with pytest.raises(PermissionError):
            shop.welcome.submit("nobody")
    assert seen == ["submit 1", "run welcome 1", "ran", "run welcome 2", "ran", "submit 1"]


def test_the_lifespan_is_entered_before_the_first_job_and_left_at_the_end(shop: Shop) -> None:
    seen: list[str] = []

    @shop.queue.lifespan
    async def connect() -> AsyncIterator[str]:  # pyright: ignore[reportUnusedFunction] - registered
        seen.append("entered")
        yield "connection"
        seen.append("left")

    @shop.queue.task
    def use(ctx: Context) -> str:
        return str(ctx.state)

    @shop.queue.task
    async def use_async(ctx: Context) -> str:
        return str(ctx.state)

    with replaced(shop.queue) as queue:
        job = use.submit()
        assert seen == []
        assert (job.result(), use_async.submit().result()) == ("connection", "connection")
        queue.advance(days=30)
        assert seen == ["entered"]
    assert seen == ["entered", "left"]


def test_a_lifespan_that_raises_is_seen_where_the_queue_runs(shop: Shop) -> None:
    @shop.queue.lifespan
    def broken() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] - registered
        raise ConnectionError("no database")
        yield

    with replaced(shop.queue) as queue:
        shop.welcome.submit("ada")
        with pytest.raises(LifespanFailed, match="no database"):
            queue.run_until_idle()


# -- asynchronous code


def test_an_asynchronous_queue_is_replaced_too(shop: Shop) -> None:
    async def app(queue: AsyncTaskQueue) -> None:
        job = await queue.submit(shop.welcome, "ada")
        assert await job == "hello ada"
        assert job.status == "completed"
        many = await queue.submit_many([shop.welcome.bind("b"), shop.welcome.options(delay_s=60).bind("c")])
        assert [await one for one in many] == ["hello b", "hello c"]
        with pytest.raises(TimeoutError):
            await (await queue.submit_call(shop.welcome.options(delay_s=60).bind("d"))).result(timeout=10)
        assert [row.job async for row in queue.history(task="welcome")].count(job.id) == 2
        assert (await queue.get(job.id)).status == "completed"

    async def test() -> None:
        theirs = AsyncTaskQueue(NOWHERE)
        with replaced(theirs) as queue:
            await app(theirs)
            assert queue.now() > datetime.now(UTC)
            shop.sent.clear()
            async with AsyncTaskQueue() as another:  # one that the application makes meanwhile
                await app(another)
        with pytest.raises(StoreUnavailable):
            await theirs.submit(shop.welcome, "ada")
        await theirs.close()

    asyncio.run(test())


def test_a_coroutine_that_submits_and_awaits_in_a_job_does_so_here(shop: Shop) -> None:
    @shop.queue.task(timeout_s=86_400)
    async def welcome_all(names: list[str]) -> list[str]:
        async with AsyncTaskQueue() as queue:
            jobs = [await queue.submit(shop.welcome, name) for name in names]
            return [await job for job in jobs]

    with replaced(shop.queue) as queue:
        assert welcome_all.submit(["a", "b"]).result() == ["hello a", "hello b"]
        assert queue.now() - datetime.now(UTC) < timedelta(minutes=5)
        assert len(queue.submitted(shop.welcome)) == 2


def test_inline_runs_what_asynchronous_code_submits(shop: Shop) -> None:
    async def test() -> None:
        theirs = AsyncTaskQueue(NOWHERE)
        with replaced(theirs, inline=True) as queue:
            job = await theirs.submit(shop.welcome, "ada")
            assert (job.status, queue.submitted(shop.welcome).statuses) == ("scheduled", ["scheduled"])

    asyncio.run(test())
    assert shop.sent == ["ada"]


def test_an_error_of_the_application_is_the_one_of_production(shop: Shop) -> None:
    @shop.queue.task(max_attempts=1)
    def fails(page: int) -> None:
        raise ValueError(f"no page {page}")

    with replaced(shop.queue):
        with pytest.raises(JobFailed, match="ValueError: no page 3") as error:
            fails.submit(3).result()
        assert isinstance(error.value.__cause__, ValueError)
        assert "raise ValueError" in error.value.traceback
