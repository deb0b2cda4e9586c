"""What may be a middleware or a lifespan, in which order they are, and what each mistake is answered with."""

from __future__ import annotations

import asyncio
import inspect
import textwrap
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
from typing_extensions import override

from dtqkit import AsyncTaskQueue, Call, Context, HookError, LifespanFailed, Middleware, MiddlewareFailed, TaskQueue
from dtqkit.run.process import _begun  # pyright: ignore[reportPrivateUsage]
from dtqkit.tasks.hooks import Hooks, ProcessLifespan
from dtqkit.tasks.lifespan import Lifespan
from dtqkit.tasks.middleware import around_run
from dtqkit.worker.context import JobContext

WORDS: list[str] = []


@pytest.fixture
def queue() -> TaskQueue:
    return TaskQueue()  # nothing of it connects


class Named(Middleware):
    def __init__(self, name: str = "named") -> None:
        self.name = name

    @override
    @asynccontextmanager
    async def run(self, context: Context, /) -> AsyncGenerator[None]:
        WORDS.append(f"+{self.name}")
        yield
        WORDS.append(f"-{self.name}")


class NeedsName(Named):
    def __init__(self, name: str) -> None:
        super().__init__(name)


class Empty(Middleware):
    def on_run(self) -> None: ...


class Undecorated(Middleware):
    async def run(self, context: Context, /) -> AsyncGenerator[None]:  # type: ignore[override]
        del context
        yield


class Coroutine(Middleware):
    async def submit(self, calls: Sequence[Call[Any]], /) -> None: ...  # type: ignore[override]


def context() -> JobContext:
    return JobContext("6b0a0000000000000000000a", "t", 1, "w", lambda *_: None, lambda _: None)


def run(hooks: Hooks, task: Callable[[], Any] = lambda: "done") -> Any:
    async def called() -> Any:
        return task()

    return asyncio.run(around_run(hooks.around_run, context(), called))


def hooks_of(*given: Any) -> Hooks:
    hooks = Hooks()
    for one in given:
        hooks.add(one)
    return hooks


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "3 is no middleware: write `@queue.middleware` above a `class Timing(Middleware)`"),
        ("Timing", "is no middleware"),
        (print, "is no middleware"),
        (dict, "is no middleware"),
        (Empty, "middleware Empty has neither submit nor run"),
        (Middleware, "middleware Middleware has neither submit nor run"),
        (Undecorated, "middleware Undecorated: run must return an async context manager: write `@contextlib.async"),
        (Undecorated(), "middleware Undecorated: run must return"),
        (Coroutine, "middleware Coroutine: submit must return"),
        (NeedsName, "register an instance, queue.middleware(NeedsName(…))"),
    ],
)
def test_what_is_no_middleware_is_refused_with_its_cure(queue: TaskQueue, given: Any, said: str) -> None:
    with pytest.raises(HookError) as refused:
        queue.middleware(given)
    assert said in str(refused.value)
    with pytest.raises(HookError):
        AsyncTaskQueue.middleware(_Bare(), given)  # type: ignore[arg-type]
    assert not queue.hooks.around_run
    assert not queue.registry.confined


class _Bare:
    def __init__(self) -> None:
        self.hooks = Hooks()


def test_the_first_one_is_the_outermost_and_an_instance_is_registered_once() -> None:
    WORDS.clear()
    a, b = Named("a"), Named("b")
    assert run(hooks_of(a, b, a)) == "done"
    assert WORDS == ["+a", "+b", "-b", "-a"]


def test_a_class_that_is_defined_again_takes_its_older_selfs_place() -> None:
    def define(name: str) -> type[Middleware]:
        class Cell(Named):
            def __init__(self) -> None:
                super().__init__(name)

        return Cell

    WORDS.clear()
    run(hooks_of(define("old"), Named("other"), define("new")))
    assert WORDS == ["+new", "+other", "-other", "-new"]


class Swallows(Middleware):
    @override
    @asynccontextmanager
    async def run(self, context: Context, /) -> AsyncGenerator[None]:
        try:
            yield
        except ValueError:
            pass


class Replaces(Middleware):
    @override
    @asynccontextmanager
    async def run(self, context: Context, /) -> AsyncGenerator[None]:
        try:
            yield
        except ValueError:
            raise KeyError("other") from None


