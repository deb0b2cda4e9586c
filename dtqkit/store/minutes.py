"""Submits and ends per minute: counted from the jobs, and stored in the collection `minutes`.

A minute is counted and closed `LAG_S` after its end, when nearly all of its writes have been committed. From then on,
neither a requeue nor the expiry of its jobs changes it. Minutes that are not closed yet are counted from the jobs each
time. So a count is the closed minutes plus the rest: the same in every process, and it never decreases. Later commits
are added when the minute is counted a second time (`store.recount`).

    {_id: minute, counts: [[what, priority, task, n], …], submitted, completed, failed, cancelled, waiting?, running?,
     late?}
    {_id: "totals", until: minute, checked?: minute, counts}   all closed minutes; their documents may have expired

The time of a submit is that of the job's id (whole seconds), of a completion or cancel its `ended_at`. A failure is at
`ended_at` and, if the job was requeued since, at each time in its `failed_at`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from bson import ObjectId
from pymongo import DESCENDING, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, ExecutionTimeout

from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.jobs import PRIORITIES, Priority
from dtqkit.store.client import MongoLink, is_duplicate_keys, store_errors
from dtqkit.store.documents import Document
from dtqkit.store.fields import lane_of
from dtqkit.store.ids import id_at

What: TypeAlias = Literal["submitted", "completed", "failed", "cancelled"]
WHATS: Final[tuple[What, ...]] = get_args(What)
#: What, priority, task.
Counts: TypeAlias = Counter[tuple[What, Priority, str]]

#: Seconds from the end of a minute until it is closed: time for its writes to be committed.
LAG_S: Final = 20.0
#: Below this number of submits and ends in a minute, several minutes are closed together.
QUIET: Final = 500
MINUTE: Final = timedelta(minutes=1)
#: A gap of more minutes is searched for the next submit or end before minutes are counted.
_GAP: Final = 12
#: Tasks with their own counts. Further ones share OTHER, so that the size of a document is bounded.
MAX_TASKS: Final = 200
OTHER: Final = "(other)"
#: Minutes that are closed at a time, and the time limit of one count, in ms.
_SPAN: Final = 60
_COUNT_MS: Final = 5_000
#: Documents that are deleted at a time.
_PIECE: Final = 1_000
TOTALS: Final = "totals"
#: An id can have no time before it.
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)


class StoredTotals(NamedTuple):
    """All counts up to `until`."""

    until: datetime
    counts: Counts
    #: `until` as stored: nothing happened between the two.
    stored: datetime
    #: Minutes before this were counted a second time; None: none was.
    checked: datetime | None


class Sample(NamedTuple):
    """Jobs waiting in each lane, and jobs running, at some time in a minute."""

    waiting: dict[Priority, int]
    running: int


class Minutes:
    """Any process may close minutes, also two at once: both count the same."""

    def __init__(self, minutes: AsyncCollection[Document], jobs: AsyncCollection[Document], where: MongoLink) -> None:
        self._minutes = minutes
        self._jobs = jobs
        self._where = where
        #: Up to here, nothing happened after the last closed minute.
        self._empty_until = datetime.min.replace(tzinfo=UTC)
        #: The totals as this process last wrote them; the next write notices if another process has changed them.
        self._held: StoredTotals | None = None
        #: Whether little happened in the minutes that were closed last.
        self.quiet = False
        self._span = _SPAN
        self._sample = Sample(dict.fromkeys(PRIORITIES, 0), 0)

    # -- counting the jobs

    async def count(self, since: datetime, until: datetime | None = None) -> dict[datetime, Counts]:
        """Count from the jobs what happened from `since` to before `until` (None: now), by minute.

        Raises StoreUnavailable when it takes too long, for example while the index is being built.
        """
        return by_minute(await self._look(counting(self._jobs.name, since, until)))

    async def _look(self, pipeline: list[Document]) -> list[Document]:
        with store_errors(self._where):
            try:
                return await (await self._jobs.aggregate(pipeline, maxTimeMS=_COUNT_MS)).to_list()
            except ExecutionTimeout:
                late = f"counting jobs took longer than {_COUNT_MS / 1000:g} s: is the index `ended` still being built?"
                raise StoreUnavailable("MongoDB", self._where.uri, late) from None

    # -- what is closed

    async def totals(self) -> StoredTotals | None:
        """None: no minute was ever closed."""
        with store_errors(self._where):
            doc = await self._minutes.find_one({"_id": TOTALS})
        if doc is None:
            return None
        return StoredTotals(
            max(doc["until"], self._empty_until), as_counts(doc["counts"]), doc["until"], doc.get("checked")
        )

    async def between(self, since: datetime, until: datetime) -> Counts:
        """The sum of the closed minutes that begin from `since` to before `until`."""
        pipeline: list[Document] = [
            {"$match": {"_id": {"$gte": since, "$lt": until}}},
            {"$unwind": "$counts"},
            {"$group": {"_id": {"$slice": ["$counts", 3]}, "n": {"$sum": {"$arrayElemAt": ["$counts", 3]}}}},
        ]
        with store_errors(self._where):
            found = await (await self._minutes.aggregate(pipeline, maxTimeMS=_COUNT_MS)).to_list()
        return as_counts([*group["_id"], group["n"]] for group in found)

    async def series(self, since: datetime, until: datetime) -> tuple[Sample | None, dict[datetime, Document]]:
        """The closed minutes from `since` to before `until`, without tasks, and the last sample before them."""
        with store_errors(self._where):
            docs = await self._minutes.find({"_id": {"$gte": since, "$lt": until}}, {"counts": 0}).to_list()
            before = await self._minutes.find_one(
                {"_id": {"$lt": since, "$gte": since - timedelta(days=7)}, "running": {"$exists": True}},
                {"counts": 0},
                sort=[("_id", DESCENDING)],
                max_time_ms=_COUNT_MS,
            )
        return sample_of(before), {doc["_id"]: doc for doc in docs}

    # -- closing

    async def close(self, now: datetime) -> bool:
        """Close some of the minutes that can be closed. Returns whether there are more."""
        limit = minute_of(now - timedelta(seconds=LAG_S))
        totals = self._held or await self.totals()
        begin = max(totals.until, self._empty_until) if totals else await self._next(None)
        if begin is not None and limit - begin > _GAP * MINUTE:  # skip time in which nothing happened
            begin = await self._next(begin) or limit
        if begin is None:
            return False
        begin = min(begin, limit)  # another program may have written an end that is still to come
        end = min(limit, begin + self._span * MINUTE)
        if begin < end:
            try:
                counted, sample = await self.count_and_sample(begin, end, now=end == limit)
            except StoreUnavailable:
                self._span = max(1, self._span // 4)
                raise
            self._span = min(_SPAN, self._span * 2)
            self.quiet = sum(counts.total() for counts in counted.values()) < QUIET * ((end - begin) / MINUTE)
            docs = _documents(counted, end, sample if sample != self._sample else None)
            if docs or totals is None:
                self._held = await self._write(docs, totals, begin, end)
            self._sample = sample or self._sample
            if docs and totals and self._held is None:  # another process has closed some, perhaps fewer
                return True
        if totals:  # up to here, everything is written, or nothing happened
            self._empty_until = max(self._empty_until, end)
        return end < limit

    async def _next(self, since: datetime | None) -> datetime | None:
        """The first minute from `since` on with a submit or an end; None: there is none."""
        from_then: Document = {"$gte": since or _FIRST}
        first: Document = {"_id": {"$gte": id_at(since)}} if since else {}
        only: Document = {"$project": {"at": 1}}
        ended: list[Document] = [
            *({"$match": {"ended_at": from_then}}, {"$sort": {"ended_at": 1}}, {"$limit": 1}),
            *({"$set": {"at": "$ended_at"}}, only),
        ]
        requeued: list[Document] = [
            {"$match": {"failed_at": {"$elemMatch": from_then}}},
            {"$unwind": "$failed_at"},
            {"$match": {"failed_at": from_then}},
            {"$group": {"_id": None, "at": {"$min": "$failed_at"}}},
        ]
        found = await self._look(
            [
                *({"$match": first}, {"$sort": {"_id": 1}}, {"$limit": 1}, {"$project": {"at": {"$toDate": "$_id"}}}),
                {"$unionWith": {"coll": self._jobs.name, "pipeline": ended}},
                {"$unionWith": {"coll": self._jobs.name, "pipeline": requeued}},
            ]
        )
        return min((minute_of(doc["at"]) for doc in found), default=None)

    async def count_and_sample(
        self, begin: datetime, end: datetime, *, now: bool
    ) -> tuple[dict[datetime, Counts], Sample | None]:
        """In one operation. A sample is taken only for the minute that has just ended."""
        pipeline = counting(self._jobs.name, begin, end)
        if now:
            waiting = {"status": "pending"}
            by_lane: Document = {"$group": {"_id": {"lane": "$priority"}, "n": {"$sum": 1}}}
            running: Document = {"$group": {"_id": {"lane": "running"}, "n": {"$sum": 1}}}
            for match, group in (waiting, by_lane), ({"status": "running"}, running):
                pipeline.append({"$unionWith": {"coll": self._jobs.name, "pipeline": [{"$match": match}, group]}})
        found = await self._look(pipeline)
        lanes: Counter[str] = Counter()
        for group in found:
            if isinstance(lane := group["_id"].get("lane"), str):
                lanes[lane] += group["n"]
        counted = by_minute(group for group in found if "lane" not in group["_id"])
        if not now:
            return counted, None
        return counted, Sample({lane: lanes[lane] for lane in PRIORITIES}, lanes["running"])

    async def _write(
        self, docs: list[Document], totals: StoredTotals | None, begin: datetime, end: datetime
    ) -> StoredTotals | None:
        """Write the minutes, then the totals. If the process stops in between, the next one completes both.

        None: another process has changed the totals meanwhile.
        """
        upserts = [UpdateOne({"_id": doc["_id"]}, {"$setOnInsert": doc}, upsert=True) for doc in docs]
        with store_errors(self._where, writes=True):
            try:
                written = (await self._minutes.bulk_write(upserts, ordered=False)).upserted_count if upserts else 0
            except BulkWriteError as error:
                if not is_duplicate_keys(error):
                    raise
                written = 0
            if written < len(docs):  # minutes that are stored already take precedence
                docs = await self._minutes.find({"_id": {"$gte": begin, "$lt": end}}).sort("_id").to_list()
            known: Counts = totals.counts if totals else Counter()
            for doc in docs:
                known = add(known, as_counts(doc["counts"]))
            new: Document = {"until": end, "counts": as_rows(known)}
            if totals is not None:
                done = (await self._minutes.update_one(as_stored(totals), {"$set": new})).matched_count == 1
                return StoredTotals(end, known, end, totals.checked) if done else None
            with contextlib.suppress(DuplicateKeyError):
                await self._minutes.insert_one({"_id": TOTALS, **new})
            return None

    async def expire(self, before: datetime) -> int:
        """Delete some of the minutes that began before then; returns how many. The totals stay."""
        query: Document = {"_id": {"$lt": before}}
        with store_errors(self._where, writes=True):
            ids = [doc["_id"] async for doc in self._minutes.find(query, {"_id": 1}).sort("_id").limit(_PIECE)]
            return (await self._minutes.delete_many({"_id": {"$in": ids}})).deleted_count if ids else 0


def as_stored(totals: StoredTotals) -> Document:
    """A filter: the totals, if no process has changed them."""
    return {"_id": TOTALS, "until": totals.stored, "checked": totals.checked}


def minute_of(when: datetime) -> datetime:
    return when.replace(second=0, microsecond=0)


def sample_of(doc: Mapping[str, Any] | None) -> Sample | None:
    return Sample(doc["waiting"], doc["running"]) if doc is not None and "running" in doc else None


def add(known: Counts, more: Counts) -> Counts:
    """The sum. Beyond MAX_TASKS tasks, new ones are counted as OTHER, in an order that is the same in every process."""
    tasks = {task for _, _, task in known}
    both = known.copy()
    for (what, priority, task), n in sorted(more.items(), key=lambda item: item[0][2]):
        if task not in tasks:
            if len(tasks) >= MAX_TASKS:
                both[what, priority, OTHER] += n
                continue
            tasks.add(task)
        both[what, priority, task] += n
    return both


def counting(jobs: str, since: datetime, until: datetime | None) -> list[Document]:
    """A pipeline on the jobs: {_id: {at, what, priority, task}, n}."""

    # Truncating times is a third of the work, and usually only one minute is counted.
    alone = minute_of(since) if until is not None and until <= minute_of(since) + MINUTE else None

    def grouped(at: str, what: str) -> Document:
        minute: Any = {"$literal": alone} if alone else {"$dateTrunc": {"date": at, "unit": "minute"}}
        return {
            "$group": {"_id": {"at": minute, "what": what, "priority": "$priority", "task": "$task"}, "n": {"$sum": 1}}
        }

    within: Document = {"$gte": since}
    ids: Document = {"$gte": _id_from(since)}
    if until is not None:
        within["$lt"] = until
        ids["$lt"] = _id_from(until)
    submitted = [{"$match": {"_id": ids}}, grouped("$_id", "submitted")]
    requeued = [
        {"$match": {"failed_at": {"$elemMatch": within}}},
        {"$unwind": "$failed_at"},
        {"$match": {"failed_at": within}},
        grouped("$failed_at", "failed"),
    ]
    return [
        {"$match": {"ended_at": within}},
        grouped("$ended_at", "$status"),
        {"$unionWith": {"coll": jobs, "pipeline": submitted}},
        {"$unionWith": {"coll": jobs, "pipeline": requeued}},
    ]


def _id_from(when: datetime) -> ObjectId:
    """The smallest id whose time, in whole seconds, is `when` or later."""
    return id_at(when + timedelta(microseconds=-when.microsecond % 1_000_000))


def by_minute(groups: Iterable[Document]) -> dict[datetime, Counts]:
    found: dict[datetime, Counts] = {}
    for group in groups:
        key = group["_id"]
        if key.get("what") in WHATS:
            # Another program may have written a job without one, or with something else in its place.
            task = task if isinstance(task := key.get("task"), str) else OTHER
            found.setdefault(key["at"], Counter())[key["what"], lane_of(key), task] += group["n"]
    return found


def _documents(counted: dict[datetime, Counts], end: datetime, sample: Sample | None) -> list[Document]:
    last = end - MINUTE
    minutes = {at: add(Counter(), counts) for at, counts in counted.items()}
    if sample is not None:
        minutes.setdefault(last, Counter())
    return [
        {
            "_id": at,
            "counts": as_rows(counts),
            **summed(counts),
            **(sample._asdict() if sample is not None and at == last else {}),
        }
        for at, counts in sorted(minutes.items())
    ]


def summed(counts: Counts) -> dict[What, int]:
    """Over priorities and tasks."""
    return {what: sum(n for (w, _, _), n in counts.items() if w == what) for what in WHATS}


def as_rows(counts: Counts) -> list[list[Any]]:
    return [[*key, n] for key, n in sorted(counts.items())]


def as_counts(rows: Iterable[Any]) -> Counts:
    counts: Counts = Counter()
    for what, priority, task, n in rows:
        counts[what, priority, task] += n
    return counts
