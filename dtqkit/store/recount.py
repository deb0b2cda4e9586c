"""Count closed minutes a second time, to add what was committed after they were closed.

Such late writes are slow bulk inserts, writes that waited for a majority, and writes before which MongoDB's clock was
set back. The difference is added to its minute, which also keeps it as `late`, and then to the totals. If a process
stops between the two, the next one completes both.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError

from dtqkit.store.client import Link, is_duplicate_keys, store_errors
from dtqkit.store.documents import Document
from dtqkit.store.ids import id_at
from dtqkit.store.minutes import (
    MINUTE,
    OTHER,
    Counts,
    Minutes,
    Totals,
    add,
    as_counts,
    as_rows,
    as_stored,
    minute_of,
    summed,
)

log = logging.getLogger("dtqkit.store")

#: Age of a minute when it is counted a second time: longer than any insert takes.
AFTER: Final = 10 * MINUTE
#: Minutes that are counted a second time together, at least and at most.
_AT_LEAST: Final = 5
_AT_MOST: Final = 60
_COUNT_MS: Final = 5_000


class Recount:
    """Safe when two processes run it at once."""

    def __init__(
        self, closed: Minutes, minutes: AsyncCollection[Document], jobs: AsyncCollection[Document], where: Link
    ) -> None:
        self._closed = closed
        self._minutes = minutes
        self._jobs = jobs
        self._where = where

    async def run(self, now: datetime, kept_from: datetime) -> bool:
        """One piece; returns whether there is more. Minutes before `kept_from` may have been deleted."""
        totals = await self._closed.totals()
        if totals is None:
            return False
        limit = min(minute_of(now - AFTER), totals.stored)
        if totals.checked is None:  # minutes that were closed before this version are not counted again
            since = totals.stored - AFTER
            await self._add_to_totals(totals, Counter(), since)
            return limit - since >= _AT_LEAST * MINUTE
        since = max(totals.checked, minute_of(kept_from) + MINUTE)
        until = min(limit, since + _AT_MOST * MINUTE)
        if until - since < _AT_LEAST * MINUTE:
            return False
        kept = await self._kept(since, until)
        if await self._count(since, until) > sum(as_counts(doc["counts"]).total() for doc in kept.values()):
            await self._add_to_minutes(kept, await self._closed.count(since, until))
            kept = await self._kept(since, until)
        late: Counts = Counter()
        for doc in kept.values():
            late += as_counts(doc.get("late", ()))
        if await self._add_to_totals(totals, late, until) and late:
            log.warning("%d submits and ends of %s to %s were committed late", late.total(), since, until)
        return limit - until >= _AT_LEAST * MINUTE

    async def _kept(self, since: datetime, until: datetime) -> dict[datetime, Document]:
        with store_errors(self._where):
            docs = await self._minutes.find({"_id": {"$gte": since, "$lt": until}}).to_list()
        return {doc["_id"]: doc for doc in docs}

    async def _count(self, since: datetime, until: datetime) -> int:
        """The number of all submits and ends, from indexes alone. Usually it is the same as before."""
        within = {"$gte": since, "$lt": until}
        pipelines: list[list[Document]] = [
            [{"$match": {"_id": {"$gte": id_at(since), "$lt": id_at(until)}}}],
            [{"$match": {"ended_at": within}}],
            [
                {"$match": {"failed_at": {"$elemMatch": within}}},
                {"$unwind": "$failed_at"},
                {"$match": {"failed_at": within}},
            ],
        ]
        found = 0
        for pipeline in pipelines:
            counted: list[Document] = [*pipeline, {"$count": "n"}]
            with store_errors(self._where):
                answer = await (await self._jobs.aggregate(counted, maxTimeMS=_COUNT_MS)).to_list()
            found += answer[0]["n"] if answer else 0
        return found

    async def _add_to_minutes(self, kept: Mapping[datetime, Document], counted: Mapping[datetime, Counts]) -> None:
        """Once for each minute: a minute that another process has added to stays as it is."""
        updates: list[UpdateOne] = []
        for at, counts in counted.items():
            before: Counts = as_counts(kept[at]["counts"]) if at in kept else Counter()
            if late := _more(add(Counter(), counts), before):
                both = before + late
                fields: Mapping[str, Any] = {"counts": as_rows(both), "late": as_rows(late), **summed(both)}
                updates.append(UpdateOne({"_id": at, "late": {"$exists": False}}, {"$set": fields}, upsert=True))
        if not updates:
            return
        with store_errors(self._where, writes=True):
            try:
                await self._minutes.bulk_write(updates, ordered=False)
            except BulkWriteError as error:
                if not is_duplicate_keys(error):
                    raise

    async def _add_to_totals(self, totals: Totals, late: Counts, until: datetime) -> bool:
        new: Document = {"checked": until}
        if late:
            new["counts"] = as_rows(add(totals.counts, late))
        with store_errors(self._where, writes=True):
            return (await self._minutes.update_one(as_stored(totals), {"$set": new})).matched_count == 1


def _more(counts: Counts, before: Counts) -> Counts:
    """The increases only: decreases come from deletes and requeues. If either count has tasks merged as OTHER, merge
    all of them: the two may have merged different tasks."""
    if any(task == OTHER for _, _, task in (*counts, *before)):
        counts, before = _shared(counts), _shared(before)
    return counts - before


def _shared(counts: Counts) -> Counts:
    shared: Counts = Counter()
    for (what, priority, _), n in counts.items():
        shared[what, priority, OTHER] += n
    return shared
