"""A task's coroutine on the worker's loop: cancelled first, and then stopped by what it cannot catch by mistake."""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import Any, Final, Self, cast

from dtqkit.worker.childprocess import grace_s
from dtqkit.worker.report import TaskStopped

#: How often a coroutine that swallows even that is stopped again, in seconds.
AGAIN_S: Final = 1.0
_BEGUN: Final = object()


class Running:
    """Await it: it goes on with a coroutine, and turns a second cancellation into TaskStopped.

    It stands between the event loop and the coroutine, which costs far less than another asyncio.Task would.
    """

    __slots__ = ("_coroutine", "_final", "_first", "_inner", "_task", "_timeout_s", "_timer")

    def __init__(self, coroutine: Any, first: Any, task: asyncio.Task[Any], timeout_s: float) -> None:
        """`first` is what the coroutine waits for now, after its first step."""
        self._coroutine = coroutine
        self._first = first
        self._task = task
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._final = False
        self._inner: _Inner | None = None

    def stop(self) -> None:
        """Cancel it; after a while, or when called again, raise TaskStopped in it until it ends."""
        if self._timer is None:
            self._task.cancel()
            self._timer = self._task.get_loop().call_later(grace_s(self._timeout_s), self._insist)
        else:
            self._timer.cancel()
            self._insist()

    def _insist(self) -> None:
        self._final = True
        if self._inner is not None:
            self._inner.abandoned = True
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(AGAIN_S, self._insist)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._coroutine.close()

    # -- what `await` calls

    def __await__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        first, self._first = self._first, _BEGUN
        return self._waits_for(self._coroutine.send(None) if first is _BEGUN else first)

    def send(self, value: Any) -> Any:
        return self._waits_for(self._coroutine.send(value))

    def throw(self, error: Any, *more: Any) -> Any:
        if self._final and isinstance(error, asyncio.CancelledError):
            error = TaskStopped("it did not end when it was cancelled")
        return self._waits_for(self._coroutine.throw(error, *more))

    def _waits_for(self, future: Any) -> Any:
        """What the loop is to wait for. A task of the coroutine's may swallow a cancellation: ours stands before it."""
        if type(future) is asyncio.Future or not isinstance(future, asyncio.Future):
            return cast(Any, future)
        self._inner = _Inner(cast("asyncio.Future[Any]", future))
        return self._inner


class _Inner(asyncio.Future[None]):
    """Done when `future` is. Cancelling it cancels that, until it is abandoned."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        super().__init__(loop=future.get_loop())
        self._future = future
        self.abandoned = False
        # The protocol between a coroutine that waits and its task: this one waits for us instead.
        future._asyncio_future_blocking = False
        self._asyncio_future_blocking = True
        future.add_done_callback(self._wake)

    def _wake(self, _: asyncio.Future[Any]) -> None:
        if not self.done():
            self.set_result(None)  # the waiting code looks at `future` itself

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = self._future.cancel(msg)
        return super().cancel(msg) if self.abandoned else cancelled


def coroutine_of(awaitable: Any) -> Any:
    """A coroutine, or whatever else an asynchronous function may have returned, as one."""
    return cast(Any, awaitable) if type(awaitable) is CoroutineType else _as_coroutine(awaitable)


async def _as_coroutine(awaitable: Any) -> Any:
    return await awaitable
