"""Wait for jobs: events say when to look, the record says what there is."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from typing import Final, Protocol

from dtqkit.control import Control
from dtqkit.ending import end
from dtqkit.errors import JobNotFound, StoreUnavailable
from dtqkit.events import Batch, JobEvent, Line, ProgressEvent
from dtqkit.jobs import TERMINAL, Job

#: How often the record is asked anyway, in seconds: while events come, and while they do not.
POLL_S: Final = 5.0
POLL_DEAF_S: Final = 0.5
#: Ids in one look.
_CHUNK: Final = 1000


class Follows(Protocol):
    """Somebody who wants to hear of one job as it goes."""

    def on_event(self, event: JobEvent | ProgressEvent) -> None: ...
    def on_job(self, job: Job) -> None: ...


class Waiter:
    """One subscription, one poll and one look-up for everybody who waits on this loop."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._waiting: dict[str, list[asyncio.Future[Job]]] = {}
        self._followers: dict[str, weakref.WeakSet[Follows]] = {}
        self._look: set[str] = set()
        self._wake = asyncio.Event()
        self._deaf = True
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe = lambda: None

    async def wait(self, job_id: str) -> Job:
        """The job once it is over. Cancelling this leaves the job alone."""
        done: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, []).append(done)
        self._start()
        self._ask({job_id})
        try:
            return await done
        finally:
            waiting = self._waiting.get(job_id, [])
            if done in waiting:
                waiting.remove(done)
            if not waiting:
                self._waiting.pop(job_id, None)

    def follow(self, job_id: str, follower: Follows) -> None:
        """Tell `follower` of the job's events for as long as it lives."""
        self._followers.setdefault(job_id, weakref.WeakSet()).add(follower)
        self._start()
        self._ask({job_id})

    async def close(self) -> None:
        self._unsubscribe()
        if self._task is not None:
            await end(self._task)
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()

    def _start(self) -> None:
        if self._task is None:
            self._unsubscribe = self._control.subscribe(self._heard)
            self._task = asyncio.create_task(self._run(), name="wait for jobs")

    def _ask(self, job_ids: Iterable[str]) -> None:
        self._look.update(job_ids)
        self._wake.set()

    def _heard(self, batch: Batch | Line) -> None:
        if isinstance(batch, Line):
            self._deaf = batch is Line.DOWN
            if batch is Line.UP:  # whatever was missed, the record has it
                self._ask(self._waiting)
                self._ask(self._followers)
            return
        for event in batch.jobs:
            if event.status in TERMINAL and (event.id in self._waiting or event.id in self._followers):
                self._ask({event.id})
            for follower in self._followers.get(event.id, ()):
                follower.on_event(event)
        for news in batch.progress:
            for follower in self._followers.get(news.id, ()):
                follower.on_event(news)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL_DEAF_S if self._deaf else POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                self._look.update(self._waiting)
            self._wake.clear()
            await asyncio.sleep(0)  # let those who come in the same turn share the look
            look, self._look = list(self._look), set()
            try:
                for start in range(0, len(look), _CHUNK):
                    await self._see(look[start : start + _CHUNK])
            except StoreUnavailable:
                self._look.update(look)
                self._deaf = True  # so as to look again soon

    async def _see(self, job_ids: list[str]) -> None:
        found = await self._control.get_many(job_ids)
        for missing in set(job_ids) - {job.id for job in found}:
            for future in self._waiting.pop(missing, ()):
                if not future.done():
                    future.set_exception(JobNotFound(missing))
        for job in found:
            for follower in self._followers.get(job.id, ()):
                follower.on_job(job)
            if job.is_over:
                self._followers.pop(job.id, None)
                for future in self._waiting.pop(job.id, ()):
                    if not future.done():
                        future.set_result(job)
