"""Wait for jobs and follow them: events say when to look, only a record says what a job is.

An event may be lost, late, doubled or out of order, so nothing is concluded from one: it makes this look at the record.

A look at many jobs asks for their statuses first, and reads the records only of those that have changed: a result
is sent once, however long it is waited for, and a payload never, since each handle has it.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from dtqkit.control import Control, JobsRequest, JobStatus
from dtqkit.control.operations import RECORDS, STATUSES
from dtqkit.model.errors import JobNotFound, StoreUnavailable
from dtqkit.model.events import Batch, Line, ProgressEvent
from dtqkit.model.jobs import FINAL, TERMINAL, Job
from dtqkit.support.cancel import end

log = logging.getLogger("dtqkit.queue")

#: How often jobs that are waited for are looked at anyway, in seconds: while events come, and while they do not.
POLL_S: Final = 5.0
POLL_DEAF_S: Final = 0.5
#: How old the record of a handle may be when it is read, in seconds: while events come, and while they do not. An
#: older one is looked at again.
FRESH_S: Final = 1.0
FRESH_DEAF_S: Final = 0.25
#: What is no hurry (a change that is not an end, a handle that is read again) is looked at after this time, in seconds,
#: so that what comes meanwhile shares the look.
COALESCE_S: Final = 0.1
#: The longest pause between two looks at very many jobs while no events come, and of how many jobs a second.
MAX_POLL_DEAF_S: Final = 2.0
POLLED_A_SECOND: Final = 1000
#: Ids in one look; records that are read at a time; ids that are so few that their records are read at once.
CHUNK: Final = 1000
AT_A_TIME: Final = 200
FEW: Final = 20


class Follows(Protocol):
    """Somebody who wants the records of one job as they change, without their payloads."""

    @property
    def rev(self) -> int: ...

    def on_job(self, job: Job) -> None: ...
    def on_progress(self, news: ProgressEvent) -> None: ...


def chunks(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


class _Wait:
    """Somebody who waits until some jobs are over: `left` has their handles, which get the records first."""

    __slots__ = ("done", "left", "over")

    def __init__(self, handles: Mapping[str, Sequence[Follows]], over: Callable[[str], None]) -> None:
        self.left = dict(handles)
        self.over = over
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(self, job_id: str) -> None:
        if job_id in self.left and not self.done.done():
            del self.left[job_id]
            self.over(job_id)
            if not self.left:
                self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Waiter:
    """One subscription, one poll and one look-up for all handles of this loop."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._waiting: dict[str, list[_Wait]] = {}
        self._followers: dict[str, list[weakref.ref[Follows]]] = {}
        self._look: set[str] = set()
        self._later: set[str] = set()
        #: Of those that are to be looked at, those that are over, as an event says.
        self._ended: set[str] = set()
        self._wake = asyncio.Event()
        self._deaf = True
        self._failed = False
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe = lambda: None

    @property
    def fresh_s(self) -> float:
        """How old a record that is read may be, in seconds."""
        return FRESH_DEAF_S if self._deaf else FRESH_S

    async def wait(self, handles: Mapping[str, Sequence[Follows]], over: Callable[[str], None]) -> None:
        """Until all these jobs, given with their handles, are over; `over` gets the id of each as soon as it is.

        What ended before is found too: by a look that begins after this call. Cancelling this leaves the jobs alone.
        """
        if not handles:
            return
        wait = _Wait(handles, over)
        ids = list(wait.left)
        for job_id in ids:
            self._waiting.setdefault(job_id, []).append(wait)
        self._start()
        self._ask(ids)
        try:
            await wait.done
        finally:
            for job_id in ids if wait.left else ():
                self._forget(job_id, wait)

    def _forget(self, job_id: str, wait: _Wait) -> None:
        waiting = self._waiting.get(job_id, [])
        if wait in waiting:
            waiting.remove(wait)
        if not waiting:
            self._waiting.pop(job_id, None)

    def follow(self, job_id: str, follower: Follows) -> None:
        """Give `follower` the job's record soon, and again when it changes, for as long as it lives."""
        followers = self._followers.setdefault(job_id, [])
        self._start()
        if any(known() is follower for known in followers):
            self._ask_later(job_id)
        else:
            followers.append(weakref.ref(follower))
            self._ask((job_id,))

    async def close(self) -> None:
        self._unsubscribe()
        if self._task is not None:
            await end(self._task)
        for waits in self._waiting.values():
            for wait in waits:
                wait.done.cancel()

    def _start(self) -> None:
        if self._task is None:
            self._unsubscribe = self._control.subscribe(self._on_events)
            self._task = asyncio.create_task(self._run(), name="wait for jobs")

    def _ask(self, job_ids: Iterable[str]) -> None:
        self._look.update(job_ids)
        self._wake.set()

    def _ask_later(self, job_id: str) -> None:
        if not self._later:
            asyncio.get_running_loop().call_later(COALESCE_S, self._ask_now)
        self._later.add(job_id)

    def _ask_now(self) -> None:
        later, self._later = self._later, set()
        self._ask(later)

    def _on_events(self, batch: Batch | Line) -> None:
        if isinstance(batch, Line):
            self._deaf = batch is Line.DOWN
            if batch is Line.UP:  # whatever was missed, the record has it
                self._ask(self._waiting)
                self._ask(self._followers)
            return
        for event in batch.jobs:
            followed = event.id in self._followers
            if event.status in TERMINAL and (followed or event.id in self._waiting):
                self._ended.add(event.id)
                self._ask((event.id,))
            elif followed:
                self._ask_later(event.id)
        for news in batch.progress:
            for follower in self._alive(news.id):
                follower.on_progress(news)

    def _alive(self, job_id: str) -> list[Follows]:
        """Those who still follow the job; those that are gone are forgotten."""
        known = self._followers.get(job_id)
        if known is None:
            return []
        alive = [(ref, follower) for ref in known if (follower := ref()) is not None]
        if not alive:
            del self._followers[job_id]
        elif len(alive) < len(known):
            known[:] = [ref for ref, _ in alive]
        return [follower for _, follower in alive]

    def _poll_s(self) -> float:
        if not (self._deaf or self._failed):
            return POLL_S
        return max(POLL_DEAF_S, min(MAX_POLL_DEAF_S, len(self._waiting) / POLLED_A_SECOND))

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout(self._poll_s()):
                    await self._wake.wait()
            except TimeoutError:
                self._look.update(self._waiting)
            self._wake.clear()
            await asyncio.sleep(0)  # let those who come in the same turn share the look
            look, self._look = list(self._look), set()
            ended, self._ended = self._ended, set()
            began = clock()
            self._failed = False
            try:
                for some in chunks(look, CHUNK):
                    await self._see(some, ended)
            except StoreUnavailable:
                self._look.update(look)  # again at the next poll
                self._failed = True
            except Exception as error:
                self._fail(look, error)
            if len(look) > CHUNK:  # at most half of the time goes into looks at very many
                await asyncio.sleep(clock() - began)

    def _fail(self, job_ids: list[str], error: Exception) -> None:
        """All callers that wait get the error: without it, they would wait forever."""
        log.warning("jobs that are waited for cannot be read: %r", error)
        for job_id in job_ids:
            for wait in self._waiting.pop(job_id, ()):
                wait.fail(error)

    async def _see(self, job_ids: Sequence[str], ended: Collection[str]) -> None:
        # Who comes while the look is under way may know better than what it brings: for them, there is another one.
        asked = {job_id: tuple(self._waiting.get(job_id, ())) for job_id in job_ids}
        missing = set(job_ids)
        changed = [job_id for job_id in job_ids if job_id in ended or len(job_ids) <= FEW]
        unknown = [job_id for job_id in job_ids if job_id not in ended] if len(job_ids) > FEW else []
        for seen in await self._control.ask(STATUSES, JobsRequest(ids=unknown)) if unknown else ():
            missing.discard(seen.id)
            if self._is_news(seen, asked[seen.id]):
                changed.append(seen.id)
            elif seen.status in FINAL:
                self._followers.pop(seen.id, None)
        for ids in chunks(changed, AT_A_TIME):
            for job in await self._control.ask(RECORDS, JobsRequest(ids=ids, payload=False)):
                missing.discard(job.id)
                waits = asked.get(job.id, ()) if job.is_over else ()
                waiting = [handle for wait in waits for handle in wait.left.get(job.id, ())]
                for handle in (*self._alive(job.id), *waiting):
                    handle.on_job(job)
                for wait in waits:
                    wait.ended(job.id)
                    self._forget(job.id, wait)
                if job.is_over and (job.is_final or not self._alive(job.id)):
                    self._followers.pop(job.id, None)
        for job_id in missing:
            self._followers.pop(job_id, None)
            for wait in asked[job_id]:
                wait.fail(JobNotFound(job_id))
                self._forget(job_id, wait)

    def _is_news(self, seen: JobStatus, waits: Collection[_Wait]) -> bool:
        """Whether somebody wants the record of a job that stands like this."""
        if waits and seen.status in TERMINAL:
            return True
        return any(follower.rev < seen.rev for follower in self._alive(seen.id))
