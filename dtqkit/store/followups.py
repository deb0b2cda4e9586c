"""What is to follow on jobs that have ended: recorded in the job by the write that ends it, until it is submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from dtqkit.store.client import MongoLink, store_errors
from dtqkit.store.documents import Document
from dtqkit.store.indexes import FOLLOW_UPS
from dtqkit.store.inserts import BAD_HINT
from dtqkit.store.keeper import IndexKeeper

#: Ids of what followed that a job keeps.
MAX_KEPT: Final = 20
#: Characters of a reason that a job keeps.
MAX_WHY: Final = 500
_FIELDS: Final = dict.fromkeys(
    ("task", "payload", "result", "tags", "ended_at", "followups", "follow_depth", "followed_by"), 1
)
_LOOK_MS: Final = 5_000


class Followed(NamedTuple):
    """One end of a job: its id, the number of the claim, and the id of the job that follows on it; None: none can."""

    job: ObjectId
    #: Of what another program has written, this may be anything.
    claim_number: Any
    follower: ObjectId | None
    #: Why none can.
    why: str = ""
    #: Whether the job is to have this one alone: what stands there is no list.
    alone: bool = False


class FollowUps:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, collection: AsyncCollection[Document], where: MongoLink, indexes: IndexKeeper) -> None:
        self._jobs = collection
        self._where = where
        self._indexes = indexes

    async def of(self, jobs: Sequence[ObjectId]) -> list[Document]:
        """Those of these jobs on which something is still to follow."""
        query: Document = {"_id": {"$in": list(jobs)}, "followups.token": {"$exists": True}}
        with store_errors(self._where):
            return await self._jobs.find(query, _FIELDS).to_list()

    async def left(self, limit: int) -> list[Document]:
        """Some jobs on which something is still to follow."""
        with store_errors(self._where):
            try:
                cursor = self._jobs.find({"followups.token": {"$exists": True}}, _FIELDS, hint=FOLLOW_UPS)
                return await cursor.limit(limit).max_time_ms(_LOOK_MS).to_list()
            except OperationFailure as error:
                if error.code != BAD_HINT:
                    raise
        self._indexes.keep()  # the index is being built, or was dropped: without it, this would read all jobs
        return []

    async def submitted(self, followed: Sequence[Followed]) -> None:
        """These ends are followed now: there is nothing left to do about them."""
        updates: list[UpdateOne] = []
        for job, claim_number, follower, why, alone in followed:
            done: Document = {"$pull": {"followups": {"token": {"$eq": claim_number}}}}
            if follower is None:
                done["$set"] = {"not_followed": why[:MAX_WHY]}
            else:
                if alone:
                    done["$set"] = {"followed_by": [str(follower)]}
                else:
                    done["$push"] = {"followed_by": {"$each": [str(follower)], "$slice": -MAX_KEPT}}
                done["$unset"] = {"not_followed": ""}
            query: Document = {"_id": job, "followups.token": {"$eq": claim_number}}
            if follower is None:  # what is no list can be cleared as a whole only
                odd: Document = {"_id": job, "followups": {"$exists": True, "$not": {"$type": "array"}}}
                updates.append(UpdateOne(odd, {"$unset": {"followups": ""}, "$set": done["$set"]}))
                query["followups"] = {"$type": "array"}
            updates.append(UpdateOne(query, done))
        with store_errors(self._where, writes=True, point="follow"):
            await self._jobs.bulk_write(updates, ordered=False)
