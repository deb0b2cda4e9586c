"""Every write and every deciding read of the collection `jobs`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

import pymongo
from bson import CodecOptions, ObjectId
from bson.errors import InvalidBSON
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, ExecutionTimeout, OperationFailure

from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.jobs import PRIORITIES, TERMINAL, WAITING
from dtqkit.model.outcomes import Change
from dtqkit.store import documents
from dtqkit.store.client import PLAIN_INTS, MongoLink, store_errors
from dtqkit.store.commands import update_command, written
from dtqkit.store.documents import Document
from dtqkit.store.fields import is_countable, lane_of, mending, placed, whole
from dtqkit.store.inserts import BAD_HINT
from dtqkit.store.keeper import IndexKeeper
from dtqkit.store.refusals import THIS_DOCUMENT
from dtqkit.store.requeues import requeueing
from dtqkit.store.settlements import BY_ID, Settlement, commands, recorded
from dtqkit.store.unique import SlotTaken

log = logging.getLogger("dtqkit.worker")

#: Time limit of a claim on the server, in seconds, for leases of 30 s or more.
CLAIM_MAX_S: Final = 5.0
#: Time limit of the counts for the load, in ms.
_LOAD_MS: Final = 5_000
_NO_HEAVY: Final = dict.fromkeys(documents.HEAVY, 0)
#: The fields of a job in a page; "usual" leaves out logs and earlier attempts.
Fields: TypeAlias = Literal["brief", "place", "usual", "attempts"]
_FIELDS: Final[Mapping[Fields, Document]] = {
    "brief": dict.fromkeys(("task", "priority", "status", "rev", "created_at"), 1),
    "place": dict.fromkeys(("task", "priority", "status", "rev", "created_at", "due_at", "death_seq"), 1),
    "usual": {**_NO_HEAVY},
    "attempts": {"log": 0},
}
_NAIVE: Final[CodecOptions[Document]] = CodecOptions(type_registry=PLAIN_INTS)
_TIMES: Final = ("queued_at", "claimed_at", "started_at")
_NUMBERS: Final = ("start_ms", "run_ms")
#: Filters: ended jobs with which nothing can be computed.
_UNSOUND_ENDS: Final[list[Document]] = [
    {f"{within}{name}": {"$exists": True, "$not": {"$type": kind}}}
    for names, kind in ((_TIMES, "date"), (_NUMBERS, "number"))
    for name in names
    for within in ("", "earlier.")
]
#: Fields that a worker does not need when it claims a job.
_NOT_CLAIMED: Final = dict.fromkeys(
    (*documents.HEAVY, "claim", "lease_until", "due_at", "tags", "idempotency_key", "error", "ended_at"), 0
)


def claim_max_s(lease_s: float) -> float:
    """Time limit in seconds of a claim on the server: a small part of its lease."""
    return min(CLAIM_MAX_S, lease_s / 6)


class Jobs:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, collection: AsyncCollection[Document], where: MongoLink, indexes: IndexKeeper) -> None:
        self._jobs = collection
        self._indexes = indexes
        # Times in a claimed job are naive UTC: decoding aware ones costs more than the rest of the document.
        self._claims: AsyncCollection[Document] = collection.with_options(_NAIVE)
        self._where = where
        #: A filter that every claim adds: while something is paused, the jobs that are not.
        self.not_held: Document = {}

    # -- claim

    async def claim_one(
        self, job: ObjectId, claim: ObjectId, worker: str, lease_s: float, *, tasks: list[str], max_losses: int = 0
    ) -> Document | None:
        """Claim one job of `tasks` with at most `max_losses` losses; None when it cannot be claimed.

        Raises DocumentRefused when MongoDB refuses the document of the claimed job: then it is not claimed.
        """
        with store_errors(self._where, writes=True, document=True, point="claim"):
            return await self._claims.find_one_and_update(
                {
                    **documents.runnable([job]),
                    "task": {"$in": tasks},
                    "losses": {"$lte": max_losses},
                    **self.not_held,
                },
                documents.claiming(claim, worker, lease_s),
                hint=BY_ID,
                projection=_NOT_CLAIMED,
                return_document=ReturnDocument.AFTER,
                maxTimeMS=round(claim_max_s(lease_s) * 1000),
            )

    async def claim_many(
        self, ids: list[ObjectId], claim: ObjectId, worker: str, lease_s: float, *, tasks: list[str]
    ) -> list[Document]:
        """Claim those of `ids` that are of `tasks` and never lost a worker; returns the jobs that `claim` holds.

        Raises DocumentRefused when MongoDB refuses the document of one of them: others may be claimed.
        """
        with store_errors(self._where, writes=True, once=True, document=True, point="claim"):
            update: Document = {
                "q": {**documents.runnable(ids), "task": {"$in": tasks}, "losses": 0, **self.not_held},
                "u": documents.claiming(claim, worker, lease_s),
                "multi": True,
                "hint": BY_ID,
            }
            command = update_command(self._jobs.name, [update]) | {"maxTimeMS": round(claim_max_s(lease_s) * 1000)}
            count = written(await self._jobs.database.command(command), "nMatched")
        return await self._claimed(ids, claim, count)

    async def _claimed(self, ids: list[ObjectId], claim: ObjectId, count: int) -> list[Document]:
        """The jobs that run under `claim`, which has just claimed `count` jobs.

        A plain command costs a worker a fifth less than the driver's cursor. Its answer is limited to 16 MB: if jobs
        are missing, they are read with a cursor.
        """
        if not count:
            return []
        command: Document = {
            "find": self._jobs.name,
            "filter": documents.held(ids, claim),
            "projection": _NOT_CLAIMED,
            "hint": BY_ID,
            "batchSize": count,
            "singleBatch": True,
            "readConcern": {"level": "majority"},
        }
        try:
            with store_errors(self._where):
                answer = await self._jobs.database.command(command, codec_options=_NAIVE)
        except StoreUnavailable:
            return await self.held(ids, claim)  # the driver sends that again on another connection
        docs: list[Document] = answer["cursor"]["firstBatch"]
        return docs if len(docs) == count else await self.held(ids, claim)

    async def held(self, ids: list[ObjectId], claim: ObjectId) -> list[Document]:
        """Those of `ids` that run under `claim`, but those that cannot be decoded: these are lost with their lease."""
        with store_errors(self._where):
            try:
                return await self._claims.find(documents.held(ids, claim), _NOT_CLAIMED, hint=BY_ID).to_list()
            except InvalidBSON as error:
                if len(ids) == 1:
                    log.error("job %s cannot be run: its document cannot be decoded (%s)", ids[0], error)  # noqa: TRY400
                    return []
        return [doc for job in ids for doc in await self.held([job], claim)]

    async def renew(self, ids: list[ObjectId], claims: list[ObjectId], lease_s: float) -> set[ObjectId]:
        """Extend the leases of the jobs that run under `claims`; returns the ids of those that still do.

        Times out after a sixth of the lease, so that there is time for another try before it expires.
        """
        query: Document = {"_id": {"$in": ids}, "claim": {"$in": claims}, "status": "running"}
        with store_errors(self._where, writes=True, point="renew"), pymongo.timeout(lease_s / 6 + self._where.slack_s):
            answer = await self._jobs.update_many(query, documents.renewing(lease_s))
            if answer.matched_count == len(ids):
                return set(ids)
            return {doc["_id"] async for doc in self._jobs.find(query, {"_id": 1})}

    async def running_of(self, worker: str) -> list[Document]:
        """Jobs that `worker` runs, according to the record."""
        with store_errors(self._where):
            return await self._jobs.find({"status": "running", "worker": worker}, _NO_HEAVY).to_list()

    async def to_cancel(self, held: Sequence[tuple[ObjectId, ObjectId]]) -> set[tuple[ObjectId, ObjectId]]:
        """Those of these (id, claim) that still run under that claim and have a cancel request."""
        query: Document = {"_id": {"$in": [job for job, _ in held]}, "status": "running", "cancel_requested": True}
        with store_errors(self._where):
            docs = await self._jobs.find(query, {"claim": 1}).to_list()
        return {(doc["_id"], doc["claim"]) for doc in docs}

    # -- settle

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """Record the ends of attempts. Returns the positions of those whose claim no longer held the job."""
        with store_errors(self._where, writes=True, document=True, point="settle"):
            matched = 0
            for updates in commands(settlements):
                answer = await self._jobs.database.command(update_command(self._jobs.name, updates))
                matched += written(answer, "nMatched")
        if matched == len(settlements):
            return set()
        return await self._refused(settlements)

    async def _refused(self, settlements: Sequence[Settlement]) -> set[int]:
        """Which were refused, according to the record: a write that was sent twice matches only once."""
        fields = {"claim": 1, "status": 1, "earlier.number": 1, "earlier.ending": 1}
        with store_errors(self._where):
            docs = await self._jobs.find({"_id": {"$in": [s.id for s in settlements]}}, fields).to_list()
        by_id = {doc["_id"]: doc for doc in docs}
        return {i for i, s in enumerate(settlements) if s.id not in by_id or not recorded(by_id[s.id], s)}

    async def lose(self, doc: Document, change: Change, *, only_overdue: bool) -> bool:
        """Mark a job lost: on lease expiry (which the write checks) or on missed heartbeats (the lease is as read).

        Raises DocumentRefused for a job that MongoDB does not take as a lost one.
        """
        query: Document = {"_id": doc["_id"], "claim": doc.get("claim"), "status": "running"}
        if only_overdue:
            query["$expr"] = {"$lt": ["$lease_until", "$$NOW"]}
        else:
            query["lease_until"] = doc.get("lease_until")
        with store_errors(self._where, writes=True, document=True, point="lose"):
            answer = await self._jobs.update_one(query, [*mending(doc), *documents.ending(change)])
        return answer.matched_count == 1

    # -- cancel and requeue

    async def cancel(self, job: ObjectId) -> Document | None:
        """Cancel a waiting job, mark a running one; None when it has ended or does not exist."""
        with store_errors(self._where, writes=True, point="cancel"):
            return await self._jobs.find_one_and_update(
                {"_id": job, "status": {"$nin": list(TERMINAL)}},
                documents.cancelling(),
                return_document=ReturnDocument.AFTER,
            )

    async def requeue(self, job: ObjectId, death_seq: int) -> Document | None:
        """Requeue the job for a person if this is still its `death_seq`-th failure for good; None when it is not.

        Raises SlotTaken when it is unique, and another job holds its slot.
        """
        # 0: the record has none, as of a job that another program has written.
        query: Document = {"_id": job, "status": "failed", "death_seq": death_seq or {"$in": [0, None]}}
        try:
            with store_errors(self._where, writes=True, point="requeue"):
                return await self._jobs.find_one_and_update(query, requeueing(), return_document=ReturnDocument.AFTER)
        except DuplicateKeyError:
            raise SlotTaken from None

    # -- look

    async def find(self, ids: Iterable[ObjectId], *, heavy: bool = True, payload: bool = True) -> list[Document]:
        projection = {**({} if heavy else _NO_HEAVY), **({} if payload else {"payload": 0})}
        with store_errors(self._where):
            return await self._jobs.find({"_id": {"$in": list(ids)}}, projection or None).to_list()

    async def statuses(self, ids: Iterable[ObjectId]) -> list[Document]:
        """_id, status and rev of those that exist."""
        with store_errors(self._where):
            docs = await self._jobs.find({"_id": {"$in": list(ids)}}, {"status": 1, "rev": 1}, hint=BY_ID).to_list()
        return [{**doc, "status": doc.get("status", "pending"), "rev": whole(doc.get("rev"))} for doc in docs]

    async def status_of(self, ids: Iterable[ObjectId]) -> list[Document]:
        """Only the fields that decide where an id belongs in Redis, for existing jobs, in the order of `ids`."""
        names = ("status", "task", "losses", "max_losses", "due_at", "priority", "cancel_requested")
        wanted = list(ids)
        with store_errors(self._where):
            docs = await self._jobs.find({"_id": {"$in": wanted}}, dict.fromkeys(names, 1)).to_list()
        place = {job: i for i, job in enumerate(wanted)}
        return [placed(doc) for doc in sorted(docs, key=lambda doc: place[doc["_id"]]) if _is_usable(doc)]

    async def tasks_of(self, ids: Iterable[ObjectId]) -> dict[str, str]:
        """The tasks of those of these jobs that wait, by job id as text."""
        waiting = {"_id": {"$in": list(ids)}, "status": {"$in": list(WAITING)}}
        with store_errors(self._where):
            found = await self._jobs.find(waiting, {"task": 1}, hint=BY_ID).to_list()
        return {str(doc["_id"]): placed(doc)["task"] for doc in found}

    async def page(
        self, query: Document, limit: int, max_ms: int, *, fields: Fields = "usual", by: str | None = None
    ) -> list[Document] | None:
        """Newest first, by the index `by`. None when it takes longer than the limit."""
        projection = _FIELDS[fields]
        with store_errors(self._where):
            try:
                return await self._newest(query, projection, limit, max_ms, by)
            except ExecutionTimeout:
                return None

    async def matching(self, query: Document, limit: int, max_ms: int, *, by: str) -> list[ObjectId] | None:
        """The newest matching ids, by the index `by`. None when it takes longer than `max_ms`."""
        with store_errors(self._where):
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
            self._indexes.keep()  # the index is being built, or was dropped
            return await self._newest(query, projection, limit, max_ms, None)

    async def nth_below(self, below: ObjectId | None, n: int) -> ObjectId | None:
        """The id with `n` jobs between it and `below` (None: the newest); None when there are fewer."""
        query: Document = {} if below is None else {"_id": {"$lt": below}}
        with store_errors(self._where):
            found = await self._jobs.find(query, {"_id": 1}).sort("_id", DESCENDING).skip(n).limit(1).to_list()
        return found[0]["_id"] if found else None

    async def ended(self, since: datetime, limit: int, *, lane: str | None = None) -> list[Document]:
        """The newest `limit` jobs that completed or failed since then, by task and priority.

        Ends and starts in ms from `since`, waits and runs in ms. A job that never ran has no start, wait or run.
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
        with store_errors(self._where):
            try:
                return await (await self._jobs.aggregate(pipeline, maxTimeMS=5_000)).to_list()
            except OperationFailure as error:
                if error.code not in THIS_DOCUMENT:
                    raise
            # Another program has written something else than a time into one of them.
            pipeline.insert(3, {"$match": {"$nor": _UNSOUND_ENDS}})
            return await (await self._jobs.aggregate(pipeline, maxTimeMS=5_000)).to_list()

    async def count_waiting(self) -> dict[tuple[str, str], int]:
        """Numbers of waiting jobs by status and priority: what the lanes should hold."""
        pipeline: list[Document] = [
            {"$match": {"status": {"$in": list(WAITING)}}},
            {"$group": {"_id": {"status": "$status", "priority": "$priority"}, "n": {"$sum": 1}}},
        ]
        with store_errors(self._where):
            found = await (await self._jobs.aggregate(pipeline, maxTimeMS=5_000)).to_list()
        counts: Counter[tuple[str, str]] = Counter()
        for group in found:
            counts[group["_id"]["status"], lane_of(group["_id"])] += group["n"]
        return counts

    async def load(self) -> tuple[int, datetime | None]:
        """How many jobs are running, and since when the oldest pending job has been waiting."""
        with store_errors(self._where):
            running = await self._jobs.count_documents({"status": "running"}, maxTimeMS=_LOAD_MS)
            fields = {"queued_at": 1, "created_at": 1}
            # By lane, so that the index returns them in order: the first of each lane, merged.
            lanes: Document = {"status": "pending", "priority": {"$in": list(PRIORITIES)}}
            oldest = await self._jobs.find_one(lanes, fields, sort=[("_id", ASCENDING)], max_time_ms=_LOAD_MS)
        return running, _since(oldest) if oldest else None


def _since(doc: Document) -> datetime | None:
    """Since when a job waits."""
    times = (doc.get("queued_at"), doc.get("created_at"))
    return next((at for at in times if isinstance(at, datetime)), None)


def _is_usable(doc: Document) -> bool:
    """Of a job that does not wait, nothing but the status is needed."""
    return isinstance(doc.get("status"), str) and (doc["status"] not in WAITING or is_countable(doc))
