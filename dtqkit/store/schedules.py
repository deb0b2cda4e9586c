"""The collection `schedules`: a document each, changed by compare-and-set on its `rev`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from bson import ObjectId
from pymongo import ASCENDING, DESCENDING
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from dtqkit.model.jobs import TERMINAL, is_job_id
from dtqkit.model.schedule_errors import ScheduleUnreadable
from dtqkit.model.schedules import HELD_S, MAX_LIVE, MAX_NAME, CatchUpRuns, Overlap, Schedule, prefix_of
from dtqkit.store.client import MongoLink, store_errors
from dtqkit.store.documents import HEAVY, Document
from dtqkit.store.indexes import SCHEDULES
from dtqkit.store.packing import pack, unpack

log = logging.getLogger("dtqkit.store")

#: Schedules that one look reads at most.
LOOK: Final = 100
#: Those that will be due. A `due_at` that is no date was written by hand: it must not stop the others. The index `due`
#: has all of them.
DUE: Final = {"due_at": {"$type": "date"}}
#: Packed as payloads are.
_PACKED: Final = ("payload", "options")
_FIELDS: Final = frozenset(Schedule.__struct_fields__)


class _Decides(msgspec.Struct):
    """What a leader decides by: one that does not know the kind leaves the schedule alone."""

    overlap: Overlap = "allow"
    catch_up_runs: CatchUpRuns = "last"


_DECIDE: Final = _Decides.__struct_fields__


class DueSchedules(NamedTuple):
    """What a look has found: MongoDB's time, the schedules that are due, and when the next one is due."""

    now: datetime | None
    due: list[Schedule]
    next_due: datetime | None


