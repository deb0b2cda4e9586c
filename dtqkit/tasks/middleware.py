"""Middleware: what a user's code does around each submit and around each run of a job."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from copy import deepcopy
from typing import Any, Final, TypeVar, cast

from dtqkit.model.hook_errors import HookError, MiddlewareFailed
from dtqkit.model.values import shown
from dtqkit.model.verdicts import Verdict
from dtqkit.tasks.context import Context
from dtqkit.tasks.task import Call

T = TypeVar("T")

#: What a middleware can be around.
METHODS: Final = ("submit", "run")


class Middleware:
    """Code around each submit and around each run of a job. A subclass writes the method that it needs, or both.

        @queue.middleware
        class Timing(Middleware):
            @asynccontextmanager
            async def run(self, context: Context, /) -> AsyncIterator[None]:
                started = time.monotonic()
                try:
                    yield
                finally:
                    context.log(f"{context.task} took {time.monotonic() - started:.1f} s")

    The middleware that was registered first is the outermost one. It sees the error of what it is around as an
    exception at its `yield`, and must let it go on: a middleware that ends it is an error itself (MiddlewareFailed).
    """

    def submit(self, calls: Sequence[Call[Any]], /) -> AbstractAsyncContextManager[object]:
        """Around one call of `submit` or `submit_many`, on the loop of the queue that submits.

        Raising before the `yield` refuses all of `calls`: nothing is submitted, and the caller gets the error as it is.
        The calls are copies to look at: what is changed in them changes no job.
        """
        del calls
        return nullcontext()

    def run(self, context: Context, /) -> AbstractAsyncContextManager[object]:
        """Around one attempt of a job, as a part of it: its time counts, and a timeout or a stop ends it too.

        It runs on the worker's loop; for a task that runs in a child process, on a loop of that process. The task sees
        the context variables that are set here. An error before the `yield` fails the attempt.
        """
        del context
        return nullcontext()


def instance_of(given: Any) -> Middleware:
    """The middleware that `given`, an instance or a class, stands for. Raises HookError when it stands for none."""
    kind = cast("type[Any]", given if isinstance(given, type) else type(given))
    if not issubclass(kind, Middleware):
        raise HookError(
            f"{shown(given)} is no middleware: write `@queue.middleware` above a `class Timing(Middleware)` that has "
            "a method submit or run, or give an instance of such a class"
        )
    if not any(is_around(kind, method) for method in METHODS):
        raise HookError(f"middleware {kind.__name__} has neither submit nor run, and would do nothing: write one")
    for method in METHODS:
        function = inspect.unwrap(getattr(kind, method)) if is_around(kind, method) else None
        if function is getattr(kind, method) and _makes_no_manager(function):
            raise HookError(
                f"middleware {kind.__name__}: {method} must return an async context manager: write "
                "`@contextlib.asynccontextmanager` above an `async def` that yields once"
            )
    if not isinstance(given, type):
        return cast(Middleware, given)
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        raise HookError(
            f"middleware {kind.__name__} cannot be made without arguments ({error}): register an instance, "
            f"queue.middleware({kind.__name__}(…))"
        ) from None
    return kind()


def is_around(kind: type[Middleware], method: str) -> bool:
    """Whether the class has this method of its own."""
    return getattr(kind, method) is not getattr(Middleware, method)


def _makes_no_manager(function: Any) -> bool:
    return (
        inspect.isasyncgenfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
    )


def name_of(middleware: Middleware) -> str:
    return type(middleware).__name__


async def around_submit(
    chain: Sequence[Middleware], calls: Sequence[Call[Any]], submit: Callable[[], Awaitable[T]]
) -> T:
    """`submit`, within the middlewares of `chain`. What one of them raises before it goes to the caller as it is."""
    return await _around_submit(chain, [Call(c.task, deepcopy(c.payload), c.options) for c in calls], submit)


async def _around_submit(
    chain: Sequence[Middleware], calls: Sequence[Call[Any]], submit: Callable[[], Awaitable[T]]
) -> T:
    if not chain:
        return await submit()
    first, rest = chain[0], chain[1:]
    manager = _manager(first, "submit", first.submit(calls))
    await manager.__aenter__()
    try:
        answer = await _around_submit(rest, calls, submit)
    except BaseException as error:
        await _leave(manager, first, error, ())
        raise
    try:
        await manager.__aexit__(None, None, None)
    except Exception as error:
        raise _failed(first, error, f"after the submit, which accepted its jobs ({len(calls)})") from error
    return answer


async def around_run(
    chain: Sequence[Middleware],
    context: Context,
    run: Callable[[], Awaitable[T]],
    stops: tuple[type[BaseException], ...] = (),
) -> T:
    """`run`, within the middlewares of `chain`. What one of them raises is a MiddlewareFailed that names it.

    Of the errors in `stops`, and of those that are no Exception, none is replaced by another: they end an attempt from
    outside.
    """
    if not chain:
        return await run()
    first, rest = chain[0], chain[1:]
    try:
        manager = _manager(first, "run", first.run(context))
        await manager.__aenter__()
    except stops:
        raise
    except (MiddlewareFailed, Verdict):  # it may say that the job is to run later, as the task may
        raise
    except Exception as error:
        raise _failed(first, error, "before the task") from error
    try:
        value = await around_run(rest, context, run, stops)
    except BaseException as error:
        await _leave(manager, first, error, stops)
        raise
    try:
        await manager.__aexit__(None, None, None)
    except stops:
        raise
    except Exception as error:
        raise _failed(first, error, "after the task had returned") from error
    return value


def _manager(middleware: Middleware, method: str, made: Any) -> AbstractAsyncContextManager[Any]:
    if isinstance(made, AbstractAsyncContextManager):
        return cast("AbstractAsyncContextManager[Any]", made)
    if inspect.iscoroutine(made):
        made.close()
    raise MiddlewareFailed(
        f"middleware {name_of(middleware)}: {method} returned {shown(made)}, which is no async context manager"
    )


async def _leave(
    manager: AbstractAsyncContextManager[Any],
    middleware: Middleware,
    error: BaseException,
    stops: tuple[type[BaseException], ...],
) -> None:
    """Show `error`, which the caller raises again, to the middleware. Raises when the middleware changes it."""
    fixed = isinstance(error, stops) or not isinstance(error, Exception)
    try:
        ended = await manager.__aexit__(type(error), error, error.__traceback__)
    except stops:
        raise
    except Exception as other:
        # A cancellation may be the middleware's own: asyncio.timeout makes a TimeoutError of it.
        if other is error or (fixed and not isinstance(error, asyncio.CancelledError)):
            return
        raise _failed(middleware, other, f"after {_brief(error)}") from other
    if ended and not fixed:
        raise MiddlewareFailed(
            f"middleware {name_of(middleware)} ended {_brief(error)}: it may look at an error, and must raise it again"
        ) from error


def _failed(middleware: Middleware, error: Exception, when: str) -> MiddlewareFailed:
    return MiddlewareFailed(f"middleware {name_of(middleware)} raised {_brief(error)} {when}")


def _brief(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
