"""Mark lost: take jobs from workers that are gone, on lease expiry or on missed heartbeats."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Change, Lost
from dtqkit.model.policy import SupportsRandom
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job
from dtqkit.support.formatting import counted, few
from dtqkit.transitions.announce import announce_losses
from dtqkit.transitions.deadletter import dead_letter

log = logging.getLogger("dtqkit.recovery")

#: Jobs taken in one round, and side by side.
LIMIT: Final = 1000
#: How much a worker's idea of MongoDB's time may be ahead of ours, in seconds.
_SLACK_S: Final = 5.0
PIECE: Final = 20


class LostJobs:
    """Each method returns how many jobs it took. Any process may do so at any time: one write decides."""

    def __init__(self, broker: Broker, store: Store, rng: SupportsRandom) -> None:
        self._broker = broker
        self._store = store
        self._rng = rng
        #: Called after each piece of the work.
        self.moved: Callable[[], None] = lambda: None

    async def mark_overdue(self, docs: Sequence[Document]) -> int:
        """Running jobs whose lease was found to be over; the write looks again, by MongoDB's clock."""
        return await self._mark(docs, only_overdue=True)

    async def mark_silent(self, docs: Sequence[Document], still_silent: Callable[[], Awaitable[bool]]) -> int:
        """These running jobs of a silent worker, if it is still silent after they were looked up."""
        return await self._mark(docs, only_overdue=False) if await still_silent() else 0

    async def _mark(self, docs: Sequence[Document], *, only_overdue: bool) -> int:
        n = 0
        for start in range(0, len(docs), PIECE):
            n += len(taken := await self._mark_some(docs[start : start + PIECE], only_overdue=only_overdue))
            if taken:
                self._log_lost([doc for doc, _ in taken])
                await self._announce(taken)
            if dead := [doc["_id"] for doc, change in taken if change.status == "failed"]:
                await dead_letter(self._store, dead)
            self.moved()
        return n

    async def _mark_some(self, docs: Sequence[Document], *, only_overdue: bool) -> list[tuple[Document, Change]]:
        """Those of `docs` that could be taken; side by side, since MongoDB may be far away."""
        began = await self._began(docs)
        changes = [decide(to_job(doc), Lost(), self._rng, began.get(doc["_id"])) for doc in docs]
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
            if isinstance(answer, BaseException):
                broken = answer
            elif answer:
                taken.append((doc, change))
        if broken is not None:
            self._log_lost([doc for doc, _ in taken])
            await self._announce(taken)
            raise broken
        return taken

    def _log_lost(self, docs: Sequence[Document]) -> None:
        by_worker: dict[str, list[str]] = {}
        for doc in docs:
            by_worker.setdefault(doc["worker"], []).append(str(doc["_id"]))
        for worker, ids in by_worker.items():
            log.warning("%s taken from worker %s: %s", counted(len(ids), "job was", "jobs were"), worker, few(ids))

    async def _began(self, docs: Sequence[Document]) -> dict[ObjectId, int]:
        """How long after its claim each of these attempts began, in ms, as far as they showed it."""
        try:
            lives = await self._broker.lives([str(doc["_id"]) for doc in docs]) if docs else {}
        except StoreUnavailable:
            return {}
        began: dict[ObjectId, int] = {}
        now = self._store.now()
        for doc in docs:
            live = lives.get(str(doc["_id"]))
            if live is None or live.token != doc["token"] or live.started_at is None or "claimed_at" not in doc:
                continue
            if live.started_at <= now + timedelta(seconds=_SLACK_S):  # Redis may hold anything
                since = live.started_at - doc["claimed_at"]
                began[doc["_id"]] = max(0, round(since.total_seconds() * 1000))
        return began

    async def _announce(self, taken: Sequence[tuple[Document, Change]]) -> None:
        refused = await announce_losses(self._broker, [(to_job(doc), change) for doc, change in taken])
        if refused is not None:
            log.warning("%d lost jobs will be listed once Redis takes writes: %s", len(taken), refused)