class Schedules:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, database: AsyncDatabase[Document], where: MongoLink) -> None:
        self._schedules = database["schedules"]
        self._jobs = database["jobs"]
        self._where = where
        self._indexed = False

    async def look(self) -> DueSchedules:
        """By one query on the index `due`, also when none is due."""
        # Of those that are not due, only the time is needed.
        needed = {"$or": [{"$lte": ["$due_at", "$$NOW"]}, {"$gt": ["$held_at", None]}]}
        payload = {"$cond": [needed, "$payload", {}]}
        pipeline: list[Document] = [
            {"$match": DUE},
            {"$sort": {"due_at": ASCENDING}},
            {"$limit": LOOK},
            {"$set": {"payload": payload, "now": "$$NOW"}},
        ]
        with store_errors(self._where):
            docs = await (await self._schedules.aggregate(pipeline)).to_list()
        if not docs:
            return DueSchedules(None, [], None)
        now = docs[0]["now"]
        docs = [doc for doc in docs if isinstance(doc["due_at"], datetime)]  # $type is true of a list of dates too
        # One that waits for the run before is due within a second, unless the clock was set back since.
        soon = now + timedelta(seconds=2 * HELD_S)
        due = [doc for doc in docs if doc["due_at"] <= now or ("held_at" in doc and doc["due_at"] > soon)]
        later = min((doc["due_at"] for doc in docs if doc not in due), default=None)
        return DueSchedules(now, _readable(due), later)

    async def get(self, name: str) -> Schedule | None:
        with store_errors(self._where):
            doc = await self._schedules.find_one({"_id": name})
        return None if doc is None else _schedule(doc)

    async def all(self) -> list[Schedule]:
        """Sorted by name."""
        with store_errors(self._where):
            docs = await self._schedules.find().sort("_id").to_list()
        return _readable(docs)

    async def add(self, new: Schedule) -> bool:
        """Whether it was stored; False when its name is taken."""
        with store_errors(self._where, writes="insert"):
            if not self._indexed:
                await self._schedules.create_indexes(list(SCHEDULES))
                self._indexed = True
            try:
                await self._schedules.insert_one({"_id": new.name, **_document(new)})
            except DuplicateKeyError:
                return False
        return True

    async def change(self, known: Schedule, new: Schedule, *, point: str | None = None) -> bool:
        """Put `new` in the place of `known`; False when somebody else has changed it since."""
        fields = _document(new)
        gone = {name: "" for name in _FIELDS - fields.keys() if name not in ("name", "rev")}
        fields.pop("rev", None)
        update: Document = {"$set": fields, "$inc": {"rev": 1}}
        if gone:
            update["$unset"] = gone
        with store_errors(self._where, writes=True, point=point):
            done = await self._schedules.update_one({"_id": known.name, "rev": known.rev}, update)
        return done.matched_count == 1

    async def ran(self, name: str, job_id: str) -> None:
        """A job that a person asked for runs: those that are due must know."""
        change = {"$push": {"live": {"$each": [job_id], "$slice": -MAX_LIVE}}, "$inc": {"rev": 1, "by_hand": 1}}
        with store_errors(self._where, writes=True):
            await self._schedules.update_one({"_id": name}, change)

    async def backfilled(self, name: str, jobs: int) -> None:
        """So many jobs that a person asked for."""
        with store_errors(self._where, writes=True):
            await self._schedules.update_one({"_id": name}, {"$inc": {"rev": 1, "by_hand": jobs}})

    async def remove(self, name: str) -> bool:
        with store_errors(self._where, writes=True):
            return (await self._schedules.delete_one({"_id": name})).deleted_count == 1

    async def remove_undeclared(self, app: str, declared: Sequence[str]) -> list[str]:
        """Remove the schedules of this app that are not among `declared`; returns their names."""
        query: Document = {"declared.app": app, "_id": {"$nin": list(declared)}}
        with store_errors(self._where, writes=True):
            names = [doc["_id"] async for doc in self._schedules.find(query, {"_id": 1})]
            await self._schedules.delete_many({**query, "_id": {"$in": names}})
        return sorted(names)

    # -- their jobs

    async def running(self, schedule: Schedule) -> set[str]:
        """Those jobs in `live` that are not over."""
        live = [ObjectId(job) for job in schedule.live if is_job_id(job)]
        query: Document = {"_id": {"$in": live}, "status": {"$nin": list(TERMINAL)}}
        with store_errors(self._where):
            return {str(doc["_id"]) async for doc in self._jobs.find(query, {"_id": 1})}

    async def jobs(self, name: str, limit: int) -> list[Document]:
        """The last jobs of a schedule, by nominal time, the latest first.

        The keys have an index; a call may have given its own job such a key.
        """
        prefix = prefix_of(name)
        # What sorts behind all times: they begin with a digit.
        keys = {"$gte": prefix, "$lt": f"{prefix}~"}
        with store_errors(self._where):
            cursor = self._jobs.find({"idempotency_key": keys, "schedule": name}, dict.fromkeys(HEAVY, 0))
            return await cursor.sort("idempotency_key", DESCENDING).limit(limit).to_list()


def _readable(docs: Sequence[Document]) -> list[Schedule]:
    """Those that this version can read."""
    found: list[Schedule] = []
    for doc in docs:
        try:
            found.append(_schedule(doc))
        except ScheduleUnreadable as error:
            log.warning("%s", error)
    return found


def _schedule(doc: Document) -> Schedule:
    """Raises ScheduleUnreadable."""
    try:
        return _read(doc)
    except (msgspec.MsgspecError, TypeError) as error:  # TypeError: what is packed is no text
        raise ScheduleUnreadable(str(doc["_id"])[:MAX_NAME], str(error)) from None


def _read(doc: Document) -> Schedule:
    """Unknown fields, of a newer version, are left out."""
    fields = {name: value for name, value in doc.items() if name in _FIELDS}
    fields |= {name: unpack(doc[name]) for name in _PACKED if name in doc}
    msgspec.convert({name: fields[name] for name in _DECIDE if name in fields}, _Decides)
    return msgspec.convert({**fields, "name": doc["_id"]}, Schedule)


def _document(schedule: Schedule) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(schedule, builtin_types=(datetime,))
    fields |= {name: pack(fields[name]) for name in _PACKED if name in fields}
    del fields["name"]
    fields["rev"] = schedule.rev
    if schedule.due_at is None:
        fields.pop("due_at", None)
    return fields
