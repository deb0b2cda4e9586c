"""Ids that Redis refused to list: listed as soon as it takes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from dtqkit.ending import end
from dtqkit.errors import NamespaceTaken, StoreUnavailable
from dtqkit.jobs import Priority

log = logging.getLogger("dtqkit.queue")

#: Ids that are kept; the leader's audit lists the others.
LIMIT: Final = 10_000
#: Pauses between two tries, in seconds.
_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 1.0

Ready = Mapping[Priority, Sequence[str]]
Scheduled = Mapping[str, float]


class Unlisted:
    """Best effort: they are in the record, whatever becomes of this process. Listed twice does no harm."""

    def __init__(self, push: Callable[[Ready, Scheduled], Awaitable[None]]) -> None:
        self._push = push
        self._ready: dict[str, Priority] = {}
        self._scheduled: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._ready) + len(self._scheduled)

    def add(self, ready: Ready, scheduled: Scheduled) -> None:
        for lane, ids in ready.items():
            self._ready |= dict.fromkeys(ids[: max(0, LIMIT - len(self))], lane)
        for name, due_ms in scheduled.items():
            if len(self) < LIMIT:
                self._scheduled[name] = due_ms
        if len(self) and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="list what was refused")

    async def close(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        pause_s = _PAUSE_S
        while len(self):
            await asyncio.sleep(pause_s)
            ready: dict[Priority, list[str]] = {}
            for job, lane in self._ready.items():
                ready.setdefault(lane, []).append(job)
            scheduled, count = dict(self._scheduled), len(self)
            try:
                await self._push(ready, scheduled)
            except NamespaceTaken as error:
                log.warning("%d jobs are not listed: %s", count, error)
                self._ready.clear()
                self._scheduled.clear()
            except StoreUnavailable:
                pause_s = min(_MAX_PAUSE_S, pause_s * 1.5)
            else:
                for ids in ready.values():
                    for job in ids:
                        self._ready.pop(job, None)
                for name in scheduled:
                    self._scheduled.pop(name, None)
                log.info("Redis takes writes again: %d jobs are listed", count)
