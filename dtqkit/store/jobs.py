"""Every write and every deciding read of the collection `jobs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec
import pymongo
from bson import CodecOptions, ObjectId
from pymongo import ASCENDING, DESCENDING, ReturnDocument, UpdateMany, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ExecutionTimeout, OperationFailure, WriteConcernError

from dtqkit.model.jobs import PRIORITIES, TERMINAL, WAITING
from dtqkit.model.outcomes import Change
from dtqkit.store import documents
from dtqkit.store.client import PLAIN_INTS, Link, told
from dtqkit.store.documents import Document
from dtqkit.store.inserts import BAD_HINT
from dtqkit.store.keeper import IndexKeeper

#: A claim that the server has not carried out by then, it never will (seconds, with a lease of 30 s or more).
CLAIM_MAX_S: Final = 5.0
#: How long counting may take for a look at the load, in ms.
_LOAD_MS: Final = 5_000
#: For many ids at once: left to itself, the planner weighs the index by status against this one, each time.
BY_ID: Final = "_id_"
_NO_HEAVY: Final = dict.fromkeys(documents.HEAVY, 0)
#: What a page has of each job: the usual leaves out logs and earlier attempts.
Fields: TypeAlias = Literal["brief", "usual", "attempts"]
_FIELDS: Final[Mapping[Fields, Document]] = {
    "brief": dict.fromkeys(("task", "priority", "status", "rev", "created_at"), 1),
    "usual": {**_NO_HEAVY},
    "attempts": {"log": 0},
}
_NAIVE: Final[CodecOptions[Document]] = CodecOptions(type_registry=PLAIN_INTS)
#: What a worker does not need of the job that it claims.
_NOT_CLAIMED: Final = dict.fromkeys(
    (*documents.HEAVY, "claim", "lease_until", "due_at", "tags", "idempotency_key", "error", "ended_at"), 0
)


def claim_max_s(lease_s: float) -> float:
    """Seconds that the server may take for a claim: a small part of the lease that it gives."""
    return min(CLAIM_MAX_S, lease_s / 6)


class Settlement(msgspec.Struct, frozen=True):
    """The end of one attempt, to be recorded while `claim` still holds the job."""

    id: ObjectId
    claim: ObjectId
    #: The claim's number, by which its attempt is filed.
    token: int
    change: Change
    #: What the attempt leaves behind besides: progress, progress_message, log.
    trail: Document | None = None


class Jobs:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, collection: AsyncCollection[Document], where: Link, indexes: IndexKeeper) -> None:
        self._jobs = collection
        self._indexes = indexes
        # Aware datetimes cost a worker more than all else in a document: in a claimed job, times are naive UTC.
        self._claims: AsyncCollection[Document] = collection.with_options(_NAIVE)
        self._where = where

    # -- claim

    async def claim_one(
        self, job: ObjectId, claim: ObjectId, worker: str, lease_s: float, *, tasks: list[str], max_losses: int = 0
    ) -> Document | None:
        """Claim one job of `tasks` that has at most `max_losses` losses; None when it is not to be had.

        Raises DocumentRefused when MongoDB does not take this job as a claimed one: then it is not claimed.
        """
        with told(self._where, writes=True, document=True, point="claim"):
            return await self._claims.find_one_and_update(
                {**documents.runnable([job]), "task": {"$in": tasks}, "losses": {"$lte": max_losses}},
                documents.claiming(claim, worker, lease_s),
                hint=BY_ID,
                projection=_NOT_CLAIMED,
                return_document=ReturnDocument.AFTER,
                maxTimeMS=round(claim_max_s(lease_s) * 1000),
            )

    async def claim_many(
        self, ids: list[ObjectId], claim: ObjectId, worker: str, lease_s: float, *, tasks: list[str]
    ) -> list[Document]:
        """Claim those of `ids` that are of `tasks` and never lost a worker; what `claim` holds, and only that.

        Raises DocumentRefused when MongoDB does not take one of them as a claimed job: others may be claimed.
        """
        with told(self._where, writes=True, once=True, document=True, point="claim"):
            answer = await self._jobs.database.command(
                {
                    "update": self._jobs.name,
                    "updates": [
                        {
                            "q": {**documents.runnable(ids), "task": {"$in": tasks}, "losses": 0},
                            "u": documents.claiming(claim, worker, lease_s),
                            "multi": True,
                            "hint": BY_ID,
                        }
                    ],
                    "ordered": False,
                    "maxTimeMS": round(claim_max_s(lease_s) * 1000),
                    "writeConcern": {"w": "majority", "j": True},
                }
            )
            if errors := answer.get("writeErrors"):  # which the driver does not look for in a command
                raise OperationFailure(errors[0]["errmsg"], errors[0]["code"])
            if "writeConcernError" in answer:
                raise WriteConcernError("the claim is not known to be on a majority", 64, answer)
            return await self._claimed(ids, claim, answer["n"])

    async def _claimed(self, ids: list[ObjectId], claim: ObjectId, count: int) -> list[Document]:
        """What runs under `claim`, which has just taken so many jobs.

        As a plain command, which costs a worker a fifth less than the driver's cursor. One answer has 16 MB at most:
        when some are missing, they are read as usual.
        """
        if not count:
            return []
        answer = await self._jobs.database.command(
            {
                "find": self._jobs.name,
                "filter": documents.held(ids, claim),
                "projection": _NOT_CLAIMED,
                "hint": BY_ID,
                "batchSize": count,
                "singleBatch": True,
                "readConcern": {"level": "majority"},
            },
            codec_options=_NAIVE,
        )
        docs: list[Document] = answer["cursor"]["firstBatch"]
        return docs if len(docs) == count else await self.held(ids, claim)

    async def held(self, ids: list[ObjectId], claim: ObjectId) -> list[Document]:
        """What runs under `claim`."""
        with told(self._where):
            return await self._claims.find(documents.held(ids, claim), _NOT_CLAIMED, hint=BY_ID).to_list()

    async def renew(self, ids: list[ObjectId], claims: list[ObjectId], lease_s: float) -> set[ObjectId]:
        """Extend the leases of what runs under `claims`; returns the ids that still do.

        Within a sixth of the lease: no answer is an answer too, for a lease that runs out.
        """
        query: Document = {"_id": {"$in": ids}, "claim": {"$in": claims}, "status": "running"}
        with told(self._where, writes=True, point="renew"), pymongo.timeout(lease_s / 6 + self._where.slack_s):
            answer = await self._jobs.update_many(query, documents.renewing(lease_s))
            if answer.matched_count == len(ids):
                return set(ids)
            return {doc["_id"] async for doc in self._jobs.find(query, {"_id": 1})}

    async def running_of(self, worker: str) -> list[Document]:
        """Jobs that the record says `worker` runs."""
        with told(self._where):
            return await self._jobs.find({"status": "running", "worker": worker}, _NO_HEAVY).to_list()

    async def to_cancel(self, held: Sequence[tuple[ObjectId, ObjectId]]) -> set[tuple[ObjectId, ObjectId]]:
        """Those of these (id, claim) that still run under that claim, and whose cancellation was asked for."""
        query: Document = {"_id": {"$in": [job for job, _ in held]}, "status": "running", "cancel_requested": True}
        with told(self._where):
            docs = await self._jobs.find(query, {"claim": 1}).to_list()
        return {(doc["_id"], doc["claim"]) for doc in docs}

    # -- settle

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """Record the ends of attempts. Returns the positions of those whose claim held the job no more."""
        with told(self._where, writes=True, document=True, point="settle"):
            operations = _settle_operations(settlements)
            if len(operations) == 1 and len(settlements) == 1:
                one = settlements[0]
                done = await self._jobs.update_one(documents.held([one.id], one.claim), _update(one))
                matched = done.matched_count
            else:
                matched = (await self._jobs.bulk_write(operations, ordered=False)).matched_count
        if matched == len(settlements):
            return set()
        return await self._refused(settlements)

    async def _refused(self, settlements: Sequence[Settlement]) -> set[int]:
        """Which were refused, by a look at the record: a write that was sent twice matches only once."""
        fields = {"claim": 1, "status": 1, "earlier.number": 1, "earlier.ending": 1}
        with told(self._where):
            docs = await self._jobs.find({"_id": {"$in": [s.id for s in settlements]}}, fields).to_list()
        by_id = {doc["_id"]: doc for doc in docs}
        return {i for i, s in enumerate(settlements) if s.id not in by_id or not _recorded(by_id[s.id], s)}

    async def lose(self, doc: Document, change: Change, *, only_overdue: bool) -> bool:
        """Mark a job lost: on lease expiry (by the write), or on missed heartbeats (its lease is as found)."""
        query: Document = {"_id": doc["_id"], "claim": doc["claim"], "status": "running"}
        if only_overdue:
            query["$expr"] = {"$lt": ["$lease_until", "$$NOW"]}
        else:
            query["lease_until"] = doc["lease_until"]
        with told(self._where, writes=True, point="lose"):
            answer = await self._jobs.update_one(query, documents.ending(change))
        return answer.matched_count == 1

    # -- cancel and requeue

    async def cancel(self, job: ObjectId) -> Document | None:
        """Cancel what waits, mark what runs; None when it is over or does not exist."""
        with told(self._where, writes=True, point="cancel"):
            return await self._jobs.find_one_and_update(
                {"_id": job, "status": {"$nin": list(TERMINAL)}},
                documents.cancelling(),
                return_document=ReturnDocument.AFTER,
            )

    async def requeue(self, job: ObjectId, death_seq: int) -> Document | None:
        """Run the job that died its `death_seq`-th death anew, as a person asks; None when somebody else has."""
        with told(self._where, writes=True, point="requeue"):
            return await self._jobs.find_one_and_update(
                {"_id": job, "status": "failed", "death_seq": death_seq},
                documents.requeueing(),
                return_document=ReturnDocument.AFTER,
            )

    # -- look

    async def find(self, ids: Iterable[ObjectId], *, heavy: bool = True, payload: bool = True) -> list[Document]:
        projection = {**({} if heavy else _NO_HEAVY), **({} if payload else {"payload": 0})}
        with told(self._where):
            return await self._jobs.find({"_id": {"$in": list(ids)}}, projection or None).to_list()

    async def statuses(self, ids: Iterable[ObjectId]) -> list[Document]:
        """Of those that exist: _id, status and rev."""
        with told(self._where):
            return await self._jobs.find({"_id": {"$in": list(ids)}}, {"status": 1, "rev": 1}, hint=BY_ID).to_list()

    async def status_of(self, ids: Iterable[ObjectId]) -> list[Document]:
        """Only what decides where an id belongs, as far as there are such jobs, in the order of `ids`."""
        names = ("status", "task", "losses", "max_losses", "due_at", "priority", "cancel_requested")
        wanted = list(ids)
        with told(self._where):
            docs = await self._jobs.find({"_id": {"$in": wanted}}, dict.fromkeys(names, 1)).to_list()
        place = {job: i for i, job in enumerate(wanted)}
        return sorted(docs, key=lambda doc: place[doc["_id"]])

    async def tasks_of(self, ids: Iterable[ObjectId]) -> dict[str, str]:
        """The task of each of these jobs that waits, by the job's id as text."""
        waiting = {"_id": {"$in": list(ids)}, "status": {"$in": list(WAITING)}}
        with told(self._where):
            found = await self._jobs.find(waiting, {"task": 1}, hint=BY_ID).to_list()
        return {str(doc["_id"]): doc["task"] for doc in found}

    async def page(
        self, query: Document, limit: int, max_ms: int, *, fields: Fields = "usual", by: str | None = None
    ) -> list[Document] | None:
        """Newest first, by the index `by`. None when it would take longer."""
        projection = _FIELDS[fields]
        with told(self._where):
            try:
                return await self._newest(query, projection, limit, max_ms, by)
            except ExecutionTimeout:
                return None

    async def matching(self, query: Document, limit: int, max_ms: int, *, by: str) -> list[ObjectId] | None:
        """The newest ids that match, by the index `by`. None when it would take longer."""
        with told(self._where):
            try:
                return [doc["_id"] for doc in await self._newest(query, {"_id": 1}, limit, max_ms, by)]
            except ExecutionTimeout:
                return None

    async def _newest(
        self, query: Document, projection: Document, limit: int, max_ms: int, by: str | None
    ) -> list[Document]:
        cursor = self._jobs.find(query, projection, hint=by).sort("_id", DESCENDING).limit(limit).max_time_ms(max_ms)
        try:
            return await cursor.to_list()
        except OperationFailure as error:
            if by is None or error.code != BAD_HINT:
                raise
            self._indexes.keep()  # it is being built, or is gone
            return await self._newest(query, projection, limit, max_ms, None)

    async def nth_below(self, below: ObjectId | None, n: int) -> ObjectId | None:
        """The id that has `n` jobs between it and `below` (None: the newest); None when there are not as many."""
        query: Document = {} if below is None else {"_id": {"$lt": below}}
        with told(self._where):
            found = await self._jobs.find(query, {"_id": 1}).sort("_id", DESCENDING).skip(n).limit(1).to_list()
        return found[0]["_id"] if found else None

    async def ended(self, since: datetime, limit: int, *, lane: str | None = None) -> list[Document]:
        """The newest `limit` jobs that completed or failed since then, by task and priority.

        Ends and starts in ms from `since`, waits and runs in ms; of what never ran, there is no start, wait or run.
        """
        query: Document = {"ended_at": {"$gte": since}, "status": {"$in": ["completed", "failed"]}}
        if lane is not None:
            query["priority"] = lane
        pipeline: list[Document] = [
            {"$match": query},
            {"$sort": {"ended_at": -1}},
            {"$limit": limit},
            {"$set": {"last": documents.last_attempt()}},
            {
                "$group": {
                    "_id": {"task": "$task", "priority": "$priority"},
                    "ends": {"$push": {"$subtract": ["$ended_at", since]}},
                    "waits": {"$push": {"$subtract": ["$last.started_at", "$last.queued_at"]}},
                    "runs": {"$push": "$run_ms"},
                    "first_start": {"$min": {"$subtract": ["$last.started_at", since]}},
                }
            },
        ]
        with told(self._where):
            return await (await self._jobs.aggregate(pipeline, maxTimeMS=5_000)).to_list()

    async def count_waiting(self) -> dict[tuple[str, str], int]:
        """How many wait, by status and priority: what the lanes should hold."""
        pipeline: list[Document] = [
            {"$match": {"status": {"$in": list(WAITING)}}},
            {"$group": {"_id": {"status": "$status", "priority": "$priority"}, "n": {"$sum": 1}}},
        ]
        with told(self._where):
            found = await (await self._jobs.aggregate(pipeline, maxTimeMS=5_000)).to_list()
        return {(group["_id"]["status"], group["_id"]["priority"]): group["n"] for group in found}

    async def load(self) -> tuple[int, datetime | None]:
        """How many jobs run, and since when the oldest pending job waits."""
        with told(self._where):
            running = await self._jobs.count_documents({"status": "running"}, maxTimeMS=_LOAD_MS)
            fields = {"queued_at": 1, "created_at": 1}
            # By lane, so that the index gives them in order: the first of each, merged.
            lanes: Document = {"status": "pending", "priority": {"$in": list(PRIORITIES)}}
            oldest = await self._jobs.find_one(lanes, fields, sort=[("_id", ASCENDING)], max_time_ms=_LOAD_MS)
        return running, oldest.get("queued_at", oldest["created_at"]) if oldest else None


