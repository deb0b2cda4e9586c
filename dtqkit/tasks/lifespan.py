"""Lifespan: what a worker process, and each of its children, sets up before its first job and takes down at its end."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from dtqkit.model.hook_errors import HookError, LifespanFailed
from dtqkit.model.values import shown
from dtqkit.support.cancel import end
from dtqkit.support.sanitize import redact
from dtqkit.tasks import origin

log = logging.getLogger("dtqkit.worker")

#: How long the end of a lifespan may take, in seconds.
LEAVE_S: Final = 5.0

Manager: TypeAlias = AbstractAsyncContextManager[Any] | AbstractContextManager[Any]
#: What `@queue.lifespan` takes.
LifespanFunction: TypeAlias = Callable[[], AsyncIterator[Any] | Iterator[Any] | Manager]

_PACKAGE: Final = f"{Path(__file__).parent}/"
#: What contextlib raises for a generator that does not yield once.
_WRONG_YIELDS: Final = {
    "generator didn't yield": "never yields: it must yield once, the value that tasks find in ctx.state",
    "generator didn't stop": "yields more than once: it must yield once",
}


class Lifespan:
    """A lifespan function that was checked. Raises HookError when it cannot be one."""

    def __init__(self, function: Any) -> None:
        #: `module:function`, where it was written.
        self.name: Final = ":".join(origin.home_of(function)) if callable(function) else "?"
        self._function: Final = function
        if not callable(function):
            raise HookError(
                f"{shown(function)} is no lifespan: put @queue.lifespan above a generator function (async def or def) "
                "that yields once"
            )
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            raise HookError(f"lifespan {self.name} never yields: it must yield once, the value of ctx.state")
        try:
            inspect.signature(function).bind()
        except TypeError as error:
            raise HookError(f"lifespan {self.name} is called without arguments: {error}") from None
        except ValueError:  # a builtin may have no signature
            pass

    def open(self) -> Manager:
        """Call the function: its context manager, not entered yet. Raises LifespanFailed."""
        try:
            if inspect.isasyncgenfunction(self._function):
                return asynccontextmanager(self._function)()
            if inspect.isgeneratorfunction(self._function):
                return contextmanager(self._function)()
            made = self._function()
        except Exception as error:
            raise self.failed(error) from error
        if not isinstance(made, AbstractAsyncContextManager | AbstractContextManager):
            raise LifespanFailed(
                f"lifespan {self.name} returned {shown(made)}: it must yield once, or return a context manager"
            )
        return cast(Manager, made)

    def failed(self, error: BaseException, when: str = "") -> LifespanFailed:
        """One line that names the function, the error and the user's line that raised it."""
        if isinstance(error, RuntimeError) and str(error) in _WRONG_YIELDS:
            return LifespanFailed(f"lifespan {self.name} {_WRONG_YIELDS[str(error)]}")
        message = redact(str(error).strip().partition("\n")[0])[:500]
        what = f"{type(error).__name__}: {message}" if message else type(error).__name__
        return LifespanFailed(f"lifespan {self.name} raised {what}{_place(error)}{when}")


def _place(error: BaseException) -> str:
    """The innermost line of it that is the user's."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_PACKAGE)]
    frames = [frame for frame in frames if not frame.filename.endswith("/contextlib.py")]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


class Entered:
    """A lifespan that is entered, on one event loop, in a task of its own: it may hold a TaskGroup or a timeout."""

    def __init__(self, lifespan: Lifespan, manager: Manager, broke: Callable[[LifespanFailed], None]) -> None:
        """`broke` is called when it ends before it is asked to."""
        self._lifespan = lifespan
        self._manager = manager
        self._broke = broke
        self._leave = asyncio.Event()
        #: Whether we have cancelled its task: a CancelledError of its own is a failure.
        self._cancelled = False
        self._state: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(), name=f"lifespan {lifespan.name}")

    async def state(self) -> Any:
        """What it yields. Raises LifespanFailed; cancelled, it ends the lifespan."""
        try:
            return await self._state
        except asyncio.CancelledError:
            await self._cancel()
            raise

    async def _keep(self) -> None:
        try:
            async with _entered(self._manager) as state:
                if not self._state.done():
                    self._state.set_result(state)
                await self._leave.wait()
        except BaseException as error:
            if self._cancelled and isinstance(error, asyncio.CancelledError):
                raise
            if not self._state.done():
                self._state.set_exception(self._lifespan.failed(error))
                return
            failure = self._lifespan.failed(error, " at its end" if self._leave.is_set() else " while the worker ran")
            if not self._leave.is_set():
                self._broke(failure)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise failure from error

    async def _cancel(self) -> None:
        self._cancelled = True
        await end(self._task)

    async def leave(self) -> None:
        """End it. Raises LifespanFailed when that fails, or takes longer than LEAVE_S."""
        self._leave.set()
        await asyncio.wait({self._task}, timeout=LEAVE_S)
        if not self._task.done():
            await self._cancel()
            raise LifespanFailed(f"lifespan {self._lifespan.name} did not end within {LEAVE_S:g} s and was cancelled")
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error


@asynccontextmanager
async def _entered(manager: Manager) -> AsyncGenerator[Any]:
    if isinstance(manager, AbstractAsyncContextManager):
        async with manager as state:
            yield state
    else:
        with manager as state:
            yield state
