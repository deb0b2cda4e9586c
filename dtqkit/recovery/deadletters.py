"""Keep the dead letters consistent with the record, and requeue jobs that may not be at fault."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple, cast

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.store.fields import whole
from dtqkit.transitions.requeue import requeue_automatically

#: Kinds of error for which the job itself may not be at fault.
NOT_ITS_FAULT: Final = frozenset({"worker_lost", "timeout", "store"})

#: Failed jobs, or dead letters, in one piece.
PIECE: Final = 500


class Repaired(NamedTuple):
    """Numbers of one piece of a round: dead letters repaired, jobs requeued."""

    repaired: int
    requeued: int


class DeadLetterRounds:
    def __init__(self, settings: Settings, broker: Broker, store: Store) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store

    async def pieces(self) -> AsyncIterator[Repaired]:
        """A round, piece by piece in the order of ids. What this leader leaves undone, the next one does."""
        after: ObjectId | None = None
        while True:
            # Dead letters before jobs: one that is written in between belongs to a job that is read here or later.
            dead_letters = await self._store.dead.next(after, PIECE)
            failed = await self._store.upkeep.failed(after, PIECE)
            # Both are complete up to the last id of the one that was cut off first.
            ends = [max(dead_letters)] if len(dead_letters) == PIECE else []
            if len(failed) == PIECE:
                ends.append(failed[-1]["_id"])
            after = min(ends, default=None)
            if after is not None:
                dead_letters = {job: seq for job, seq in dead_letters.items() if job <= after}
                failed = [doc for doc in failed if doc["_id"] <= after]
            yield await self._repair(dead_letters, failed)
            if after is None:
                return

    async def _repair(self, dead_letters: dict[ObjectId, int], failed: list[Document]) -> Repaired:
        """Compare all dead letters and all failed jobs between two ids, and repair the dead letters."""
        recoverable = [doc for doc in failed if self._recoverable(doc)]
        requeued = set[ObjectId]()
        if recoverable:
            requeued = await requeue_automatically(self._broker, self._store, recoverable)
        dead = [doc for doc in failed if doc["_id"] not in requeued]
        missing = [doc for doc in dead if dead_letters.get(doc["_id"]) != whole(doc.get("death_seq"))]
        await self._store.dead.project(missing)
        stale = dead_letters.keys() - {doc["_id"] for doc in failed}
        await self._store.dead.delete_many({job: dead_letters[job] for job in stale})
        return Repaired(len(missing) + len(stale), len(requeued))

    def _recoverable(self, doc: Document) -> bool:
        """One without a time, or whose error is none, was written by another program: a person requeues it."""
        cooled = self._store.now() - timedelta(seconds=self._settings.dead_letter_cooldown_s)
        found, ended_at = doc.get("error"), doc.get("ended_at")
        error: Document = cast("Document", found) if isinstance(found, dict) else {}
        return (
            isinstance(ended_at, datetime)
            and error.get("kind") in NOT_ITS_FAULT
            and not error.get("final")
            and whole(doc.get("recoveries")) < self._settings.dead_letter_recoveries
            and ended_at < cooled
        )