class Enters(Middleware):
    @override
    @asynccontextmanager
    async def run(self, context: Context, /) -> AsyncGenerator[None]:
        raise ConnectionError("no tracer")
        yield


class Leaves(Middleware):
    @override
    @asynccontextmanager
    async def run(self, context: Context, /) -> AsyncGenerator[None]:
        yield
        raise ConnectionError("no tracer")


class YieldsTwice(Middleware):
    @override
    @asynccontextmanager
    async def run(self, context: Context, /) -> AsyncGenerator[None]:
        yield
        yield


class YieldsNever(Middleware):
    @override
    @asynccontextmanager
    async def run(self, context: Context, /) -> AsyncGenerator[None]:
        if context.attempt > 1:
            yield


class Returns(Middleware):
    @override
    def run(self, context: Context, /) -> AbstractAsyncContextManager[object]:
        return None  # type: ignore[return-value]


def fails() -> None:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("kind", "task", "said"),
    [
        (Swallows, fails, "middleware Swallows ended ValueError: no: it may look at an error, and must raise it again"),
        (Replaces, fails, "middleware Replaces raised KeyError: 'other' after ValueError: no"),
        (Enters, fails, "middleware Enters raised ConnectionError: no tracer before the task"),
        (Leaves, int, "middleware Leaves raised ConnectionError: no tracer after the task had returned"),
        (YieldsTwice, int, "middleware YieldsTwice raised RuntimeError: generator didn't stop after the task"),
        (YieldsNever, int, "middleware YieldsNever raised RuntimeError: generator didn't yield before the task"),
        (Returns, int, "middleware Returns: run returned None, which is no async context manager"),
    ],
)
def test_an_error_of_a_middleware_names_it(kind: type[Middleware], task: Callable[[], Any], said: str) -> None:
    WORDS.clear()
    with pytest.raises(MiddlewareFailed) as failed:
        run(hooks_of(Named("outer"), kind, Named("inner")), task)
    assert said in str(failed.value)
    assert WORDS[0] == "+outer"


def test_what_stops_an_attempt_is_not_ended_and_not_replaced() -> None:
    class Stop(BaseException):
        pass

    class Late(TimeoutError):
        pass

    class Deaf(Middleware):
        @override
        @asynccontextmanager
        async def run(self, context: Context, /) -> AsyncGenerator[None]:
            try:
                yield
            except BaseException:
                if context.attempt == 1:
                    return
                raise RuntimeError("other") from None

    async def stopped(error: BaseException) -> None:
        async def task() -> None:
            raise error

        await around_run((Deaf(),), context(), task, (Late,))

    for error in (Stop(), Late(), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            asyncio.run(stopped(error))


# -- lifespans


async def _never() -> None: ...


def _needs(app: Any) -> Generator[Any]:
    yield app


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "3 is no lifespan: put @queue.lifespan above a generator function"),
        (_never, "test_hooks:_never never yields"),
        (_needs, "test_hooks:_needs is called without arguments: missing a required argument: 'app'"),
    ],
)
def test_what_is_no_lifespan_is_refused_with_its_cure(queue: TaskQueue, given: Any, said: str) -> None:
    with pytest.raises(HookError) as refused:
        queue.lifespan(given)
    assert said in str(refused.value)
    assert queue.hooks.lifespan is None


def one() -> Generator[int]:
    yield 1


async def two() -> AsyncGenerator[int]:
    yield 2


class Three:
    def __enter__(self) -> int:
        return 3

    def __exit__(self, *_: object) -> None: ...


def three() -> Three:
    return Three()


class Four:
    async def __aenter__(self) -> int:
        return 4

    async def __aexit__(self, *_: object) -> None: ...


def five(value: int) -> Generator[int]:
    yield value


@pytest.mark.parametrize(
    ("function", "value"),
    [
        *((one, 1), (two, 2), (Three, 3), (Four, 4), (three, 3), (partial(five, 5), 5)),
        *((contextmanager(one), 1), (asynccontextmanager(two), 2)),
    ],
)
def test_generators_and_functions_that_return_context_managers_are_lifespans(function: Any, value: int) -> None:
    async def story() -> Any:
        life = ProcessLifespan()
        life.hooks.set_lifespan(function)
        await life.begin()
        await life.begin()  # of another worker
        found = life.state
        await life.end()
        assert life.state == found
        await life.end()
        assert life.state is None
        return found

    assert asyncio.run(story()) == value


