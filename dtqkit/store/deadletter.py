"""The collection `deadletter`: a projection of the failed jobs. `status = failed` is the truth."""

from __future__ import annotations

from collections.abc import Mapping

from bson import ObjectId
from pymongo import ASCENDING, DeleteOne, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError

from dtqkit.store.client import MongoLink, store_errors
from dtqkit.store.documents import Document
from dtqkit.store.fields import NO_ID, whole


class DeadLetters:
    def __init__(self, collection: AsyncCollection[Document], where: MongoLink) -> None:
        self._dead = collection
        self._where = where

    async def project(self, failed: list[Document]) -> None:
        """Write the dead letters of these failed jobs; one of a later failure is left as it is."""
        operations = [
            UpdateOne(
                {"_id": doc["_id"], **_up_to(whole(doc.get("death_seq")) - 1)},
                {
                    "$set": {
                        "death_seq": whole(doc.get("death_seq")),
                        "task": doc.get("task", ""),
                        "priority": doc.get("priority", "medium"),
                        "error": doc.get("error"),
                        "died_at": doc.get("ended_at"),
                    }
                },
                upsert=True,
            )
            for doc in failed
        ]
        if not operations:
            return
        try:
            with store_errors(self._where, writes=True, point="dead_letter.write"):
                await self._dead.bulk_write(operations, ordered=False)
        except BulkWriteError:
            pass  # duplicate key: the dead letter exists already, of the same failure or a later one

    async def next(self, after: ObjectId | None, limit: int) -> dict[ObjectId, int]:
        """The next dead letters after `after`, in the order of ids: the `death_seq` of each."""
        query: Document = {"_id": {"$gte": NO_ID} if after is None else {"$gt": after}}
        with store_errors(self._where):
            cursor = self._dead.find(query, {"death_seq": 1}).sort("_id", ASCENDING).limit(limit)
            return {doc["_id"]: _seq_of(doc) async for doc in cursor}

    async def delete(self, job: ObjectId, death_seq: int) -> None:
        """Delete the dead letter of this failure, never of a later one."""
        with store_errors(self._where, writes=True, point="dead_letter.delete"):
            await self._dead.delete_one({"_id": job, **_up_to(death_seq)})

    async def delete_many(self, dead_letters: Mapping[ObjectId, int]) -> None:
        """The same for several dead letters, by job: the `death_seq` of each."""
        deletes = [DeleteOne({"_id": job, **_up_to(seq)}) for job, seq in dead_letters.items()]
        if deletes:
            with store_errors(self._where, writes=True, point="dead_letter.delete"):
                await self._dead.bulk_write(deletes, ordered=False)


def _seq_of(dead_letter: Document) -> int:
    """-1, which no failure has, for one that another program has written: then it is written again, or deleted."""
    seq = dead_letter.get("death_seq")
    return whole(seq) if type(seq) in (int, float) else -1


def _up_to(death_seq: int) -> Document:
    """A filter: dead letters of that failure or an earlier one, and those that do not say of which they are."""
    return {"$or": [{"death_seq": {"$lte": death_seq}}, {"death_seq": {"$not": {"$type": "number"}}}]}