def _recorded(doc: Document, settlement: Settlement) -> bool:
    """Whether this very end stands in the document; that the claim's job runs no more is not enough: it may be lost."""
    if settlement.change.status == "completed":
        return doc["status"] == "completed" and doc["claim"] == settlement.claim
    if settlement.change.ending == "declined":  # its attempt is not filed; one that was lost meanwhile is
        filed = any(attempt["number"] == settlement.token for attempt in doc.get("earlier", ()))
        return doc["status"] in (*WAITING, "cancelled") and doc["claim"] == settlement.claim and not filed
    mine = {"number": settlement.token, "ending": settlement.change.ending}
    return mine in doc.get("earlier", ())


def _update(settlement: Settlement) -> Any:
    change = settlement.change
    if change.status == "completed":
        update = documents.completing(change)
        if settlement.trail:
            update["$set"] |= settlement.trail
        return update
    return documents.declining(change) if change.ending == "declined" else documents.ending(change, settlement.trail)


def _settle_operations(settlements: Sequence[Settlement]) -> list[UpdateOne | UpdateMany]:
    """One write for each distinct end: successes of one claim with the same result and run time share theirs."""
    operations: list[UpdateOne | UpdateMany] = []
    shared: dict[tuple[ObjectId, bytes, float | None, int | None], list[Settlement]] = {}
    for s in settlements:
        if s.change.status == "completed" and not s.trail:
            key = (s.claim, msgspec.json.encode(s.change.result), s.change.run_ms, s.change.start_ms)
            shared.setdefault(key, []).append(s)
        else:
            operations.append(UpdateOne(documents.held([s.id], s.claim), _update(s)))
    for (claim, *_), same in shared.items():
        operations.append(UpdateMany(documents.held([s.id for s in same], claim), _update(same[0]), hint=BY_ID))
    return operations
