"""Ids that Redis refused to list: listed as soon as it takes writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from dtqkit.model.errors import NamespaceTaken, StoreUnavailable
from dtqkit.model.jobs import Priority
from dtqkit.support.cancel import end

log = logging.getLogger("dtqkit.queue")

#: Maximum number of ids that are kept; the leader's audit lists the others.
LIMIT: Final = 10_000
#: Pauses between two tries, in seconds.
_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 1.0

Ready = Mapping[Priority, Sequence[str]]
Scheduled = Mapping[str, float]


class Unlisted:
    """Best effort: if this process dies, the audit lists them from the record. Listing an id twice is safe."""

    def __init__(
        self,
        push: Callable[[Ready, Scheduled], Awaitable[None]],
        put_back: Callable[[Mapping[str, float]], Awaitable[None]],
    ) -> None:
        self._push = push
        self._put_back = put_back
        self._ready: dict[str, Priority] = {}
        self._scheduled: dict[str, float] = {}
        #: Members that were popped before, each with its due time by the loop's clock.
        self._again: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._ready) + len(self._scheduled) + len(self._again)

    def add(self, ready: Ready, scheduled: Scheduled) -> None:
        for lane, ids in ready.items():
            self._ready |= dict.fromkeys(ids[: max(0, LIMIT - len(self))], lane)
        for name, due_ms in scheduled.items():
            if len(self) < LIMIT:
                self._scheduled[name] = due_ms
        self._begin()

    def add_again(self, members: Mapping[str, float]) -> None:
        """Members that could not be put back, due so many ms from now."""
        now = asyncio.get_running_loop().time()
        for name, ms in members.items():
            if len(self) < LIMIT:
                self._again[name] = now + ms / 1000
        self._begin()

    def _begin(self) -> None:
        if len(self) and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="list what was refused")

    async def close(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        pause_s = _PAUSE_S
        while len(self):
            await asyncio.sleep(pause_s)
            count = len(self)
            try:
                await self._list()
            except NamespaceTaken as error:
                log.warning("%d jobs were not listed in Redis: %s", len(self), error)
                self._ready.clear()
                self._scheduled.clear()
                self._again.clear()
            except StoreUnavailable:
                pause_s = min(_MAX_PAUSE_S, pause_s * 1.5)
            else:
                log.info("Redis takes writes again: listed %d jobs", count)

    async def _list(self) -> None:
        ready: dict[Priority, list[str]] = {}
        for job, lane in self._ready.items():
            ready.setdefault(lane, []).append(job)
        scheduled, again = dict(self._scheduled), dict(self._again)
        if ready or scheduled:
            await self._push(ready, scheduled)
        for ids in ready.values():
            for job in ids:
                self._ready.pop(job, None)
        for name in scheduled:
            self._scheduled.pop(name, None)
        now = asyncio.get_running_loop().time()
        if again:
            await self._put_back({name: max(0.0, due - now) * 1000 for name, due in again.items()})
        for name in again:
            self._again.pop(name, None)
