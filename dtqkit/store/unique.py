"""The slots of unique jobs: a field with a unique index, which only one job of a key has at a time.

One write decides: an upsert by the slot inserts the job, or finds the one that holds the slot. It names the index, so
that nothing is inserted while that is missing. A slot is freed by the write that ends the state it stands for: the
claim (`waiting`), the end (`active`). The end of a window is compared with MongoDB's clock in the next submit's write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import pymongo
from bson import ObjectId
from bson.errors import BSONError
from pymongo import DESCENDING, ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, DuplicateKeyError, ExecutionTimeout, OperationFailure

from dtqkit.model.errors import Reason, StoreUnavailable
from dtqkit.model.jobs import TERMINAL, WAITING, Priority
from dtqkit.store.client import MongoLink, is_duplicate_keys, store_errors
from dtqkit.store.commands import insert_many
from dtqkit.store.documents import HEAVY, WAITS_EXPIRED, Document, Pipeline, slot_of_document
from dtqkit.store.indexes import KEY, UNIQUE
from dtqkit.store.inserts import BAD_HINT, submit_s
from dtqkit.store.keeper import IndexKeeper
from dtqkit.store.refusals import is_of_document, of_code
from dtqkit.store.requeues import DECLINED_SO_FAR

#: Tries of a submit, each after another process took or freed the slot in between.
_TRIES: Final = 8
#: How long to look for the job that an earlier try has replaced, in ms.
_LOOK_MS: Final = 1_000
#: Fields of a waiting job that its replacement does not touch.
_KEPT: Final = ("_id", "token", "losses")
#: Fields of a waiting job that say where it came from, and what happened to it before, as before a requeue: its
#: replacement has none of them, so that it may expire, unless its own document has them.
_OF_BEFORE: Final = (
    "follows",
    "follow_depth",
    "not_followed",
    "schedule",
    "scheduled_for",
    "declined",
    "earlier",
    "error",
    "log",
    "snoozes",
    "recoveries",
)
_USUAL: Final = dict.fromkeys(HEAVY, 0)
#: Documents of the collection `configuration` that count duplicates: with their prefix, `priority:task`.
_COUNT: Final = "duplicates:"


class Put(NamedTuple):
    """What to write: the document of the new job, and times that MongoDB's clock decides."""

    doc: Document
    size: int
    #: Of a debounced job: seconds from now until it is due, and from the first submit at most.
    debounce_s: float | None
    max_s: float | None
    #: Seconds that its slot is held from now on; None: until the end of its state.
    window_s: float | None
    replace: bool
    #: Optional fields that a submit may set: a replacement removes those that `doc` lacks.
    optional: Sequence[str]
    #: How many submits this write is for: one job, and duplicates of it.
    submits: int = 1


