"""Record the outcomes of attempts: many in one write, retried while MongoDB is unreachable."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from dtqkit.broker import Broker
from dtqkit.model.errors import DocumentRefused, StoreUnavailable
from dtqkit.model.jobs import JobError
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Outcome
from dtqkit.store import Store
from dtqkit.store.settlements import Settlement
from dtqkit.transitions.announce import Ended
from dtqkit.transitions.settle import as_failure, publish, record
from dtqkit.worker.attempt_log import AttemptLog
from dtqkit.worker.claim import Claimed
from dtqkit.worker.context import shortened
from dtqkit.worker.joblog import JobLog

log = logging.getLogger("dtqkit.worker")

#: Ends that one write may carry.
MAX_BATCH: Final = 1000
MAX_PAUSE_S: Final = 2.0
#: Tries of one outcome with errors that are caused neither by it nor by MongoDB.
MAX_BROKEN: Final = 6


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
        #: Ends to be recorded, and in the same order the claims that they are of.
        self._ends: list[Ended] = []
        self._claims: list[Claimed] = []
        self._arrived = asyncio.Event()
        self._closing = False
        self.completed = 0
        self.failed = 0

    def put(self, claimed: Claimed, outcome: Outcome, began: float | None, trail: AttemptLog) -> None:
        """Record `outcome` of an attempt that began at `began` by the loop's clock; None: it never did."""
        job = claimed.job
        change = decide(job, outcome, self._rng, start_ms(claimed, began))
        self._ends.append((job, Settlement(claimed.id, claimed.claim, job.token, change, trail.document())))
        self._claims.append(claimed)
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
                ends, self._ends = self._ends[:MAX_BATCH], self._ends[MAX_BATCH:]
                claims, self._claims = self._claims[:MAX_BATCH], self._claims[MAX_BATCH:]
                done = await self._write(ends)
                self._settled(claims)
                self._count(done)
                self._job_log.ended((job, settlement.change) for job, settlement in done)
                await publish(self._broker, self._store, done)
            if self._closing:
                self._job_log.close()
                return

    def _count(self, done: list[Ended]) -> None:
        for _, settlement in done:
            ending = settlement.change.ending
            if ending == "completed":
                self.completed += 1
            elif ending in ("failed", "timeout", "crashed"):
                self.failed += 1

    async def _write(self, ends: list[Ended]) -> list[Ended]:
        """Until the record has them, however long MongoDB refuses. Returns what was written.

        An end that cannot be written is found by halves, so that no other waits for it.
        """
        pause_s = 0.0
        stripped = False
        broken = 0
        while True:
            try:
                return await record(self._store, ends)
            except StoreUnavailable as error:
                if not pause_s:
                    log.warning("%d results are kept until MongoDB accepts them: %s", len(ends), error)
            except Exception as error:
                if len(ends) > 1:
                    half = len(ends) // 2
                    parts = await asyncio.gather(self._write(ends[:half]), self._write(ends[half:]))
                    return [written for part in parts for written in part]
                job = ends[0][0].id
                known = isinstance(error, DocumentRefused)
                broken += not known
                if stripped if known else broken == MAX_BROKEN:
                    # It is not held from now on: once its lease is over, it counts as lost and may run again.
                    text = "the result of job %s cannot be recorded; the job is recovered when its lease expires: %s"
                    log.error(text, job, error, exc_info=not known)  # noqa: TRY400 - of a refusal, no traceback of ours
                    return []
                if known:
                    log.error("the result of job %s cannot be recorded; recording it as failed: %s", job, error)  # noqa: TRY400
                    reason = JobError("invalid_result", type(error).__name__, shortened(str(error)[:500]))
                    ends, stripped = [as_failure(ends[0], reason, self._rng)], True
                    continue
            pause_s = min(MAX_PAUSE_S, pause_s * 2 or 0.05)
            await asyncio.sleep(pause_s)


#: An attempt's begin is recorded to this many ms: finer is noise, and equal ends can share one write.
_START_STEP_MS: Final = 10


def start_ms(claimed: Claimed, began: float | None) -> int | None:
    """Milliseconds from the claim, which MongoDB made between our asking and its answer, to the first line."""
    if began is None:
        return None
    since_ms = (began - (claimed.sent + claimed.known) / 2) * 1000
    return max(0, int(since_ms // _START_STEP_MS) * _START_STEP_MS)
