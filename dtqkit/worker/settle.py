"""Record the outcomes of attempts, many in one write."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from dtqkit.broker import Broker
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Outcome
from dtqkit.store import Store
from dtqkit.store.settlements import Settlement
from dtqkit.transitions.announce import Ended
from dtqkit.transitions.settle import publish, record
from dtqkit.worker.attempt_log import AttemptLog
from dtqkit.worker.claim import Claimed
from dtqkit.worker.joblog import JobLog

#: Ends that one write may carry.
MAX_BATCH: Final = 1000


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

    def put(self, claimed: Claimed, outcome: Outcome, began: float | None, attempt_log: AttemptLog) -> None:
        """Record `outcome` of an attempt that began at `began` by the loop's clock; None: it never did."""
        job = claimed.job
        change = decide(job, outcome, self._rng, start_ms(claimed, began))
        end = Settlement(claimed.id, claimed.claim, job.claim_number, change, attempt_log.document())
        self._ends.append((job, end))
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
                done = await record(self._store, ends, self._rng)
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


#: An attempt's begin is recorded to this many ms: finer is noise, and equal ends can share one write.
_START_STEP_MS: Final = 10


def start_ms(claimed: Claimed, began: float | None) -> int | None:
    """Milliseconds from the claim, which MongoDB made between our asking and its answer, to the first line."""
    if began is None:
        return None
    since_ms = (began - (claimed.sent + claimed.known) / 2) * 1000
    return max(0, int(since_ms // _START_STEP_MS) * _START_STEP_MS)
