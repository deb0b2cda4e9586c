"""Listings: filters to MongoDB queries, keyset pages, and history as rows of attempts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from bson import ObjectId
from msgspec import UNSET

from dtqkit.control import (
    AttemptRow,
    DeadLetterQuery,
    HistoryQuery,
    JobQuery,
    Page,
    columns_of,
    decode_cursor,
    encode_cursor,
    parse_since,
)
from dtqkit.model.errors import InvalidQuery, StoreUnavailable
from dtqkit.model.jobs import PRIORITIES, STATUSES, Job, is_job_id
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.store.fields import job_of, jobs_of
from dtqkit.store.ids import id_at
from dtqkit.store.jobs import Fields
from dtqkit.store.settlements import BY_ID

#: How long MongoDB may look for a page, in ms; then it is looked for piece by piece, for so many seconds.
_PAGE_MS: Final = 1_000
_SCAN_S: Final = 2.0
#: Jobs that a search finds by each of its indexes before the other filters are asked.
_MATCHES: Final = 400
#: Jobs in one piece; and in the smallest, where a look into large payloads takes long.
_PIECE: Final = 20_000
_LEAST_PIECE: Final = 200
#: Above the ids of all jobs.
_LAST: Final = ObjectId(b"\xff" * 12)
#: How long a chunk of a history is looked for piece by piece before what was found is given out, in seconds.
_CHUNK_S: Final = 10.0
#: Jobs fetched at a time while a history or a set of dead letters is read.
_CHUNK: Final = 500


def filter_of(
    now: datetime,
    *,
    since: str | None = None,
    cursor: str | None = None,
    ids: Sequence[str] | None = None,
    **fields: str | None,
) -> Document:
    """The MongoDB query of a listing."""
    query: Document = {name: value for name, value in fields.items() if value is not None}
    # By the index `lane` newest first: a filter that is not given means all values, merged.
    if "status" in query:
        query.setdefault("priority", {"$in": list(PRIORITIES)})
    elif set(query) == {"priority"}:
        query["status"] = {"$in": list(STATUSES)}
    bounds: dict[str, Any] = {}
    if since is not None:
        bounds["$gte"] = id_at(parse_since(since, now))
    if cursor is not None:
        bounds["$lt"] = ObjectId(decode_cursor(cursor))
    if bounds:
        query["_id"] = bounds
    if ids is not None:
        if wrong := [i for i in ids if not is_job_id(i)]:
            raise InvalidQuery(f"{wrong[0][:40]!r} is not a job id: it has 24 hexadecimal digits")
        query["$and"] = [{"_id": {"$in": [ObjectId(i) for i in ids]}}]
    return query


def _ways(q: str) -> list[tuple[str, Document]]:
    """By id, idempotency key or tag, exact or its beginning: conditions, each with the index that serves it."""
    end = q + "\U0010ffff"
    ways: list[tuple[str, Document]] = [
        ("tags", {"tags": q}),  # newest first by the index, however many have it
        # The same element: of two conditions on an array, an index serves but one.
        ("tags", {"tags": {"$elemMatch": {"$gt": q, "$lt": end}}}),
        ("key", {"idempotency_key": {"$gte": q, "$lt": end}}),
    ]
    if is_job_id(q):
        ways.append((BY_ID, {"_id": ObjectId(q)}))
    elif re.fullmatch("[0-9a-fA-F]{4,23}", q):
        ways.append((BY_ID, {"_id": {"$gte": ObjectId(q.ljust(24, "0")), "$lte": ObjectId(q.ljust(24, "f"))}}))
    return ways


async def page(store: Store, query: JobQuery) -> Page[Job]:
    """A page of jobs, newest first."""
    filters = filter_of(
        store.now(),
        since=query.since,
        cursor=query.cursor,
        ids=query.ids,
        status=query.status,
        task=query.task,
        priority=query.priority,
        worker=query.worker,
    )
    fields: Fields = "brief" if query.brief else "usual" if query.ids is None else "attempts"
    found, edge = await look(store, filters, query.q, query.limit + 1, fields)
    jobs = tuple(jobs_of(found[: query.limit]))
    if len(found) > query.limit:
        edge = ObjectId(jobs[-1].id) if jobs else _LAST
    return Page(items=jobs, cursor=encode_cursor(str(edge)) if edge is not None else None)


async def look(
    store: Store, filters: Document, q: str | None, limit: int, fields: Fields
) -> tuple[list[Document], ObjectId | None]:
    """The newest jobs that match; and the id down to which everything was looked at, when that is not all there is."""
    if q is not None:
        return await _search(store, q, filters, limit, fields)
    found = await store.jobs.page(filters, limit, _PAGE_MS, fields=fields)
    return (found, None) if found is not None else await _scan(store, filters, limit, fields)


def anywhere(filters: Document, q: str | None) -> Document:
    """The whole query, for a count."""
    return filters if q is None else {**filters, "$or": [way for _, way in _ways(q)]}


async def _search(
    store: Store, q: str, filters: Document, limit: int, fields: Fields
) -> tuple[list[Document], ObjectId | None]:
    """Ids first, by one index after the other: given the choice, the planner now and then reads every job instead.

    Returns what was found, and the id down to which everything was looked at; None for that at the end.
    """
    ways = _ways(q)
    either = {**filters, "$or": [way for _, way in ways]}
    bounds = [{"_id": filters["_id"]}] if "_id" in filters else []
    ids: set[ObjectId] = set()
    edge: ObjectId | None = None
    for index, way in ways:
        some = await store.jobs.matching({"$and": [way, *bounds]}, _MATCHES, _PAGE_MS, by=index)
        if some is None:
            return await _scan(store, either, limit, fields)
        ids.update(some)
        if len(some) == _MATCHES:  # this index says nothing about jobs older than its last one
            edge = some[-1] if edge is None else max(edge, some[-1])
    known = [job for job in ids if edge is None or job >= edge]
    found = await store.jobs.page({**filters, "_id": {"$in": known}}, limit, _PAGE_MS, fields=fields, by=BY_ID)
    return (found, edge) if found is not None else await _scan(store, either, limit, fields)


async def _scan(
    store: Store, filters: Document, limit: int, fields: Fields, *, scan_s: float = _SCAN_S
) -> tuple[list[Document], ObjectId | None]:
    """What no index finds: looked for piece by piece, newest first, for a bounded time.

    Returns what was found, and the id down to which everything was looked at; None for that at the end.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + scan_s
    bounds: dict[str, ObjectId] = dict(filters.get("_id", {}))
    oldest = bounds.pop("$gte", None)
    below = bounds.get("$lt")
    found: list[Document] = []
    size = _PIECE
    while len(found) < limit and (loop.time() < deadline or below == bounds.get("$lt")):
        edge = await store.jobs.nth_below(below, size)
        last = edge is None or (oldest is not None and edge <= oldest)
        piece: Document = {}
        if below is not None:
            piece["$lt"] = below
        if (least := oldest if last else edge) is not None:
            piece["$gte"] = least
        look = {**filters, "_id": piece} if piece else filters
        docs = await store.jobs.page(look, limit - len(found), _PAGE_MS, fields=fields)
        if docs is None and size > _LEAST_PIECE:
            size = max(size // 10, _LEAST_PIECE)
            continue
        if docs is None:
            if below == bounds.get("$lt"):  # nothing is known then, and no page would say so
                late = f"reading {size:,} jobs took longer than {_PAGE_MS / 1000:g} s"
                raise StoreUnavailable("MongoDB", "", late)
            break
        found += docs
        if last:
            return found, None
        below = edge
    return found, below


async def dead_matching(store: Store, query: DeadLetterQuery) -> list[Job]:
    """All failed jobs that match."""
    filters = filter_of(
        store.now(), since=query.since, ids=query.ids, status="failed", task=query.task, priority=query.priority
    )
    return jobs_of([doc async for doc in _all(store, filters)])


async def history(
    store: Store, opened: Callable[[], Awaitable[None]], query: HistoryQuery
) -> AsyncIterator[AttemptRow]:
    """A row for each kept attempt of each job that matches, jobs newest first, attempts oldest first."""
    wanted = set(columns_of(query))
    await opened()
    filters = filter_of(store.now(), since=query.since, status=query.status, task=query.task)
    async for doc in _all(store, filters, fields="attempts"):
        job = job_of(doc)
        for attempt in job.attempts:
            yield AttemptRow(
                job=job.id,
                task=job.task,
                priority=job.priority,
                status=job.status,
                number=attempt.number,
                worker=attempt.worker,
                queued_at=attempt.queued_at,
                claimed_at=attempt.claimed_at,
                started_at=attempt.started_at,
                ended_at=attempt.ended_at,
                wait_s=attempt.wait_s,
                run_s=attempt.run_s,
                ending=attempt.ending,
                error=str(attempt.error) if attempt.error else None,
                payload=job.payload if "payload" in wanted else UNSET,
                tags=job.tags if "tags" in wanted else UNSET,
                result=(job.result if attempt.ending == "completed" else None) if "result" in wanted else UNSET,
            )


async def _all(store: Store, filters: Document, *, fields: Fields = "usual") -> AsyncIterator[Document]:
    """Everything that matches, newest first, a chunk at a time: no cursor is held open in between."""
    bounds = dict(filters.get("_id", {}))
    while True:
        edge: ObjectId | None = None
        found = await store.jobs.page(filters, _CHUNK, _PAGE_MS, fields=fields)
        if found is None:  # its index is missing, perhaps
            found, edge = await _scan(store, filters, _CHUNK, fields, scan_s=_CHUNK_S)
        elif len(found) == _CHUNK:
            edge = found[-1]["_id"]
        for doc in found:
            if isinstance(doc["_id"], ObjectId):
                yield doc
        if len(found) == _CHUNK:
            edge = found[-1]["_id"]
        if edge is None:
            return
        filters = {**filters, "_id": {**bounds, "$lt": edge}}
