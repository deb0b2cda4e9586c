"""Keep the dead letters true to the record, and requeue jobs whose failure says little about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final, NamedTuple

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.transitions.requeue import requeue_automatically

#: Kinds of error that say little about the job itself.
NOT_ITS_FAULT: Final = frozenset({"worker_lost", "timeout", "store"})

#: Failed jobs, or dead letters, that are looked at in one piece.
PIECE: Final = 500


class Piece(NamedTuple):
    """What a piece of a round did: dead letters repaired, jobs requeued."""

    repaired: int
    requeued: int


class DeadLetterRounds:
    def __init__(self, settings: Settings, broker: Broker, store: Store) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store

    async def pieces(self) -> AsyncIterator[Piece]:
        """A round, piece by piece in the order of ids. What a leader leaves undone, the next one's round finds."""
        after: ObjectId | None = None
        while True:
            # Letters before jobs: a letter that is written in between belongs to a job that is looked at, or later.
            letters = await self._store.dead.next(after, PIECE)
            failed = await self._store.upkeep.failed(after, PIECE)
            # So far both are known: up to the last of what was cut off.
            ends = [max(letters)] if len(letters) == PIECE else []
            if len(failed) == PIECE:
                ends.append(failed[-1]["_id"])
            after = min(ends, default=None)
            if after is not None:
                letters = {job: death for job, death in letters.items() if job <= after}
                failed = [doc for doc in failed if doc["_id"] <= after]
            yield await self._see_to(letters, failed)
            if after is None:
                return

    async def _see_to(self, letters: dict[ObjectId, int], failed: list[Document]) -> Piece:
        """All letters and all failed jobs between two ids."""
        recoverable = [doc for doc in failed if self._recoverable(doc)]
        requeued = set[ObjectId]()
        if recoverable:
            requeued = await requeue_automatically(self._broker, self._store, recoverable)
        dead = [doc for doc in failed if doc["_id"] not in requeued]
        missing = [doc for doc in dead if letters.get(doc["_id"]) != doc["death_seq"]]
        await self._store.dead.project(missing)
        stale = letters.keys() - {doc["_id"] for doc in failed}
        await self._store.dead.delete_many({job: letters[job] for job in stale})
        return Piece(len(missing) + len(stale), len(requeued))

    def _recoverable(self, doc: Document) -> bool:
        cooled = self._store.now() - timedelta(seconds=self._settings.dead_letter_cooldown_s)
        kind = doc["error"]["kind"] if doc.get("error") else None
        return (
            kind in NOT_ITS_FAULT
            and doc.get("recoveries", 0) < self._settings.dead_letter_recoveries
            and doc["ended_at"] < cooled
        )
