"""Mark jobs lost: take them from dead workers, on lease expiry or on missed heartbeats."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.model.errors import DocumentRefused, StoreUnavailable
from dtqkit.model.jobs import Job
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Change, Lost
from dtqkit.model.policy import SupportsRandom
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.store.fields import job_of, left_out
from dtqkit.support.formatting import counted, few
from dtqkit.transitions.announce import announce_losses
from dtqkit.transitions.deadletter import dead_letter
from dtqkit.transitions.followup import follow_up

log = logging.getLogger("dtqkit.recovery")

#: Maximum jobs in one round, and jobs that are marked concurrently.
LIMIT: Final = 1000
PIECE: Final = 20
#: How far a worker's estimate of MongoDB's time may be ahead of ours, in seconds.
_SLACK_S: Final = 5.0


class LostJobs:
    """Each method returns how many jobs it marked. Any process may call them at any time: a single write decides."""

    def __init__(self, broker: Broker, store: Store, rng: SupportsRandom) -> None:
        self._broker = broker
        self._store = store
        self._rng = rng
        #: Jobs that MongoDB did not take as lost ones, because of what another program has written.
        self.refused: set[ObjectId] = set()
        #: Called after each piece of the work.
        self.progressed: Callable[[], None] = lambda: None

    def markable(self, docs: Sequence[Document]) -> list[Document]:
        """Without those of which it is known that they cannot be marked; an id of another type is none of a job."""
        return [doc for doc in docs if isinstance(doc["_id"], ObjectId) and doc["_id"] not in self.refused]

    async def mark_overdue(self, docs: Sequence[Document]) -> int:
        """On lease expiry: these running jobs, if their lease has expired. The write checks it by MongoDB's clock."""
        return await self._mark(docs, only_overdue=True)

    async def mark_on_missed_heartbeats(
        self, docs: Sequence[Document], still_missing: Callable[[], Awaitable[bool]]
    ) -> int:
        """These running jobs of a dead worker, if its heartbeats are still missing after the jobs were read."""
        return await self._mark(docs, only_overdue=False) if await still_missing() else 0

    async def _mark(self, docs: Sequence[Document], *, only_overdue: bool) -> int:
        n = 0
        refused: StoreUnavailable | None = None
        docs = self.markable(docs)
        for start in range(0, len(docs), PIECE):
            taken, broken = await self._mark_some(docs[start : start + PIECE], only_overdue=only_overdue)
            n += len(taken)
            if taken:
                self._log_lost([doc for doc, _ in taken])
                await self._announce(taken)
            if dead := [doc["_id"] for doc, change in taken if change.status == "failed"]:
                await dead_letter(self._store, dead)
            if followed := [doc["_id"] for doc, change in taken if change.followup is not None]:
                await follow_up(self._broker, self._store, followed)
            self.progressed()
            if isinstance(broken, StoreUnavailable) and broken.reason == "refused":
                refused = refused or broken  # of one job, perhaps: the others are not held up by it
            elif broken is not None:
                raise broken
        if refused is not None:
            raise refused
        return n

    async def _mark_some(
        self, docs: Sequence[Document], *, only_overdue: bool
    ) -> tuple[list[tuple[Document, Change]], BaseException | None]:
        """Mark these concurrently, since MongoDB may be far away; those that were marked, and what went wrong."""
        jobs = [job_of(doc) for doc in docs]
        began = await self._began(jobs)
        changes = [decide(job, Lost(), self._rng, began.get(job.id)) for job in jobs]
        lost = await asyncio.gather(
            *(
                self._store.jobs.lose(doc, change, only_overdue=only_overdue)
                for doc, change in zip(docs, changes, strict=True)
            ),
            return_exceptions=True,
        )
        taken: list[tuple[Document, Change]] = []
        broken: BaseException | None = None
        for doc, change, answer in zip(docs, changes, lost, strict=True):
            if isinstance(answer, DocumentRefused):
                left_out(doc["_id"], answer)
                self.refused.add(doc["_id"])
            elif isinstance(answer, BaseException):
                broken = answer
            elif answer:
                taken.append((doc, change))
        return taken, broken

    def _log_lost(self, docs: Sequence[Document]) -> None:
        by_worker: dict[str, list[str]] = {}
        for doc in docs:
            by_worker.setdefault(str(doc.get("worker")), []).append(str(doc["_id"]))
        for worker, ids in by_worker.items():
            log.warning("%s taken from worker %s: %s", counted(len(ids), "job was", "jobs were"), worker, few(ids))

    async def _began(self, jobs: Sequence[Job]) -> dict[str, int]:
        """How long after its claim each of these attempts began, in ms, for those that reported progress."""
        try:
            live_progress = await self._broker.live_progress([job.id for job in jobs]) if jobs else {}
        except StoreUnavailable:
            return {}
        began: dict[str, int] = {}
        now = self._store.now()
        for job in jobs:
            live = live_progress.get(job.id)
            if live is None or live.claim_number != job.claim_number:
                continue
            if live.started_at is None or job.claimed_at is None:
                continue
            if live.started_at <= now + timedelta(seconds=_SLACK_S):  # Redis may hold anything
                began[job.id] = max(0, round((live.started_at - job.claimed_at).total_seconds() * 1000))
        return began

    async def _announce(self, taken: Sequence[tuple[Document, Change]]) -> None:
        refused = await announce_losses(self._broker, [(job_of(doc), change) for doc, change in taken])
        if refused is not None:
            log.warning("%d lost jobs will be listed once Redis takes writes: %s", len(taken), refused)