class UniqueJobs:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, database: AsyncDatabase[Document], where: MongoLink, indexes: IndexKeeper) -> None:
        self._jobs: AsyncCollection[Document] = database["jobs"]
        self._configuration = database["configuration"]
        self._where = where
        self._indexes = indexes

    async def put(self, new: Put) -> Document | None:
        """Insert the job, or find the one that holds its slot, and replace it if that is asked for and still waits.

        The answer is the document afterwards. None: another job has its idempotency key, or each try met a change.
        """
        doc = new.doc
        for _ in range(_TRIES):
            try:
                found = await self._put(new)
            except DuplicateKeyError as error:
                pattern: Mapping[str, Any] = (error.details or {}).get("keyPattern", {})
                if "idempotency_key" in pattern:
                    return None
                if "_id" not in pattern:
                    continue  # another process has just taken the slot
                # An earlier try has stored it, and its slot is free again.
                with store_errors(self._where):
                    found = await self._jobs.find_one({"_id": doc["_id"]}, _USUAL)
                if found is not None:
                    return found
                continue
            if found["_id"] == doc["_id"] or "unique_slot" in found:
                return found
            # That write has freed the slot: a window was over.
        return None

    async def earlier(self, new: Put) -> Document | None:
        """The job that an earlier try of the same write has made, or replaced, wherever it is by now.

        Its slot does not say so once it has started. Where the task has too many jobs to look at, None.
        """
        mine, task = new.doc["_id"], new.doc["task"]
        with store_errors(self._where):
            found = await self._jobs.find_one({"_id": mine}, _USUAL)
            if found is not None or not new.replace:
                return found
            replaced = self._jobs.find({"task": task, "replaced_by": mine}, _USUAL, hint="task")
            try:
                docs = await replaced.sort("_id", DESCENDING).limit(1).max_time_ms(_LOOK_MS).to_list()
            except ExecutionTimeout:
                return None
            except OperationFailure as error:
                if error.code != BAD_HINT:
                    raise
                return None
        return docs[0] if docs else None

    async def _put(self, new: Put) -> Document:
        """Raises DuplicateKeyError, and StoreUnavailable while the index is missing."""
        query = {"unique_slot": new.doc["unique_slot"]}
        for _ in range(2):
            try:
                with (
                    store_errors(self._where, writes="insert", document=True, point="unique"),
                    pymongo.timeout(self._where.within(submit_s(1, new.size))),
                ):
                    try:
                        answer: Any = await self._jobs.find_one_and_update(
                            query,
                            putting(new),
                            let={"new": {"$literal": new.doc}},
                            projection=_USUAL,
                            upsert=True,
                            return_document=ReturnDocument.AFTER,
                            hint=UNIQUE,
                        )
                    except OperationFailure as error:
                        if error.code != BAD_HINT:
                            raise
                        raise _NoIndex from None
                    if answer["_id"] == new.doc["_id"]:
                        self._where.note_insert()
                    return answer
            except _NoIndex:
                await self._ensure(UNIQUE)
        raise self._missing(UNIQUE)

    async def insert(self, docs: Sequence[Document], size: int) -> set[int]:
        """Insert those whose slots are free, in bulk; the positions of the others, of which nothing is written.

        Much cheaper than `put` for many. The index is looked for before and after: an insert cannot name it.
        """
        await self._check_index(docs[0])
        taken = set[int]()
        with (
            store_errors(self._where, writes="insert", point="unique"),
            pymongo.timeout(self._where.within(submit_s(len(docs), size))),
        ):
            try:
                await insert_many(self._jobs, docs)
            except BulkWriteError as error:
                errors = error.details["writeErrors"]
                if error.details.get("writeConcernErrors") or not all(map(is_of_document, errors)):
                    raise
                # A duplicate id means that it is stored. What MongoDB refuses is reported by `put`.
                taken = {e["index"] for e in errors if "_id" not in e.get("keyPattern", {})}
            except OperationFailure as error:
                if of_code(error.code, str(error)) is not None:
                    raise
                return set(range(len(docs)))
            except (BSONError, OverflowError, ValueError):  # the driver cannot send one of them; `put` reports which
                return set(range(len(docs)))
        if len(taken) < len(docs):
            self._where.note_insert()
        try:
            await self._check_index(docs[0])
        except StoreUnavailable:
            # It was dropped meanwhile. No worker knows these jobs yet.
            mine = [doc["_id"] for doc in docs]
            with store_errors(self._where, writes=True):
                await self._jobs.delete_many({"_id": {"$in": mine}, "token": 0})
            raise
        return taken

    async def _check_index(self, doc: Document) -> None:
        """Raises StoreUnavailable while the index is missing."""
        for _ in range(2):
            try:
                with store_errors(self._where):
                    try:
                        await self._jobs.find_one({"unique_slot": doc["unique_slot"]}, {"_id": 1}, hint=UNIQUE)
                    except OperationFailure as error:
                        if error.code != BAD_HINT:
                            raise
                        raise _NoIndex from None
                    return
            except _NoIndex:
                await self._ensure(UNIQUE)
        raise self._missing(UNIQUE)

    async def by_key(self, task: str, key: str) -> Document | None:
        """The job that holds an idempotency key. Raises StoreUnavailable while the index of keys is missing."""
        for _ in range(2):
            try:
                with store_errors(self._where):
                    try:
                        return await self._jobs.find_one({"idempotency_key": key, "task": task}, _USUAL, hint=KEY)
                    except OperationFailure as error:
                        if error.code != BAD_HINT:
                            raise
                        raise _NoIndex from None
            except _NoIndex:
                await self._ensure(KEY)
        raise self._missing(KEY)

    async def _ensure(self, name: str) -> None:
        with store_errors(self._where):
            if not await self._indexes.ensure(name):
                raise self._missing(name)

    def _missing(self, name: str) -> StoreUnavailable:
        refused = self._indexes.refused
        reason: Reason = "not_allowed" if refused else "refused"
        what = "unique jobs" if name == UNIQUE else "idempotency keys"
        who = "unique jobs" if name == UNIQUE else "jobs with an idempotency key"
        why = refused or f"the index of {what} is being built"
        detail = f"{why}; until it is there, {who} are refused: submit again later"
        return StoreUnavailable("MongoDB", self._where.uri, detail, reason=reason)

    async def holder(self, slot: str) -> ObjectId | None:
        """The job that holds a slot; None: it is free. One that should have freed it does so now."""
        query: Document = {"unique_slot": slot, "$expr": stale()}
        with store_errors(self._where, writes=True):
            await self._jobs.update_one(query, {"$unset": {"unique_slot": ""}})
        with store_errors(self._where):
            doc = await self._jobs.find_one({"unique_slot": slot}, {"_id": 1})
        return None if doc is None else doc["_id"]

    async def take_back(self, declined: Sequence[tuple[ObjectId, int]]) -> None:
        """Give these waiting jobs, whose last claims (by number) could not begin, their slots again, where free."""
        operations = [
            UpdateOne(
                {
                    "_id": job,
                    "token": number,
                    "status": {"$in": list(WAITING)},
                    "unique": "waiting",
                    "unique_slot": None,
                },
                [{"$set": {"unique_slot": slot_of_document()}}],
            )
            for job, number in declined
        ]
        with store_errors(self._where, writes=True):
            try:
                await self._jobs.bulk_write(operations, ordered=False)
            except BulkWriteError as error:
                if not is_duplicate_keys(error):  # other jobs have taken those slots
                    raise

    # -- counts

    async def count(self, duplicates: Mapping[tuple[Priority, str], int]) -> None:
        """Add duplicate submits, by priority and task."""
        operations = [
            UpdateOne({"_id": f"{_COUNT}{priority}:{task}"}, {"$inc": {"n": n}}, upsert=True)
            for (priority, task), n in duplicates.items()
        ]
        with store_errors(self._where, writes=True):
            await self._configuration.bulk_write(operations, ordered=False)

    async def counts(self) -> dict[tuple[Priority, str], int]:
        """Duplicate submits since the record began, by priority and task."""
        with store_errors(self._where):
            docs = await self._configuration.find({"_id": {"$gte": _COUNT, "$lt": f"{_COUNT}~"}}).to_list()
        found: dict[tuple[Priority, str], int] = {}
        for doc in docs:
            _, priority, task = doc["_id"].split(":", 2)
            found[priority, task] = doc["n"]
        return found


