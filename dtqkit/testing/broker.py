"""Redis in memory, as far as a queue and its transitions use it. There are no lanes: what is due is in the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence, Set
from datetime import datetime
from typing import Final

from typing_extensions import override

from dtqkit._version import VERSION
from dtqkit.broker import Broker
from dtqkit.broker.found import RedisState
from dtqkit.broker.parking import Parking
from dtqkit.broker.unlisted import Ready, Scheduled
from dtqkit.model.events import Batch, Depths, Heartbeat, ProgressEvent, decode_batch
from dtqkit.model.jobs import PRIORITIES, Priority
from dtqkit.testing.mongo.collection import Collection

#: The id and the name of the worker that a TestQueue has.
WORKER: Final = "test-worker"


class NoParking(Parking):
    """Nothing is parked where there are no lanes: paused jobs are not due."""

    def __init__(self) -> None:
        """Without Parking.__init__, which needs a connection."""

    @override
    async def announce(self, version: int) -> None:
        pass

    @override
    async def park(self, version: int, members: Mapping[str, float]) -> bool:
        return True

    @override
    async def parked(self, start: int, count: int) -> list[str]:
        return []

    @override
    async def unpark(self, members: Sequence[str]) -> int:
        return 0

    @override
    async def unlist(self, lane: Priority, ids: Set[str]) -> int:
        return 0

    @override
    async def unschedule(self, *, scheduled: Sequence[str], parked: Sequence[str]) -> None:
        pass


class MemoryBroker(Broker):
    """Events go to who listens; a request to stop goes to the jobs that run; all else is in the record."""

    def __init__(self, jobs: Collection, now: Callable[[], datetime]) -> None:
        # Without Broker.__init__, which would connect.
        self._jobs = jobs
        self._now = now
        self._started_at = now()
        self.parking: Parking = NoParking()
        self._listeners: list[asyncio.Queue[Batch]] = []
        #: Stops running jobs; what they show; how many there are; names of the tasks that are known.
        self.stop: Callable[[Iterable[str]], None] = lambda _: None
        self.shown: Callable[[], Mapping[str, ProgressEvent]] = dict
        self.tasks: Callable[[], Iterable[str]] = tuple

    @property
    @override
    def record(self) -> str:
        return "memory"

    @property
    @override
    def owned(self) -> bool:
        return True

    @override
    def check_owner(self) -> None:
        pass

    @override
    async def open(self, record: str) -> None:
        pass

    @override
    async def ask_owner(self) -> None:
        pass

    @override
    async def close(self) -> None:
        pass

    # -- lanes

    @override
    async def push(self, ready: Ready, scheduled: Scheduled | None = None, events: bytes | None = None) -> None:
        if events is not None:
            await self.publish(events)

    @override
    def push_later(self, ready: Ready, scheduled: Scheduled) -> None:
        pass

    @override
    async def put_back(self, members: Mapping[str, float]) -> None:
        pass

    @override
    async def unpop(self, members: Sequence[str]) -> None:
        pass

    @override
    async def depths(self) -> Depths:
        lanes = dict.fromkeys(PRIORITIES, 0)
        scheduled = 0
        now = self._now()
        for doc in self._jobs.docs.values():
            if doc["status"] == "pending" or (doc["status"] == "scheduled" and doc["due_at"] <= now):
                lanes[doc["priority"]] += 1
            elif doc["status"] == "scheduled":
                scheduled += 1
        return Depths(**lanes, scheduled=scheduled)

    @override
    async def note_schedules(self) -> None:
        """The runner sees each change of the record."""

    # -- workers

    @override
    async def workers(self) -> tuple[Heartbeat, ...]:
        running = self.shown()
        beat = Heartbeat(
            id=WORKER,
            name=WORKER,
            host="memory",
            pid=0,
            lanes=PRIORITIES,
            concurrency=max(1, len(running)),
            load=len(running),
            started_at=self._started_at,
            version=VERSION,
            status="working" if running else "idle",
            tasks=tuple(self.tasks()),
        )
        return (beat,)

    @override
    async def look(self, lock_s: float) -> RedisState:
        depths = await self.depths()
        now_ms = self._now().timestamp() * 1000
        return RedisState(now_ms, True, {lane: getattr(depths, lane) for lane in PRIORITIES}, {WORKER: now_ms})

    @override
    async def ask_to_stop(self, job_ids: Iterable[str]) -> None:
        self.stop(job_ids)

    # -- events

    @override
    async def live_progress(self, job_ids: Sequence[str]) -> dict[str, ProgressEvent]:
        shown = self.shown()
        return {job: shown[job] for job in job_ids if job in shown}

    @override
    async def publish(self, events: bytes) -> None:
        if self._listeners:
            batch = decode_batch(events)
            for listener in self._listeners:
                listener.put_nowait(batch)

    @override
    async def listen(self) -> AsyncIterator[Batch | None]:
        mine: asyncio.Queue[Batch] = asyncio.Queue()
        self._listeners.append(mine)
        try:
            yield None
            while True:
                yield await mine.get()
        finally:
            self._listeners.remove(mine)
