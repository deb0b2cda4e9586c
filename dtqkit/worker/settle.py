"""Record how attempts ended: together when many end at once, again and again while MongoDB is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final

import msgspec
from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.broker.keys import member
from dtqkit.errors import DocumentRefused, StoreUnavailable
from dtqkit.events import JobEvent, encode_batch
from dtqkit.jobs import Job, JobError, Status
from dtqkit.lifecycle import decide
from dtqkit.outcomes import Change, Failure, Outcome
from dtqkit.store import Store
from dtqkit.store.jobs import Settlement
from dtqkit.worker.claim import Claimed
from dtqkit.worker.context import shortened
from dtqkit.worker.joblog import JobLog, wait_ms
from dtqkit.worker.trail import Trail

log = logging.getLogger("dtqkit.worker")

#: Ends that one write may carry.
MAX_BATCH: Final = 1000
MAX_PAUSE_S: Final = 2.0
#: Tries of one end that meets errors which say nothing of it, nor of MongoDB.
MAX_BROKEN: Final = 6


class End(msgspec.Struct, frozen=True):
    """What became of a claimed job."""

    claimed: Claimed
    change: Change
    trail: Trail

    def settlement(self) -> Settlement:
        claimed = self.claimed
        return Settlement(claimed.id, claimed.claim, claimed.job.token, self.change, self.trail.document())


class Settler:
    """Settles in the order of arrival; `settled` is called with the claims whose end is known."""

    def __init__(
        self,
        broker: Broker,
        store: Store,
        *,
        settled: Callable[[list[Claimed]], None],
        rng: random.Random,
        log_jobs: bool = False,
    ) -> None:
        self._broker = broker
        self._store = store
        self._settled = settled
        self._rng = rng
        self._job_log = JobLog(enabled=log_jobs)
        self._ends: list[End] = []
        self._arrived = asyncio.Event()
        self._closing = False
        self.completed = 0
        self.failed = 0

    def put(self, claimed: Claimed, outcome: Outcome, began: float | None, trail: Trail) -> None:
        """Record `outcome` of an attempt that began at `began` by the loop's clock; None: it never did."""
        change = decide(claimed.job, outcome, self._rng, start_ms(claimed, began))
        self._ends.append(End(claimed, change, trail))
        self._arrived.set()

    def finish(self) -> None:
        """Let `run` return once everything is recorded."""
        self._closing = True
        self._arrived.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._ends:
                batch, self._ends = self._ends[:MAX_BATCH], self._ends[MAX_BATCH:]
                await self._settle(batch)
            if self._closing:
                self._job_log.close()
                return

    async def _settle(self, batch: list[End]) -> None:
        done = await self._write(batch)
        self._settled([end.claimed for end in batch])
        for end in done:
            if end.change.ending == "completed":
                self.completed += 1
            elif end.change.ending in ("failed", "timeout", "crashed"):
                self.failed += 1
        self._job_log.ended((end.claimed.job, end.change) for end in done)
        await self._tell(done)
        if dead := [end.claimed.id for end in done if end.change.status == "failed"]:
            await self._bury(dead)

    async def _write(self, batch: list[End]) -> list[End]:
        """Until the record has it, however long MongoDB refuses. Returns what was written, where a claim still held.

        An end that cannot be written is found by halves, so that no other waits for it.
        """
        pause_s = 0.0
        stripped = False
        broken = 0
        while True:
            try:
                lost = await self._store.jobs.settle([end.settlement() for end in batch])
            except StoreUnavailable as error:
                if not pause_s:
                    log.warning("%d ends are kept until MongoDB takes them: %s", len(batch), error)
            except Exception as error:
                if len(batch) > 1:
                    half = len(batch) // 2
                    parts = await asyncio.gather(self._write(batch[:half]), self._write(batch[half:]))
                    return [written for part in parts for written in part]
                known = isinstance(error, DocumentRefused)
                broken += not known
                if stripped if known else broken == MAX_BROKEN:
                    self._give_up(batch[0], error)
                    return []
                if known:
                    job = batch[0].claimed.job.id
                    log.error("the end of job %s cannot be recorded as it is: %s", job, error)  # noqa: TRY400 - no traceback of ours
                    batch, stripped = [self._unwritable(batch[0], error)], True
                    continue
            else:
                if lost:
                    log.warning("%d ends were not recorded: the jobs had been taken away or were over", len(lost))
                return [end for i, end in enumerate(batch) if i not in lost]
            pause_s = min(MAX_PAUSE_S, pause_s * 2 or 0.05)
            await asyncio.sleep(pause_s)

    def _give_up(self, end: End, error: Exception) -> None:
        """Its job is not held from now on: once its lease is over, it counts as lost and may run again."""
        job, known = end.claimed.job.id, isinstance(error, DocumentRefused)
        log.error(
            "the end of job %s is left to its lease, since it cannot be recorded: %s", job, error, exc_info=not known
        )

    def _unwritable(self, end: End, error: Exception) -> End:
        reason = JobError("invalid_result", type(error).__name__, shortened(str(error)[:500]))
        change = decide(end.claimed.job, Failure(reason, end.change.run_ms), self._rng, end.change.start_ms)
        return End(end.claimed, change, Trail())

    async def _tell(self, done: list[End]) -> None:
        """What waits again goes to its lane, and everybody hears of it. Redis away: once it takes writes."""
        released: dict[str, float] = {}
        later: dict[str, float] = {}
        now_ms = self._store.now().timestamp() * 1000
        for end in done:
            job, change = end.claimed.job, end.change
            if change.status == "pending" and change.ending != "cancelled":
                released[member(job.priority, job.id)] = 0.0
            elif change.status == "scheduled":
                later[member(job.priority, job.id)] = now_ms + change.delay_s * 1000
        events = encode_batch([event_of_end(end.claimed.job, end.change) for end in done])
        try:
            await self._broker.push({}, later, events)
        except StoreUnavailable:
            log.debug("events for %d ends were not published: Redis is unreachable", len(done))
        if released:
            with contextlib.suppress(StoreUnavailable):  # put back once it takes writes
                await self._broker.put_back(released)

    async def _bury(self, ids: list[ObjectId]) -> None:
        """The dead letters of what has just died; recovery writes what this misses."""
        try:
            docs = await self._store.jobs.find(ids, heavy=False)
            await self._store.dead.project([doc for doc in docs if doc["status"] == "failed"])
        except StoreUnavailable as error:
            log.warning("%d dead letters are left to the recovery: %s", len(ids), error)


def event_of_end(job: Job, change: Change) -> JobEvent:
    """What to tell of `job` after `change`. If it was cancelled in between, the next look at the record says so."""
    status: Status = "cancelled" if change.ending == "cancelled" else change.status
    error = change.error
    return JobEvent(
        id=job.id,
        rev=job.rev + 2,
        status=status,
        task=job.task,
        priority=job.priority,
        worker=job.worker,
        wait_ms=wait_ms(job, change),
        run_ms=change.run_ms,
        error=f"{error.type}: {error.message}"[:200] if error else None,
    )


#: An attempt's begin is recorded to this many ms: finer is noise, and equal ends can share one write.
_START_STEP_MS: Final = 10


def start_ms(claimed: Claimed, began: float | None) -> int | None:
    """Milliseconds from the claim, which MongoDB made between our asking and its answer, to the first line."""
    if began is None:
        return None
    since_ms = (began - (claimed.sent + claimed.known) / 2) * 1000
    return max(0, int(since_ms // _START_STEP_MS) * _START_STEP_MS)