class SlotTaken(Exception):
    """A requeued job is unique, and another one holds its slot."""


class _NoIndex(Exception):
    """The hint of a query names an index that is missing."""


def stale() -> Document:
    """An expression: this job should no longer hold a slot.

    Its window is over; it waits and has expired, so that it will never run; or a worker of a version without unique
    jobs has claimed or ended it.
    """
    started: Document = {"$not": [{"$in": ["$status", list(WAITING)]}]}
    over: Document = {"$in": ["$status", list(TERMINAL)]}
    return {
        "$switch": {
            "branches": [
                {"case": {"$eq": ["$unique", "waiting"]}, "then": {"$or": [started, WAITS_EXPIRED]}},
                {"case": {"$eq": ["$unique", "active"]}, "then": {"$or": [over, WAITS_EXPIRED]}},
            ],
            "default": {"$lte": ["$unique_until", "$$NOW"]},
        }
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def putting(new: Put) -> Pipeline:
    """The upsert; `$$new` is the new document."""
    #: An earlier try has inserted it, or replaced the job with it.
    mine: Document = {"$in": [new.doc["_id"], ["$_id", "$replaced_by"]]}
    times: Document = {}
    if new.debounce_s is not None:
        due: Document = {"$add": ["$$NOW", _ms(new.debounce_s)]}
        times = {"due_at": due, "queued_at": due}
    if new.window_s is not None:
        times["unique_until"] = {"$add": ["$$NOW", _ms(new.window_s)]}
    extra = new.submits - 1
    inserted: Document = {"$mergeObjects": ["$$new", times, {"duplicates": extra} if extra else {}]}
    counted: Document = {"duplicates": {"$add": [{"$ifNull": ["$duplicates", 0]}, new.submits]}}
    found: Document = {"$mergeObjects": ["$$ROOT", counted]}
    branches: list[Document] = [
        {"case": {"$eq": [{"$type": "$_id"}, "missing"]}, "then": inserted},
        {"case": mine, "then": "$$ROOT"},
    ]
    if new.replace:
        #: The first submit: the time of a replacement is that of its own submit, from which `expires_s` counts.
        since: Document = {"$ifNull": ["$unique_since", "$created_at"]}
        if new.max_s is not None:
            last = {"$add": [since, _ms(new.max_s)]}
            due = {"$max": ["$$NOW", {"$min": [times["due_at"], last]}]}
            times = {"due_at": due, "queued_at": due}
        kept = {name: f"${name}" for name in _KEPT}
        marks = {"created_at": "$$NOW", "unique_since": since, "replaced_by": new.doc["_id"], "replaced_now": True}
        # The number of claims stays, so the claims that are no attempts do, too.
        marks["declined_before"] = DECLINED_SO_FAR
        changed = {**times, **kept, **counted, **marks, "rev": {"$add": ["$rev", 1]}}
        replaced = {"$mergeObjects": ["$$ROOT", "$$new", changed]}
        # Also one that has expired: with the time of this submit, it has not.
        waits: Document = {"$and": [{"$eq": ["$unique", "waiting"]}, {"$in": ["$status", list(WAITING)]}]}
        branches.append({"case": waits, "then": replaced})
    branches.append({"case": stale(), "then": {"$unsetField": {"field": "unique_slot", "input": "$$ROOT"}}})
    pipeline: Pipeline = [{"$replaceWith": {"$switch": {"branches": branches, "default": found}}}]
    if new.replace:
        gone = [name for name in (*new.optional, *_OF_BEFORE) if name not in new.doc]
        pipeline.append({"$set": {name: {"$cond": ["$replaced_now", "$$REMOVE", f"${name}"]} for name in gone}})
        pipeline.append({"$unset": "replaced_now"})
    return pipeline
