"""What rounds of recovery read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import msgspec
from bson import ObjectId
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ExecutionTimeout

from dtqkit.model.jobs import WAITING
from dtqkit.store.client import MongoLink, store_errors
from dtqkit.store.documents import HEAVY, Document
from dtqkit.store.expiring import TO_DROP
from dtqkit.store.indexes import FOLLOW_UPS
from dtqkit.store.keeper import IndexKeeper
from dtqkit.store.pauses import VERSION
from dtqkit.store.schedules import DUE

#: How long counting may take, in ms.
_COUNT_MS: Final = 3_000
#: Documents in one batch.
_BATCH: Final = 10_000
_NO_HEAVY: Final = dict.fromkeys(HEAVY, 0)


class Counts(NamedTuple):
    """Numbers of waiting jobs, of failed jobs and of dead letters."""

    waiting: int
    failed: int
    dead_letters: int


class Noticed(NamedTuple):
    """What other rounds may have to do: it was announced, unless the process that made it died before."""

    #: Whether something is still to follow on a job that ended longer than a round ago, whether there is a schedule
    #: that will be due, and the version of the pauses; 0: nothing was ever paused.
    followups: bool
    schedules: bool
    pauses: int


class RecoveryScan(msgspec.Struct, frozen=True):
    """The jobs that a round of recovery may have to change."""

    #: None: MongoDB could not count in time.
    counts: Counts | None
    noticed: Noticed
    #: Running jobs whose lease has expired, by MongoDB's clock.
    overdue: list[Document]
    #: Ids of running jobs whose cancellation was asked for.
    to_stop: list[str]


class RecoveryScans:
    """Methods raise StoreUnavailable when MongoDB is away."""

    def __init__(
        self, collection: AsyncCollection[Document], where: MongoLink, indexes: IndexKeeper, round_s: float
    ) -> None:
        self._round_ms = round(round_s * 1000)
        self._jobs = collection
        self._where = where
        self._indexes = indexes

    async def look(self, limit: int) -> RecoveryScan:
        """In one operation: the counts, what was noticed, and running jobs with an expired lease or a cancel request.

        If counting takes too long, only the running jobs and the pauses are read: it must not delay their recovery.
        """
        failed = [{"$match": {"status": "failed"}}, {"$group": {"_id": "failed", "n": {"$sum": 1}}}]
        dead_letters = [{"$group": {"_id": "dead_letters", "n": {"$sum": 1}}}]
        attention = {"$or": [{"$expr": {"$lt": ["$lease_until", "$$NOW"]}}, {"cancel_requested": True}]}
        running: list[Document] = [
            {"$match": {"status": "running", **attention}},
            {"$limit": limit},
            {"$project": _NO_HEAVY},
            {"$addFields": {"overdue": {"$lt": ["$lease_until", "$$NOW"]}}},
        ]
        one: Document = {"$literal": 1}
        pauses: Document = {
            "$unionWith": {"coll": "configuration", "pipeline": _one({"_id": "pauses"}, "pauses", VERSION)}
        }
        # Counted from the index alone.
        pipeline = [
            {"$match": {"status": {"$in": list(WAITING)}}},
            {"$group": {"_id": "waiting", "n": {"$sum": 1}}},
            {"$unionWith": {"coll": self._jobs.name, "pipeline": failed}},
            {"$unionWith": {"coll": "deadletter", "pipeline": dead_letters}},
            {"$unionWith": {"coll": "schedules", "pipeline": _one(DUE, "schedules", one)}},
            pauses,
            {"$unionWith": {"coll": self._jobs.name, "pipeline": running}},
        ]
        if self._indexes.has(FOLLOW_UPS):  # without it, this would read all jobs
            # Who has ended a job may be about to submit what follows. One that was requeued since has no `ended_at`.
            old = {"$lt": ["$ended_at", {"$subtract": ["$$NOW", self._round_ms]}]}
            left = _one({"followups.token": {"$exists": True}, "$expr": old}, "followups", one)
            pipeline.append({"$unionWith": {"coll": self._jobs.name, "pipeline": left}})
        counted = True
        with store_errors(self._where):
            try:
                found = await (await self._jobs.aggregate(pipeline, maxTimeMS=_COUNT_MS)).to_list()
            except ExecutionTimeout:
                counted = False
                found = await (await self._jobs.aggregate([*running, pauses])).to_list()
        n = {doc["_id"]: doc["n"] for doc in found if "n" in doc}
        attention_docs = [doc for doc in found if "n" not in doc]
        return RecoveryScan(
            counts=Counts(*(n.get(name, 0) for name in Counts._fields)) if counted else None,
            # Where it could not look, each round must.
            noticed=Noticed(not counted or "followups" in n, not counted or "schedules" in n, n.get("pauses", 0)),
            overdue=[doc for doc in attention_docs if doc["overdue"]],
            to_stop=[str(doc["_id"]) for doc in attention_docs if doc.get("cancel_requested")],
        )

    async def waiting(self) -> AsyncIterator[list[Document]]:
        """All waiting jobs, in batches: _id, status, priority, due_at, and `drop`: whether to cancel it."""
        fields: Document = {**dict.fromkeys(("status", "priority", "due_at"), 1), "drop": TO_DROP}
        with store_errors(self._where):
            cursor = self._jobs.find({"status": {"$in": list(WAITING)}}, fields, batch_size=_BATCH)
            while docs := await cursor.to_list(_BATCH):
                yield [doc for doc in docs if isinstance(doc["_id"], ObjectId)]  # others are no ids of jobs


def _one(query: Document, name: str, n: Document) -> list[Document]:
    """{_id: name, n} where a document matches."""
    return [{"$match": query}, {"$limit": 1}, {"$project": {"_id": {"$literal": name}, "n": n}}]
