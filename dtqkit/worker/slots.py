"""How many jobs a worker may still take."""

from __future__ import annotations

import asyncio
import contextlib

from bson import ObjectId


class Slots:
    """Slots of one worker. A job holds one until it has run; its unsettled end is bounded too."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._running = 0
        self._unsettled = 0
        self._changed = asyncio.Event()
        #: The claim of the job that has lost a worker before and runs here now.
        self.suspect: ObjectId | None = None
        #: Whether that one must have the worker to itself.
        self.alone = False

    @property
    def running(self) -> int:
        return self._running

    def take(self) -> None:
        self._running += 1
        self._unsettled += 1

    def ran(self, claim: ObjectId) -> None:
        """A job's task is over; its end is not recorded yet."""
        self._running -= 1
        if self.suspect is not None and self.suspect == claim:
            self.suspect = None
            self.alone = False
        self._changed.set()

    def settled(self, count: int) -> None:
        self._unsettled -= count
        self._changed.set()

    def wake(self) -> None:
        self._changed.set()

    def _free(self) -> int:
        if self.alone or self._unsettled >= 2 * self._concurrency + self._running:
            return 0
        return self._concurrency - self._running

    async def free(self, patience_s: float | None = None) -> int:
        """How many jobs may be taken; waits for a change when there is none, so long at most: then it may return 0."""
        if self._free() <= 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._changed.wait()
        return max(0, self._free())

    def may_take_suspect(self) -> bool:
        return self.suspect is None

    async def empty(self, stopping: asyncio.Event) -> bool:
        """Wait until nothing runs; False when the worker is asked to stop before."""
        while self._running and not stopping.is_set():
            self._changed.clear()
            await self._changed.wait()
        return not stopping.is_set()