def test_a_queue_has_one_lifespan_and_takes_its_newer_self(queue: TaskQueue) -> None:
    queue.lifespan(one)
    queue.lifespan(one)
    with pytest.raises(HookError, match=r"this queue has \S*test_hooks:one already"):
        queue.lifespan(two)


def raises() -> Generator[None]:
    raise ConnectionError("mongodb://user:secret@host/ refused")
    yield


def yields_never() -> Generator[None]:
    if WORDS is None:
        yield


def yields_twice() -> Generator[None]:
    yield
    yield


def raises_at_its_end() -> Generator[None]:
    yield
    raise ConnectionError("refused")


def returns_nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raises, "test_hooks:raises raised ConnectionError: mongodb://***@host/ refused ("),
        (yields_never, "test_hooks:yields_never never yields: it must yield once"),
        (yields_twice, "test_hooks:yields_twice yields more than once"),
        (raises_at_its_end, "at its end"),
        (returns_nothing, "test_hooks:returns_nothing returned None: it must yield once, or return a context manager"),
    ],
)
def test_a_lifespan_that_fails_is_one_line_with_its_name(function: Any, said: str) -> None:
    async def story() -> None:
        life = ProcessLifespan()
        life.hooks.lifespan = Lifespan(function)
        await life.begin()
        await life.end()

    with pytest.raises(LifespanFailed) as failed:
        asyncio.run(story())
    text = str(failed.value)
    assert said in text
    assert "\n" not in text
    assert "secret" not in text


# -- the documentation


@pytest.mark.parametrize("documented", [Middleware, TaskQueue.middleware, TaskQueue.lifespan])
def test_the_examples_of_the_docstrings_run(queue: TaskQueue, documented: Any) -> None:
    lines = (inspect.getdoc(documented) or "").splitlines()
    example = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))
    names = {**globals(), "queue": queue, "Client": Four, "AsyncIterator": AsyncIterator, "time": time}
    exec(compile(example, str(documented), "exec", dont_inherit=True), names)  # noqa: S102 - it is ours
    assert queue.hooks.around_run or queue.hooks.around_submit or queue.hooks.lifespan is not None
    if queue.hooks.around_run:
        assert run(queue.hooks) == "done"


def test_a_lifespan_that_is_cancelled_from_within_has_failed_and_hangs_nobody(queue: TaskQueue) -> None:
    async def cancelled_before() -> AsyncGenerator[int]:
        raise asyncio.CancelledError
        yield 1

    async def begun(function: Any) -> ProcessLifespan:
        queue.hooks.lifespan = None
        queue.lifespan(function)
        life = ProcessLifespan(queue.hooks)
        await asyncio.wait_for(life.begin(), 5)
        return life

    with pytest.raises(LifespanFailed, match="cancelled_before raised CancelledError"):
        asyncio.run(begun(cancelled_before))


def test_the_newer_of_two_lifespans_is_entered_although_the_older_one_cannot_be_left(queue: TaskQueue) -> None:
    async def older() -> AsyncGenerator[int]:
        yield 1
        raise OSError("no")

    async def newer() -> AsyncGenerator[int]:
        yield 2

    async def scenario() -> int:
        queue.lifespan(older)
        life = ProcessLifespan(queue.hooks)
        await life.begin()
        queue.hooks.lifespan = None
        queue.lifespan(newer)
        await life.renew()
        state = life.state
        await life.end()
        return state

    assert asyncio.run(scenario()) == 2


def test_a_start_that_is_cancelled_leaves_the_lifespan_that_it_has_entered(queue: TaskQueue) -> None:
    events: list[str] = []

    async def connect() -> AsyncGenerator[None]:
        events.append("enter")
        yield
        events.append("leave")

    async def story() -> None:
        queue.lifespan(connect)
        life = ProcessLifespan(queue.hooks)
        starting = asyncio.create_task(_begun(life, asyncio.Event()))
        while not life._users:  # noqa: ASYNC110  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()

    asyncio.run(story())
    assert events == ["enter", "leave"]
