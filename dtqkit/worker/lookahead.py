"""Look at the front of the lanes, and take out what fits the one kind of slot that is free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.broker.keys import split_member
from dtqkit.jobs import Priority, is_job_id
from dtqkit.store import Store
from dtqkit.worker.kinds import Kinds
from dtqkit.worker.slots import Kind

#: Ids of each lane that one look sees; a look that finds nothing is followed by one further behind.
WINDOW: Final = 256
#: Pauses between looks that find nothing, in seconds: doubled up to the longest.
MIN_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 1.0
#: Jobs whose task is remembered, so that each is looked up once.
_REMEMBERED: Final = 20_000


class LookAhead:
    """One worker's looks at its lanes."""

    def __init__(self, broker: Broker, store: Store, kinds: Kinds, lanes: Sequence[Priority]) -> None:
        self._broker = broker
        self._store = store
        self._kinds = kinds
        self._lanes = tuple(lanes)
        self._tasks: dict[str, str] = {}
        self._behind = 0
        self._pause_s = MIN_PAUSE_S

    def pause_s(self) -> float:
        """How long to wait after a look that found nothing: not at all while there is more to see."""
        if self._behind:
            return 0.0
        pause_s, self._pause_s = self._pause_s, min(MAX_PAUSE_S, self._pause_s * 2)
        return pause_s

    async def take(self, kind: Kind, limit: int) -> list[str]:
        """Take out up to `limit` jobs of `kind`, in the order of the lanes; they are then in flight."""
        seen = await self._broker.peek(self._lanes, self._behind, WINDOW)
        await self._look_up([job for name in seen if is_job_id(job := name.partition(":")[2])])
        fitting = [name for name in seen if self._kind_of(name) == kind][:limit]
        taken = await self._broker.take(fitting) if fitting else []
        if taken:
            self._behind, self._pause_s = 0, MIN_PAUSE_S
        else:
            self._behind = self._behind + WINDOW if len(seen) >= WINDOW else 0
        return taken

    def _kind_of(self, name: str) -> Kind | None:
        task = self._tasks.get(split_member(name)[1])
        return None if task is None else self._kinds.of(task)

    async def _look_up(self, job_ids: Sequence[str]) -> None:
        unknown = [job for job in dict.fromkeys(job_ids) if job not in self._tasks]
        if not unknown:
            return
        if len(self._tasks) > _REMEMBERED:
            self._tasks.clear()
        self._tasks.update(await self._store.jobs.tasks_of([ObjectId(job) for job in unknown]))
