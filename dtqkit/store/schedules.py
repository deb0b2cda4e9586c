"""The collection `schedules`: a document each, changed by compare-and-set on its `rev`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, cast

import msgspec
from bson import ObjectId
from pymongo import ASCENDING, DESCENDING
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from dtqkit.model.jobs import TERMINAL, is_job_id
from dtqkit.model.schedule_errors import ScheduleUnreadable
from dtqkit.model.schedules import HELD_S, MAX_LIVE, MAX_NAME, CatchUpRuns, Overlap, Schedule, prefix_of
from dtqkit.store.client import NOTICING, MongoLink, store_errors
from dtqkit.store.documents import HEAVY, Document
from dtqkit.store.indexes import SCHEDULES
from dtqkit.store.packing import pack, unpack
from dtqkit.support.once import Once

log = logging.getLogger("dtqkit.store")

#: Schedules that one look reads at most.
LOOK: Final = 100
#: Those that will be due. A `due_at` that is no date was written by hand: it must not stop the others. The index `due`
#: has all of them.
DUE: Final = {"due_at": {"$type": "date"}}
#: Packed as payloads are.
_PACKED: Final = ("payload", "options")
_FIELDS: Final = frozenset(Schedule.__struct_fields__)
_TIMES: Final = (
    "created_at",
    "anchor_at",
    "next_at",
    "due_at",
    "pending",
    "held_at",
    "last_at",
    "off_from",
    "off_until",
)
_YEARS: Final = (1900, 9000)


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
    #: Ids of those that would be due and cannot be read.
    unreadable: Sequence[Any] = ()


class Schedules:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, database: AsyncDatabase[Document], where: MongoLink) -> None:
        self._schedules = database["schedules"].with_options(NOTICING)
        self._jobs = database["jobs"]
        self._where = where
        self._indexed = False
        self._said = Once()

    async def look(self, aside: Collection[Any] = ()) -> DueSchedules:
        """By one query on the index `due`, also when none is due; without those whose ids are in `aside`."""
        # Of those that are not due, only the time is needed.
        needed = {"$or": [{"$lte": ["$due_at", "$$NOW"]}, {"$gt": ["$held_at", None]}]}
        payload = {"$cond": [needed, "$payload", {}]}
        pipeline: list[Document] = [
            {"$match": {**DUE, "_id": {"$nin": list(aside)}} if aside else DUE},
            {"$sort": {"due_at": ASCENDING}},
            {"$limit": LOOK},
            {"$set": {"payload": payload, "now": "$$NOW"}},
        ]
        with store_errors(self._where):
            docs = await (await self._schedules.aggregate(pipeline)).to_list()
        if not docs:
            return DueSchedules(None, [], None)
        now = docs[0]["now"]
        found = Found(self._said)
        # A time that Python cannot hold; and a list of dates, which is of the type of a date for a query.
        odd = [doc for doc in docs if not isinstance(doc["due_at"], datetime)]
        docs = [doc for doc in docs if isinstance(doc["due_at"], datetime)]
        # One that waits for the run before is due within a second, unless the clock was set back since.
        soon = now + timedelta(seconds=2 * HELD_S)
        due = [doc for doc in docs if doc["due_at"] <= now or ("held_at" in doc and doc["due_at"] > soon)]
        later = min((doc["due_at"] for doc in docs if doc not in due), default=None)
        for doc in (*odd, *due):
            found.add(doc)
        return DueSchedules(now, found.schedules, later, found.unreadable)

    async def get(self, name: str) -> Schedule | None:
        with store_errors(self._where):
            doc = await self._schedules.find_one({"_id": name})
        return None if doc is None else _schedule(doc)

    async def all(self) -> list[Schedule]:
        """Sorted by name."""
        with store_errors(self._where):
            docs = await self._schedules.find().sort("_id").to_list()
        found = Found(self._said)
        for doc in docs:
            found.add(doc)
        return found.schedules

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
        fields["rev"] = known.rev + 1
        update: Document = {"$set": fields}
        if gone:
            update["$unset"] = gone
        # Without one, as another program may have written it, it is the first.
        rev: Any = {"$in": [1, None]} if known.rev == 1 else known.rev
        with store_errors(self._where, writes=True, point=point):
            done = await self._schedules.update_one({"_id": known.name, "rev": rev}, update)
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


class Found:
    """The schedules that this version can read, and the ids of the others, each of which is logged once."""

    def __init__(self, said: Once) -> None:
        self._said = said
        self.schedules: list[Schedule] = []
        self.unreadable: list[Any] = []

    def add(self, doc: Document) -> None:
        try:
            self.schedules.append(_schedule(doc))
        except ScheduleUnreadable as error:
            self.unreadable.append(doc["_id"])
            if self._said.first(str(error)):
                log.warning("%s", error)


def _schedule(doc: Document) -> Schedule:
    """Raises ScheduleUnreadable."""
    try:
        schedule = _read(doc)
        _check_times(schedule)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:  # TypeError: what is packed is no text
        raise ScheduleUnreadable(str(doc["_id"])[:MAX_NAME], str(error)) from None
    return schedule


def _check_times(schedule: Schedule) -> None:
    """Raises ValueError for a time from which another one cannot be computed, in each zone."""
    for field in _TIMES:
        value: Any = getattr(schedule, field)
        times: Sequence[Any] = cast("Sequence[Any]", value) if isinstance(value, tuple) else (value,)
        for at in times:
            if at is not None and (at.tzinfo is None or not _YEARS[0] <= at.year <= _YEARS[1]):
                raise ValueError(f"{field} is {at.isoformat()}, and times are in the years {_YEARS[0]} to {_YEARS[1]}")


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
