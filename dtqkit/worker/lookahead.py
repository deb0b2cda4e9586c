"""Look at the front of the lanes, and take out what fits the slots that are free."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from itertools import islice
from typing import Final

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.broker.members import lane_of
from dtqkit.model.jobs import Priority, is_job_id
from dtqkit.store import Store
from dtqkit.worker.kinds import Kinds
from dtqkit.worker.slots import Free, Kind
from dtqkit.worker.unknown import UnknownTasks

#: Ids of each lane that one look sees at the front, and as many further behind: there, a look that finds nothing is
#: followed by the next, and one that finds something by the same. So far, then again from the front: to take out what
#: is further behind would cost Redis milliseconds for each.
WINDOW: Final = 256
DEPTH: Final = 512 * WINDOW
#: Pauses between looks that find nothing, in seconds: doubled up to the longest, and so many times as long as the look
#: took, which bounds what looks cost a busy worker.
MIN_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 0.25
_TIMES_AS_LONG: Final = 40
_AT_MOST_S: Final = 1.0
#: Jobs whose task is remembered, so that each is looked up once: more than all looks see in three lanes.
_REMEMBERED: Final = 20_000


class LookAhead:
    """One worker's looks at its lanes."""

    def __init__(
        self, broker: Broker, store: Store, kinds: Kinds, unknown: UnknownTasks, lanes: Sequence[Priority]
    ) -> None:
        self._broker = broker
        self._store = store
        self._kinds = kinds
        self._unknown = unknown
        #: Those that are not paused.
        self.lanes = tuple(lanes)
        #: The task of each job that waited when it was looked up.
        self._tasks: dict[str, str] = {}
        #: Whether the last look saw a job that could not begin here once it is popped.
        self.blocked = False
        self._behind = 0
        self._pause_s = MIN_PAUSE_S
        #: When to look again, by the loop's clock.
        self.next_at = 0.0

    def pause(self, since: float) -> None:
        """After a look since then that found nothing: leave the lanes alone, whatever slot is free meanwhile."""
        now = asyncio.get_running_loop().time()
        self.next_at = now + max(self._pause_s, min(_AT_MOST_S, _TIMES_AS_LONG * (now - since)))
        self._pause_s = min(MAX_PAUSE_S, self._pause_s * 2)

    async def take(self, free: Free, likely: Kind, avoided: Container[str] = ()) -> list[str]:
        """Take out what fits these free slots, in the order of the lanes, but none of the `avoided`; it is then in
        flight.

        What waits no more is taken out too: a claim finds nothing, and its id is gone.
        """
        front, behind = await self._seen()
        await self._look_up([job for name in (*front, *behind) if (job := name.partition(":")[2]) not in self._tasks])
        self.blocked = any(not self._fits(name, free, likely, avoided) for name in front)
        fitting: list[str] = []
        left: dict[Kind, int] = {"loop": free.loop, "process": free.process}
        for name in self._in_order(front, behind):
            task = self._tasks.get(name.partition(":")[2])
            kind = self._kinds.of(task) if task else None
            if task is None:
                fitting.append(name)
            elif kind is None:
                self._unknown.left(task)
            elif left[kind] > 0 and self._fits(name, free, likely, avoided):
                left[kind] -= 1
                fitting.append(name)
        taken = await self._broker.take(fitting) if fitting else []
        if taken:
            self._pause_s = MIN_PAUSE_S
        elif len(behind if self._behind else front) >= WINDOW and self._behind + WINDOW < DEPTH:
            self._behind += WINDOW
        else:
            self._behind = 0
        return taken

    async def _seen(self) -> tuple[list[str], list[str]]:
        """The front of the lanes, and the next part behind it."""
        if not self._behind:
            (front,) = await self._broker.peek(self.lanes, (0,), WINDOW)
            return front, []
        front, behind = await self._broker.peek(self.lanes, (0, self._behind), WINDOW)
        return front, behind

    def _in_order(self, front: Sequence[str], behind: Sequence[str]) -> list[str]:
        """All of a lane before the next lane; each once, since a lane may have moved on between two looks at it."""
        place = {lane: i for i, lane in enumerate(self.lanes)}
        # A lane that was paused since stays as it is.
        seen = [name for name in dict.fromkeys((*front, *behind)) if lane_of(name) in place]
        return sorted(seen, key=lambda name: place[lane_of(name)])

    def _fits(self, name: str, free: Free, likely: Kind, avoided: Container[str]) -> bool:
        """Whether it could begin here, once a slot of the likely kind is free."""
        job = name.partition(":")[2]
        task = self._tasks.get(job)
        if task is None:
            return True
        kind = self._kinds.of(task)
        return kind is not None and job not in avoided and (kind == likely or free.of(kind) > 0)

    async def _look_up(self, job_ids: Sequence[str]) -> None:
        unknown = [job for job in dict.fromkeys(job_ids) if is_job_id(job)]
        if not unknown:
            return
        if (surplus := len(self._tasks) + len(unknown) - _REMEMBERED) > 0:
            for job in list(islice(self._tasks, surplus)):
                del self._tasks[job]  # the oldest
        self._tasks.update(await self._store.jobs.tasks_of([ObjectId(job) for job in unknown]))
