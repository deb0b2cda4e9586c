"""Writes to many jobs at a time, by id: each is a compare-and-set by status, inside the write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from bson import ObjectId
from pymongo import ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, ExecutionTimeout

from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.jobs import TERMINAL, WAITING
from dtqkit.model.where import PayloadMatch
from dtqkit.store import documents
from dtqkit.store.client import MongoLink, is_duplicate_keys, store_errors
from dtqkit.store.documents import Document, Pipeline
from dtqkit.store.expiring import expired
from dtqkit.store.fields import whole
from dtqkit.store.packing import unpack
from dtqkit.store.requeues import requeueing
from dtqkit.store.slots import stale
from dtqkit.store.where import PACKED, matching

#: What an event and a place in Redis need of a job.
_PLACE: Final = dict.fromkeys(
    ("task", "priority", "status", "rev", "created_at", "due_at", "cancel_requested", "death_seq", "worker"), 1
)
_PAYLOAD: Final = {"task": 1, "payload": 1}
#: How long a count may take, in ms.
COUNT_MS: Final = 10_000


class ManyJobs:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, collection: AsyncCollection[Document], where: MongoLink) -> None:
        self._jobs = collection
        self._where = where

    async def count(self, query: Document, match: PayloadMatch | None = None) -> int:
        """How many jobs match. Raises StoreUnavailable when that takes longer than COUNT_MS."""
        with store_errors(self._where):
            try:
                if match is None:
                    return await self._jobs.count_documents(query, maxTimeMS=COUNT_MS)
                plain = await self._jobs.count_documents({**query, "$expr": matching(match)}, maxTimeMS=COUNT_MS)
                packed = self._jobs.find({**query, "$expr": PACKED}, _PAYLOAD).max_time_ms(COUNT_MS)
                return plain + sum([_has(doc, match) async for doc in packed])
            except ExecutionTimeout:
                why = f"counting took longer than {COUNT_MS / 1000:g} s: give a narrower filter"
                raise StoreUnavailable("MongoDB", "", why, reason="refused") from None

    async def sift(self, docs: Sequence[Document], match: PayloadMatch) -> list[Document]:
        """Those of these jobs, which may match, that do: payloads that are stored as text are read."""
        query: Document = {"_id": {"$in": [doc["_id"] for doc in docs]}, "$expr": PACKED}
        with store_errors(self._where):
            others = {doc["_id"] async for doc in self._jobs.find(query, _PAYLOAD) if not _has(doc, match)}
        return [doc for doc in docs if doc["_id"] not in others]

    async def cancel(self, docs: Sequence[Document]) -> list[Document]:
        """Cancel those that wait, mark those that run; all of them as they are afterwards."""
        ids = [doc["_id"] for doc in docs]
        query: Document = {"_id": {"$in": ids}, "status": {"$nin": list(TERMINAL)}}
        wait = all(doc["status"] in WAITING for doc in docs)
        if wait:
            query["status"] = {"$in": list(WAITING)}
        with store_errors(self._where, writes=True, point="cancel"):
            done = await self._jobs.update_many(query, documents.cancelling())
        if not wait or done.matched_count < len(ids):
            if wait:  # some have begun to run since
                query["status"] = "running"
                with store_errors(self._where, writes=True, point="cancel"):
                    await self._jobs.update_many(query, documents.cancelling())
            return await self._places(ids)
        after = {"status": "cancelled", "cancel_requested": True}
        return [{**doc, **after, "rev": whole(doc.get("rev")) + 1} for doc in docs]

    async def requeue(self, failed: Sequence[Document]) -> list[Document]:
        """Requeue each of these if this is still its last failure; all of them as they are afterwards."""
        taken = await self._requeue(failed)
        if taken and await self._free_stale(set(taken.values())):
            await self._requeue([failed[i] for i in taken])
        return await self._places([doc["_id"] for doc in failed])

    async def _requeue(self, failed: Sequence[Document]) -> dict[int, str]:
        """The positions of unique jobs that stay as they are, since another job holds their slots; and those slots."""
        operations = [
            UpdateOne({"_id": doc["_id"], "status": "failed", "death_seq": doc.get("death_seq")}, requeueing())
            for doc in failed
        ]
        with store_errors(self._where, writes=True, point="requeue"):
            try:
                await self._jobs.bulk_write(operations, ordered=False)
            except BulkWriteError as error:
                if not is_duplicate_keys(error):
                    raise
                return {one["index"]: one["keyValue"]["unique_slot"] for one in error.details["writeErrors"]}
        return {}

    async def _free_stale(self, slots: Collection[str]) -> bool:
        """Free those of these slots that their jobs should have freed; whether there were any."""
        with store_errors(self._where, writes=True):
            done = await self._jobs.update_many(
                {"unique_slot": {"$in": list(slots)}, "$expr": stale()}, {"$unset": {"unique_slot": ""}}
            )
        return done.modified_count > 0

    async def update(self, ids: Sequence[ObjectId], fields: Document, delay_s: float | None) -> list[Document]:
        """Change those that wait, and do not expire within `delay_s`; all of them as they are afterwards."""
        with store_errors(self._where, writes=True, document=True, point="update"):
            await self._jobs.update_many({**_waiting(ids), **_in_time(delay_s)}, changing(fields, delay_s))
        return await self._places(ids)

    async def update_one(self, job: ObjectId, rev: int, fields: Document, delay_s: float | None) -> Document | None:
        """Change a waiting job whose revision is still `rev`; None when it is another, or the job waits no more."""
        with store_errors(self._where, writes=True, document=True, point="update"):
            return await self._jobs.find_one_and_update(
                {**_waiting([job]), "rev": rev},
                changing(fields, delay_s),
                return_document=ReturnDocument.AFTER,
            )

    async def delete(self, ids: Sequence[ObjectId]) -> int:
        """Delete those that are over; returns how many.

        A unique job stays until its window is over, and one whose end another job is to follow until that is submitted.
        """
        query: Document = {"_id": {"$in": list(ids)}, "status": {"$in": list(TERMINAL)}, **documents.DELETABLE}
        with store_errors(self._where, writes=True, point="delete"):
            return (await self._jobs.delete_many(query)).deleted_count

    async def _places(self, ids: Sequence[ObjectId]) -> list[Document]:
        with store_errors(self._where):
            return await self._jobs.find({"_id": {"$in": list(ids)}}, _PLACE, hint="_id_").to_list()


def _has(doc: Document, match: PayloadMatch) -> bool:
    return match.has(doc.get("task", ""), unpack(doc["payload"]))


def changing(changes: Document, delay_s: float | None) -> Pipeline:
    """Change a waiting job: these fields and, unless it is None, how long from now on it may not start."""
    fields: Document = {name: {"$literal": value} for name, value in changes.items()}
    fields["rev"] = {"$add": ["$rev", 1]}
    if delay_s is None:
        return [{"$set": fields}]
    due = {"$add": ["$$NOW", round(delay_s * 1000)]}
    fields |= {"status": "scheduled" if delay_s else "pending", "queued_at": due}
    fields["due_at"] = due if delay_s else "$$REMOVE"
    return [{"$set": fields}]


def _waiting(ids: Sequence[ObjectId]) -> dict[str, Any]:
    return {"_id": {"$in": list(ids)}, "status": {"$in": list(WAITING)}, "cancel_requested": None}


def _in_time(delay_s: float | None) -> Document:
    """A filter: the jobs that could still begin after such a delay. Empty without one."""
    if delay_s is None:
        return {}
    return {"$expr": {"$not": [expired("$gte", {"$add": ["$$NOW", round(delay_s * 1000)]})]}}
