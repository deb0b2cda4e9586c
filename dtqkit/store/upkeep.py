"""What rounds of recovery read and write piece by piece: expired jobs, failed jobs, jobs to cancel.

A piece is short, however far away MongoDB is, and returns where the next one begins. If the leader dies between two
pieces, nothing is half done, and the next leader continues with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from bson import ObjectId
from pymongo import ASCENDING, ReturnDocument, UpdateOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError

from dtqkit.model.errors import DocumentRefused
from dtqkit.model.jobs import PRIORITIES, TERMINAL, WAITING
from dtqkit.store import documents, ids
from dtqkit.store.client import MongoLink, refused_alone, store_errors
from dtqkit.store.documents import Document
from dtqkit.store.expiring import TO_DROP, dropping
from dtqkit.store.fields import NO_ID, left_out, say_once
from dtqkit.store.requeues import recovering

#: Jobs in one piece of an expiry, and the time limit of a query for one piece, in ms.
EXPIRY_PIECE: Final = 1_000
_LOOK_MS: Final = 15_000
#: How far ahead automatic requeues may be reserved, in ms: a million of them.
_FAR_MS: Final = 1_000_000_000
#: Fields of a failed job that its dead letter and its automatic requeue need.
_DEAD_LETTER: Final = dict.fromkeys(
    ("death_seq", "task", "priority", "error", "ended_at", "recoveries", "status", "unique", "unique_key"), 1
)


class Piece(NamedTuple):
    """How many were done, and the id after which the next piece begins; None: this was the last piece."""

    done: int
    last: ObjectId | None


class Upkeep:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, database: AsyncDatabase[Document], where: MongoLink) -> None:
        self._jobs = database["jobs"]
        self._configuration = database["configuration"]
        self._where = where

    async def expire(self, before: datetime, after: ObjectId | None) -> Piece:
        """Of the next jobs after `after`, in the order of ids, delete those that ended before `before`.

        A unique job stays until its window is over: a submit in the window would make another one. One whose end
        another job is to follow stays until that is submitted.
        """
        bounds: Document = {"$lt": ids.id_at(before)}
        if after is not None:
            bounds["$gt"] = after
        with store_errors(self._where):
            # By id alone, whatever their status: so a query is short even if few of them can be deleted.
            cursor = self._jobs.find({"_id": bounds}, {"status": 1, "ended_at": 1}).sort("_id", ASCENDING)
            docs = await cursor.limit(EXPIRY_PIECE).max_time_ms(_LOOK_MS).to_list()
        old = [doc["_id"] for doc in docs if doc.get("status") in TERMINAL and _ended_before(doc, before)]
        deleted = 0
        if old:
            query: Document = {"_id": {"$in": old}, "status": {"$in": list(TERMINAL)}, "ended_at": {"$lt": before}}
            query |= documents.DELETABLE
            with store_errors(self._where, writes=True):
                deleted = (await self._jobs.delete_many(query)).deleted_count
        return Piece(deleted, docs[-1]["_id"] if len(docs) == EXPIRY_PIECE else None)

    async def failed(self, after: ObjectId | None, limit: int) -> list[Document]:
        """The next failed jobs after `after`, in the order of ids, with the fields of _DEAD_LETTER."""
        # By the index `lane`: in the order of ids for each priority, merged.
        query: Document = {"status": "failed", "priority": {"$in": [*PRIORITIES, None]}}
        query["_id"] = {"$gte": NO_ID} if after is None else {"$gt": after}
        with store_errors(self._where):
            cursor = self._jobs.find(query, _DEAD_LETTER).sort("_id", ASCENDING).limit(limit)
            return await cursor.max_time_ms(_LOOK_MS).to_list()

    async def recover(self, failed: Sequence[Document], spacing_s: float) -> list[Document]:
        """Requeue these failed jobs automatically, `spacing_s` apart; returns those that are known to be requeued.

        Jobs that were requeued otherwise since are left alone, and so are unique ones while another job holds their
        slot. Due times are reserved in the record, so that the next leader continues where this one stopped.
        """
        failed = await self._with_free_slots(failed)
        if not failed:
            return []
        first = await self._reserve(len(failed), spacing_s)
        due = {doc["_id"]: first + timedelta(seconds=i * spacing_s) for i, doc in enumerate(failed)}
        operations: list[UpdateOne] = [
            UpdateOne(
                {"_id": doc["_id"], "status": "failed", "death_seq": doc.get("death_seq")},
                recovering(due[doc["_id"]]),
            )
            for doc in failed
        ]
        with store_errors(self._where, writes=True, point="requeue"):
            try:
                await self._jobs.bulk_write(operations, ordered=False)
            except BulkWriteError as error:
                # Slots that were taken since the look; and what MongoDB does not take of another program's job.
                for at, why in refused_alone(error).items():
                    left_out(failed[at]["_id"], why)
        died = {doc["_id"]: doc.get("death_seq") for doc in failed}
        heavy = dict.fromkeys((*documents.HEAVY, "payload", "result"), 0)
        with store_errors(self._where):
            docs = await self._jobs.find({"_id": {"$in": list(died)}, "status": "scheduled"}, heavy).to_list()
        return [doc for doc in docs if doc.get("death_seq") == died[doc["_id"]]]

    async def _with_free_slots(self, failed: Sequence[Document]) -> list[Document]:
        """Without the unique jobs whose slots other jobs hold."""
        slots: dict[ObjectId, str] = {}
        for doc in [doc for doc in failed if doc.get("unique") in ("waiting", "active")]:
            task, key = doc.get("task"), doc.get("unique_key")
            if isinstance(task, str) and isinstance(key, str):
                slots[doc["_id"]] = documents.slot_of(task, key)
            else:
                say_once(doc["_id"], "unique_key", "is missing, so that the job is not requeued by itself")
                failed = [one for one in failed if one["_id"] != doc["_id"]]
        if not slots:
            return list(failed)
        query: Document = {"unique_slot": {"$in": list(slots.values())}}
        with store_errors(self._where):
            taken = {doc["unique_slot"] async for doc in self._jobs.find(query, {"unique_slot": 1})}
        return [doc for doc in failed if slots.get(doc["_id"]) not in taken]

    async def _reserve(self, n: int, spacing_s: float) -> datetime:
        """Reserve times for `n` automatic requeues after those reserved before; returns the first (MongoDB's clock)."""
        span_ms = round(n * spacing_s * 1000)
        # What is no time, or one that is far away, was written by hand: from then on nothing would be requeued.
        usable = {"$and": [{"$gt": ["$next", "$$NOW"]}, {"$lt": ["$next", {"$add": ["$$NOW", _FAR_MS]}]}]}
        later: Document = {"$add": [{"$cond": [usable, "$next", "$$NOW"]}, span_ms]}
        with store_errors(self._where, writes=True):
            doc: Any = await self._configuration.find_one_and_update(
                {"_id": "recoveries"},
                [{"$set": {"next": later}}],
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return doc["next"] - timedelta(milliseconds=span_ms)

    async def cancel_waiting(self, ids: Sequence[ObjectId]) -> int:
        """Cancel those of these jobs that still wait and are still to be dropped."""
        query: Document = {"_id": {"$in": list(ids)}, "status": {"$in": list(WAITING)}, "$expr": TO_DROP}
        try:
            with store_errors(self._where, writes=True, document=True, point="cancel"):
                return (await self._jobs.update_many(query, dropping())).modified_count
        except DocumentRefused as error:
            if len(ids) == 1:
                left_out(ids[0], error)
                return 0
        return sum([await self.cancel_waiting([job]) for job in ids])


def _ended_before(doc: Document, before: datetime) -> bool:
    ended_at = doc.get("ended_at")
    return isinstance(ended_at, datetime) and ended_at < before
