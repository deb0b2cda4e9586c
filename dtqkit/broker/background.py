"""Calls of Redis that may take longer than their caller waits.

A call that is cancelled costs its connection: where Redis is far away, each one that did not wait long enough would
close a connection that others need. So nobody cancels one: it goes on in the background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import ProgressEvent
from dtqkit.support.cancel import end

T = TypeVar("T")

#: How long the progress of running jobs may take to be found, in seconds.
LIVE_S: Final = 0.25


class Background:
    """The calls of one kind."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[Any]] = set()

    @property
    def late(self) -> bool:
        """Whether one is under way whose caller waits no longer: another would most likely fare as it does."""
        return bool(self._late)

    def begin(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self, task: asyncio.Task[T], seconds: float) -> T:
        """What it brings. Raises TimeoutError when it takes longer, and lets it go on."""
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
            task.exception()  # whoever asked may wait no longer


class Lives:
    """What running jobs last showed. One question at a time: what is asked for meanwhile is in the next."""

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[dict[str, ProgressEvent]]]) -> None:
        self._read = read
        self._calls = Background()
        self._wanted: dict[str, None] = {}
        self._next: asyncio.Task[dict[str, ProgressEvent]] | None = None
        self._turn = asyncio.Lock()

    async def get(self, job_ids: Sequence[str]) -> dict[str, ProgressEvent]:
        """By id, as far as they did and as it can be had at once."""
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
