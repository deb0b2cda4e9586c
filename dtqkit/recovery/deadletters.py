"""Keep the dead letters true to the record, and give another life to jobs that did not die of themselves."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from dtqkit.broker import Broker
from dtqkit.events import encode_batch, event_of
from dtqkit.settings import Settings
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job

log = logging.getLogger("dtqkit.recovery")

#: Kinds of error that say little about the job itself.
NOT_ITS_FAULT: Final = frozenset({"worker_lost", "timeout", "store"})


class DeadLetterRounds:
    def __init__(self, settings: Settings, broker: Broker, store: Store) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store

    async def run(self) -> tuple[int, int]:
        """Returns how many letters were put right, and how many jobs were given another life."""
        letters = await self._store.dead.all()
        missing: list[Document] = []
        recoverable: list[Document] = []
        async for doc in self._store.jobs.failed():
            if letters.pop(doc["_id"], None) != doc["death_seq"]:
                missing.append(doc)
            if self._may_live(doc):
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
            log.warning("%d dead letters were put right, %d jobs were given another life", repaired, recovered)
        return repaired, recovered

    def _may_live(self, doc: Document) -> bool:
        cooled = self._store.now() - timedelta(seconds=self._settings.dead_letter_cooldown_s)
        return (
            doc.get("error", {}).get("kind") in NOT_ITS_FAULT
            and doc.get("recoveries", 0) < self._settings.dead_letter_recoveries
            and doc["ended_at"] < cooled
        )

    async def _recover(self, doc: Document) -> bool:
        again = await self._store.jobs.requeue(doc["_id"], doc["death_seq"], by_hand=False)
        if again is None:
            return False
        await self._store.dead.delete(doc["_id"], doc["death_seq"])
        job = to_job(again)
        await self._broker.push({job.priority: [job.id]}, events=encode_batch([event_of(job)]))
        return True
