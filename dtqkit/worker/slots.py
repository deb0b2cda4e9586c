"""How many jobs a worker may still take: of those that run on its loop or in threads, and of those for a child."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

from bson import ObjectId

#: Coroutines and threads share the slots of the worker's own process; a `def` needs a child that is ready.
Kind: TypeAlias = Literal["loop", "process"]


#: How long a job that has lost a worker must run before it counts as safe, in seconds.
PROBATION_S: Final = 0.5
#: Seconds after which the number of safe ones is forgotten.
_TRUST_S: Final = 60.0


class Free(NamedTuple):
    """Free slots by kind."""

    loop: int
    process: int

    def of(self, kind: Kind) -> int:
        return self.loop if kind == "loop" else self.process

    def __bool__(self) -> bool:
        return self.loop > 0 or self.process > 0


class _Count:
    """Slots of one kind."""

    __slots__ = ("borrowed", "coming", "lent", "running")

    def __init__(self) -> None:
        #: Jobs that hold a slot.
        self.running = 0
        #: Of these, those that have not asked for a child yet.
        self.coming = 0
        #: Running jobs that wait for others, and jobs that run in the slots which these lend.
        self.lent = 0
        self.borrowed = 0


class Suspects:
    """Jobs that have lost a worker before: one of them may have killed it.

    One runs at a time until it has run for PROBATION_S or has ended; with each that proves safe, one more may begin at
    the same time. So what kills its worker at once takes few of the others along, and many that do not are soon all
    running.
    """

    def __init__(self) -> None:
        self._unproven: set[ObjectId] = set()
        self._trusted = 0
        self._trusted_at = 0.0

    def may_begin(self, now: float) -> bool:
        if not self._unproven and now - self._trusted_at > _TRUST_S:
            self._trusted = 0
        return len(self._unproven) <= self._trusted

    def begun(self, claim: ObjectId) -> None:
        self._unproven.add(claim)

    def forget(self, claim: ObjectId) -> None:
        """It has never begun."""
        self._unproven.discard(claim)

    def proven(self, claim: ObjectId, now: float) -> None:
        """It has run for a while, or has ended, and this worker still runs."""
        if claim in self._unproven:
            self._unproven.discard(claim)
            self._trusted += 1
            self._trusted_at = now


class Slots:
    """Slots of one worker. A job holds one until it has really run; its unsettled end is bounded too.

    A job that waits for other jobs lends its slot, but only to what is waited for: so a worker whose slots are all
    taken by such jobs goes on, and never runs more than twice as many jobs for each level of waiting.
    """

    def __init__(self, concurrency: int, ready: Callable[[], int]) -> None:
        """`ready` says how many children could begin a job now."""
        self._concurrency = concurrency
        self._ready = ready
        self._kinds: dict[Kind, _Count] = {"loop": _Count(), "process": _Count()}
        self._unsettled = 0
        #: Running jobs that wait for others.
        self.lent = 0
        self._changed = asyncio.Event()
        self.suspects = Suspects()
        #: The claim of the job that must have the worker to itself, while it runs here.
        self.alone: ObjectId | None = None

    @property
    def running(self) -> int:
        return sum(count.running for count in self._kinds.values())

    def lent_of(self, kind: Kind) -> int:
        return self._kinds[kind].lent

    def take(self, kind: Kind, *, borrowed: bool = False) -> None:
        count = self._kinds[kind]
        count.running += 1
        count.coming += 1
        count.borrowed += borrowed
        self._unsettled += 1

    def begins(self, kind: Kind) -> None:
        """A job that took a slot asks for its child now, or needs none."""
        self._kinds[kind].coming -= 1

    def ran(self, kind: Kind, claim: ObjectId, *, borrowed: bool = False) -> None:
        """A job's task is over; its end is not recorded yet."""
        count = self._kinds[kind]
        count.running -= 1
        count.borrowed -= borrowed
        if self.alone is not None and self.alone == claim:
            self.alone = None
        self._changed.set()

    def lend(self, kind: Kind, change: int) -> None:
        """A running job begins (1) or ends (-1) to wait for other jobs."""
        self._kinds[kind].lent += change
        self.lent += change
        self._changed.set()

    def settled(self, count: int) -> None:
        self._unsettled -= count
        self._changed.set()

    def wake(self) -> None:
        self._changed.set()

    def _children(self) -> int:
        return self._ready() - self._kinds["process"].coming

    def now(self) -> Free:
        """What is free now, beside what waiting jobs lend."""
        if self.alone is not None or self._unsettled >= 2 * self._concurrency + self.running:
            return Free(0, 0)
        loop, process = self._kinds["loop"], self._kinds["process"]
        spare = max(0, process.lent - process.borrowed)
        return Free(
            max(0, self._concurrency - (loop.running - loop.borrowed)),
            max(0, self._children() - spare),
        )

    def lending(self) -> Free:
        """What waiting jobs lend, and no job has taken: also those of a job that has the worker to itself."""
        loop, process = self._kinds["loop"], self._kinds["process"]
        return Free(
            max(0, loop.lent - loop.borrowed),
            max(0, min(process.lent - process.borrowed, self._children())),
        )

    def mark(self) -> None:
        """From now on, `change` returns at once if something has changed since."""
        self._changed.clear()

    async def change(self, patience_s: float) -> bool:
        """Wait until something changes, at most so long; whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._changed.wait()
        return self._changed.is_set()

    async def empty(self, stopping: asyncio.Event) -> bool:
        """Wait until nothing runs but what waits for other jobs; False when the worker is asked to stop before, or when
        one more job begins to wait: perhaps for the one that wants the worker to itself."""
        lent = self.lent
        while self.running > self.lent and self.lent <= lent and not stopping.is_set():
            self._changed.clear()
            await self._changed.wait()
        return self.running <= self.lent and not stopping.is_set()
