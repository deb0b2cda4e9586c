"""Keep the dead letters true to the record, and requeue jobs whose failure says little about them."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final

from dtqkit.broker import Broker
from dtqkit.broker.keys import member
from dtqkit.events import encode_batch, event_of
from dtqkit.settings import Settings
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job

log = logging.getLogger("dtqkit.recovery")

#: Kinds of error that say little about the job itself.
NOT_ITS_FAULT: Final = frozenset({"worker_lost", "timeout", "store"})


#: Seconds between two automatic requeues: what failed together does not come back together.
SPACING_S: Final = 1.0


class DeadLetterRounds:
    def __init__(self, settings: Settings, broker: Broker, store: Store) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store
        #: When the next automatic requeue may begin, by the loop's clock.
        self._next = 0.0

    async def run(self) -> tuple[int, int]:
        """Returns how many dead letters were repaired, and how many jobs were requeued."""
        letters = await self._store.dead.all()
        missing: list[Document] = []
        recoverable: list[Document] = []
        async for doc in self._store.jobs.failed():
            if letters.pop(doc["_id"], None) != doc["death_seq"]:
                missing.append(doc)
            if self._recoverable(doc):
                recoverable.append(doc)
        await self._store.dead.project(missing)
        # What is left tells of jobs that are not failed any more.
        for job, death_seq in letters.items():
            await self._store.dead.delete(job, death_seq)
        recovered = 0
        for doc in recoverable:
            recovered += await self._recover(doc)
        repaired = len(missing) + len(letters)
        if repaired or recovered:
            log.warning("repaired %d dead letters, requeued %d jobs", repaired, recovered)
        return repaired, recovered

    def _recoverable(self, doc: Document) -> bool:
        cooled = self._store.now() - timedelta(seconds=self._settings.dead_letter_cooldown_s)
        return (
            doc.get("error", {}).get("kind") in NOT_ITS_FAULT
            and doc.get("recoveries", 0) < self._settings.dead_letter_recoveries
            and doc["ended_at"] < cooled
        )

    async def _recover(self, doc: Document) -> bool:
        now = asyncio.get_running_loop().time()
        delay_s = max(0.0, self._next - now)
        again = await self._store.jobs.requeue(doc["_id"], doc["death_seq"], recovered_in_s=delay_s)
        if again is None:
            return False
        self._next = now + delay_s + SPACING_S
        await self._store.dead.delete(doc["_id"], doc["death_seq"])
        job = to_job(again)
        due_ms = self._store.now().timestamp() * 1000 + delay_s * 1000
        await self._broker.push({}, {member(job.priority, job.id): due_ms}, encode_batch([event_of(job)]))
        return True
