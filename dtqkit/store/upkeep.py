"""What the rounds of recovery read and write in pieces: expired jobs, failed jobs, jobs to be cancelled.

A piece is small enough to be over soon wherever MongoDB is, and says where the next one begins: a leader that dies in
between leaves nothing half done, and the next leader finds only what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from bson import ObjectId
from pymongo import ASCENDING, ReturnDocument, UpdateOne
from pymongo.asynchronous.database import AsyncDatabase

from dtqkit.model.jobs import PRIORITIES, TERMINAL, WAITING
from dtqkit.store import documents
from dtqkit.store.client import Link, told
from dtqkit.store.documents import Document

#: Jobs in one piece of an expiry, and how long MongoDB may look for a piece of anything, in ms.
EXPIRY_PIECE: Final = 1_000
_LOOK_MS: Final = 15_000
#: Of a failed job, what its dead letter and its recovery need.
_LETTER: Final = dict.fromkeys(("death_seq", "task", "priority", "error", "ended_at", "recoveries", "status"), 1)


class Piece(NamedTuple):
    """What was done, and the id after which the next piece begins; None: there is nothing more."""

    done: int
    last: ObjectId | None


class Upkeep:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, database: AsyncDatabase[Document], where: Link) -> None:
        self._jobs = database["jobs"]
        self._configuration = database["configuration"]
        self._where = where

    async def expire(self, before: datetime, after: ObjectId | None) -> Piece:
        """Of the jobs that are next after `after` in the order of ids, delete those that were over by `before`."""
        bounds: Document = {"$lt": documents.id_at(before)}
        if after is not None:
            bounds["$gt"] = after
        with told(self._where):
            # By id alone, whatever their status: so a look is short however few of them may go.
            cursor = self._jobs.find({"_id": bounds}, {"status": 1, "ended_at": 1}).sort("_id", ASCENDING)
            docs = await cursor.limit(EXPIRY_PIECE).max_time_ms(_LOOK_MS).to_list()
        old = [doc["_id"] for doc in docs if doc["status"] in TERMINAL and doc.get("ended_at", before) < before]
        deleted = 0
        if old:
            query: Document = {"_id": {"$in": old}, "status": {"$in": list(TERMINAL)}, "ended_at": {"$lt": before}}
            with told(self._where, writes=True):
                deleted = (await self._jobs.delete_many(query)).deleted_count
        return Piece(deleted, docs[-1]["_id"] if len(docs) == EXPIRY_PIECE else None)

    async def failed(self, after: ObjectId | None, limit: int) -> list[Document]:
        """The next failed jobs after `after`, in the order of ids, as far as a dead letter and its recovery need it."""
        # By the index `lane`: for each priority in the order of ids, merged.
        query: Document = {"status": "failed", "priority": {"$in": [*PRIORITIES, None]}}
        if after is not None:
            query["_id"] = {"$gt": after}
        with told(self._where):
            cursor = self._jobs.find(query, _LETTER).sort("_id", ASCENDING).limit(limit)
            return await cursor.max_time_ms(_LOOK_MS).to_list()

    async def recover(self, failed: Sequence[Document], spacing_s: float) -> list[Document]:
        """Requeue these failed jobs automatically, `spacing_s` apart; returns those that were, as far as it is known.

        What was requeued since by anybody else is left alone. When each is due comes from the record too, so that
        whoever leads next goes on where this one stopped.
        """
        first = await self._reserve(len(failed), spacing_s)
        due = {doc["_id"]: first + timedelta(seconds=i * spacing_s) for i, doc in enumerate(failed)}
        operations: list[UpdateOne] = [
            UpdateOne(
                {"_id": doc["_id"], "status": "failed", "death_seq": doc["death_seq"]},
                documents.recovering(due[doc["_id"]]),
            )
            for doc in failed
        ]
        with told(self._where, writes=True, point="requeue"):
            await self._jobs.bulk_write(operations, ordered=False)
        died = {doc["_id"]: doc["death_seq"] for doc in failed}
        heavy = dict.fromkeys((*documents.HEAVY, "payload", "result"), 0)
        with told(self._where):
            docs = await self._jobs.find({"_id": {"$in": list(died)}, "status": "scheduled"}, heavy).to_list()
        return [doc for doc in docs if doc["death_seq"] == died[doc["_id"]]]

    async def _reserve(self, n: int, spacing_s: float) -> datetime:
        """The time, by MongoDB's clock, of the first of `n` automatic requeues: after all that were reserved before."""
        span_ms = round(n * spacing_s * 1000)
        later: Document = {"$add": [{"$max": ["$next", "$$NOW"]}, span_ms]}
        with told(self._where, writes=True):
            doc: Any = await self._configuration.find_one_and_update(
                {"_id": "recoveries"},
                [{"$set": {"next": later}}],
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return doc["next"] - timedelta(milliseconds=span_ms)

    async def cancel_waiting(self, ids: Sequence[ObjectId]) -> int:
        """Cancel those of these jobs that still wait and whose cancellation was asked for."""
        query: Document = {"_id": {"$in": list(ids)}, "status": {"$in": list(WAITING)}, "cancel_requested": True}
        with told(self._where, writes=True, point="cancel"):
            return (await self._jobs.update_many(query, documents.cancelling())).modified_count
