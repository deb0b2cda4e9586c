"""Calls of Redis that may take longer than their caller waits.

Cancelling a call closes its connection, which other callers need, above all when Redis is far away. So a call is never
cancelled: it continues in the background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import ProgressEvent
from dtqkit.support.cancel import end

T = TypeVar("T")

#: Maximum wait for the progress of running jobs, in seconds.
LIVE_S: Final = 0.25


class BackgroundCalls:
    """The calls of one kind."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[Any]] = set()

    @property
    def late(self) -> bool:
        """Whether a call is still running after its caller timed out: another one would most likely time out too."""
        return bool(self._late)

    def begin(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self, task: asyncio.Task[T], seconds: float) -> T:
        """The result of `task`. Raises TimeoutError when it takes longer; the task continues."""
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            self._late.add(task)
            raise TimeoutError
        return task.result()

    async def within(self, seconds: float, call: Coroutine[Any, Any, T]) -> T:
        return await self.wait(self.begin(call), seconds)

    async def close(self) -> None:
        await end(*self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # mark it as retrieved: the caller may have stopped waiting


class LiveProgress:
    """The latest progress of running jobs. One read at a time: ids requested meanwhile go into the next one."""

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[dict[str, ProgressEvent]]]) -> None:
        self._read = read
        self._calls = BackgroundCalls()
        self._wanted: dict[str, None] = {}
        self._next: asyncio.Task[dict[str, ProgressEvent]] | None = None
        self._turn = asyncio.Lock()

    async def get(self, job_ids: Sequence[str]) -> dict[str, ProgressEvent]:
        """By id, for jobs that have reported progress. Empty when Redis does not answer at once."""
        if self._calls.late:
            return {}
        self._wanted |= dict.fromkeys(job_ids)
        if self._next is None:
            self._next = self._calls.begin(self._ask())
        try:
            return await self._calls.wait(self._next, LIVE_S)
        except (StoreUnavailable, TimeoutError):
            return {}

    async def close(self) -> None:
        await self._calls.close()

    async def _ask(self) -> dict[str, ProgressEvent]:
        async with self._turn:
            wanted, self._wanted, self._next = list(self._wanted), {}, None
            return await self._read(wanted)
