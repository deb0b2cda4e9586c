"""Look at the front of the lanes, and take out what fits the slots that are free."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from itertools import islice
from typing import Final

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.jobs import Priority, is_job_id
from dtqkit.store import Store
from dtqkit.worker.kinds import Kinds
from dtqkit.worker.slots import Free, Kind
from dtqkit.worker.unknown import UnknownTasks

#: Ids of each lane that one look sees; a look that finds nothing is followed by one further behind, so many times.
WINDOW: Final = 256
WINDOWS: Final = 16
#: Pauses between looks that find nothing, in seconds: doubled up to the longest, and so many times as long as the look
#: took, which bounds what looks cost a busy worker.
MIN_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 0.25
_TIMES_AS_LONG: Final = 20
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
        self._lanes = tuple(lanes)
        #: The task of each job that was looked up; empty for what waits no more.
        self._tasks: dict[str, str] = {}
        #: Whether the last look saw a job that would be popped in vain.
        self.unfit = False
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
        seen = await self._broker.peek(self._lanes, self._behind, WINDOW)
        await self._look_up([job for name in seen if (job := name.partition(":")[2]) not in self._tasks])
        fitting: list[str] = []
        left: dict[Kind, int] = {"loop": free.loop, "process": free.process}
        self.unfit = False
        for name in seen:
            job = name.partition(":")[2]
            task = self._tasks.get(job)
            kind = self._kinds.of(task) if task else None
            if not task:
                fitting.append(name)
            elif kind is None or job in avoided or (kind != likely and not free.of(kind)):
                self.unfit = True
                if kind is None:
                    self._unknown.left(task)
            elif left[kind] > 0:
                left[kind] -= 1
                fitting.append(name)
        taken = await self._broker.take(fitting) if fitting else []
        if taken:
            self._behind, self._pause_s = 0, MIN_PAUSE_S
        else:
            more = len(seen) >= WINDOW and self._behind < WINDOW * (WINDOWS - 1)
            self._behind = self._behind + WINDOW if more else 0
        return taken

    async def _look_up(self, job_ids: Sequence[str]) -> None:
        unknown = [job for job in dict.fromkeys(job_ids) if is_job_id(job)]
        if not unknown:
            return
        if (surplus := len(self._tasks) + len(unknown) - _REMEMBERED) > 0:
            for job in list(islice(self._tasks, surplus)):
                del self._tasks[job]  # the oldest
        self._tasks |= dict.fromkeys(unknown, "")
        self._tasks.update(await self._store.jobs.tasks_of([ObjectId(job) for job in unknown]))
