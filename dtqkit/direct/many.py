"""Changes of one waiting job, and of all jobs that match a filter.

A bulk goes from the newest job to older ones, a piece at a time, so that jobs which come meanwhile are not touched.
After some seconds it answers with a cursor, and the caller asks again. If it is given up in between, nothing is half
done: the same call again does the rest, since what was cancelled, requeued or deleted does not match any more. What was
updated may match again: it gets the same values once more, and its delay starts from then. A cursor leaves it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
from bson import ObjectId

from dtqkit.control import JobRequest, encode_cursor
from dtqkit.control.bulk import (
    CANCEL_MANY,
    DELETE_MANY,
    REQUEUE_MANY,
    UPDATE,
    UPDATE_MANY,
    Bulk,
    BulkRequest,
    BulkUpdateRequest,
    JobChanges,
    UpdateRequest,
    check_changes,
    check_filter,
    refused_where,
)
from dtqkit.control.where import match_of
from dtqkit.direct import listing
from dtqkit.direct.look import get
from dtqkit.direct.parts import Parts, answers
from dtqkit.model.errors import InvalidOption, JobConflict, PayloadTooLarge
from dtqkit.model.jobs import TERMINAL, WAITING, Job, Status
from dtqkit.model.where import PayloadMatch
from dtqkit.store.documents import Document
from dtqkit.store.fields import jobs_of
from dtqkit.store.where import may_match
from dtqkit.tasks.unique import is_of_payload, made_of
from dtqkit.transitions.announce import unlist
from dtqkit.transitions.cancel import cancel_many as cancel_piece
from dtqkit.transitions.delete import delete_many as delete_piece
from dtqkit.transitions.requeue import requeue_many as requeue_piece
from dtqkit.transitions.update import update as update_job
from dtqkit.transitions.update import update_many as update_piece

#: Changes the jobs of one piece.
Change: TypeAlias = Callable[[Sequence[Document]], Awaitable[Bulk]]

#: Jobs in one piece, and how long pieces are worked on before the answer, in seconds.
PIECE: Final = 250
WORK_S: Final = 4.0
#: Part of the time in which a bulk works: other callers of the stores have the rest.
SHARE: Final = 0.75
#: Tries to change a job that others change at the same time.
_TRIES: Final = 5

# -- one job


@answers.to(UPDATE)
async def update(parts: Parts, asked: UpdateRequest) -> Job:
    """Change a waiting job. Raises JobConflict when it runs or is over, InvalidPayload, InvalidOption."""
    check_changes(asked, payload=asked.payload is not None)
    for _ in range(_TRIES):
        job = await get(parts, JobRequest(id=asked.id))
        if job.status not in WAITING or job.cancel_requested:
            what = "running" if job.status == "running" else "over"
            raise JobConflict(f"job {asked.id} is {job.status}: a job that is {what} cannot be changed")
        _check_expiry(job, asked.delay_s, parts.store.now())
        fields = _fields(asked)
        if asked.payload is not None:
            fields["payload"] = await _checked(parts, job.task, asked.payload)
            _check_key(job, fields["payload"])
        changed = await update_job(parts.broker, parts.store, job, fields, asked.delay_s)
        if changed is not None:
            return changed
    raise JobConflict(f"job {asked.id} is changed by others at the same time: try again")


def _fields(changes: JobChanges) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if changes.priority is not None:
        fields["priority"] = changes.priority
    if changes.tags is not None:
        fields["tags"] = list(changes.tags)
    return fields


def _check_expiry(job: Job, delay_s: float | None, now: datetime) -> None:
    """Raises InvalidOption for a delay after which the job could only expire."""
    if delay_s is None or job.expires_s is None or job.attempt:
        return
    left_s = job.expires_s - (now - job.created_at).total_seconds()
    if left_s <= delay_s:
        raise InvalidOption(
            f"delay_s is {delay_s:.15g} and job {job.id} expires in {max(left_s, 0):.3g} s, {job.expires_s:.15g} s "
            "after its submission: it would never run; give a shorter delay, or submit it again with a longer expires_s"
        )


async def _checked(parts: Parts, name: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The payload, checked as that of a new job."""
    task = parts.registry.find(name)
    if task is not None:
        checked = task.check_payload(payload)
    else:
        checked, _ = await parts.enqueuer.known.check(name, payload)
    size = len(msgspec.json.encode(checked))
    if size > parts.settings.max_payload:
        raise PayloadTooLarge(name, size, parts.settings.max_payload)
    return checked


def _check_key(job: Job, payload: dict[str, Any]) -> None:
    """Raises JobConflict when this payload would have another unique key: submits of the old one would find the job."""
    key = job.unique_key
    if key is not None and (other := made_of(key, payload)) is not None and other != key:
        part = "payload" if is_of_payload(key) else f"arguments {key.split(':')[1]}"
        raise JobConflict(
            f"job {job.id} is unique and its unique key is made of its {part}, which therefore cannot be changed: "
            "cancel it and submit it again, or give such jobs a unique_key"
        )


# -- many


@answers.to(CANCEL_MANY)
async def cancel_many(parts: Parts, asked: BulkRequest) -> Bulk:
    """Waiting jobs are cancelled at once; running ones are asked to stop."""
    statuses = check_filter(asked, "cancel", (*WAITING, "running"))
    was_listed: list[Job] = []

    async def cancel(docs: Sequence[Document]) -> Bulk:
        changed = await cancel_piece(parts.broker, parts.store, docs)
        cancelled = {job.id for job in changed if job.status == "cancelled"}
        was_listed.extend(job for job in jobs_of(docs) if job.id in cancelled)
        return Bulk(changed=len(changed), stopping=len(changed) - len(cancelled))

    try:
        return await _in_pieces(parts, asked, statuses, cancel)
    finally:
        await unlist(parts.broker, was_listed)


@answers.to(REQUEUE_MANY)
async def requeue_many(parts: Parts, asked: BulkRequest) -> Bulk:
    statuses = check_filter(asked, "requeue", ("failed",))

    async def requeue(docs: Sequence[Document]) -> Bulk:
        return Bulk(changed=await requeue_piece(parts.broker, parts.store, docs))

    return await _in_pieces(parts, asked, statuses, requeue)


@answers.to(UPDATE_MANY)
async def update_many(parts: Parts, asked: BulkUpdateRequest) -> Bulk:
    check_changes(asked.set)
    statuses = check_filter(asked, "update", WAITING)

    async def change(docs: Sequence[Document]) -> Bulk:
        changed = await update_piece(parts.broker, parts.store, docs, _fields(asked.set), asked.set.delay_s)
        return Bulk(changed=changed)

    return await _in_pieces(parts, asked, statuses, change)


@answers.to(DELETE_MANY)
async def delete_many(parts: Parts, asked: BulkRequest) -> Bulk:
    statuses = check_filter(asked, "delete", TERMINAL)

    async def delete(docs: Sequence[Document]) -> Bulk:
        return Bulk(changed=await delete_piece(parts.store, docs))

    return await _in_pieces(parts, asked, statuses, delete)


async def _in_pieces(parts: Parts, asked: BulkRequest, statuses: Sequence[Status], change: Change) -> Bulk:
    """Change what matches for WORK_S, or only count it."""
    await parts.open()
    match = await _match(parts, asked)
    filters = _query(parts, asked, statuses)
    if asked.dry_run:
        return Bulk(matched=await parts.store.many.count(listing.anywhere(filters, asked.filter.q), match))
    clock = asyncio.get_running_loop().time
    until, done = clock() + WORK_S, Bulk()
    async for docs, edge in _pieces(parts, filters, asked.filter.q, match):
        began = clock()
        changed = await change(docs) if docs else Bulk()
        cursor = None if edge is None else encode_cursor(str(edge))
        done = done.plus(msgspec.structs.replace(changed, matched=len(docs), cursor=cursor))
        if clock() > until:
            break
        if edge is not None:
            await asyncio.sleep((clock() - began) * (1 / SHARE - 1))
    return done


async def _match(parts: Parts, asked: BulkRequest) -> PayloadMatch | None:
    """The values of `where`, checked against the tasks that are known here or to the workers."""
    if not (where := asked.filter.where):
        return None
    known: dict[str, Mapping[str, Any]] = {info.name: info.schema for info in await parts.store.catalogue.all()}
    known |= {task.name: task.schema for task in parts.registry}
    with refused_where():
        return match_of(where, asked.filter.task, known)


def _query(parts: Parts, asked: BulkRequest, statuses: Sequence[Status]) -> Document:
    wanted = asked.filter
    named = {"task": wanted.task, "priority": wanted.priority, "worker": wanted.worker}
    filters = listing.filter_of(
        parts.store.now(), since=wanted.since, cursor=asked.cursor, ids=wanted.ids, status=statuses[0], **named
    )
    return {**filters, "status": {"$in": list(statuses)}}


async def _pieces(
    parts: Parts, filters: Document, q: str | None, match: PayloadMatch | None
) -> AsyncIterator[tuple[list[Document], ObjectId | None]]:
    """What matches, newest first; with each piece the id after which the next one begins, None with the last."""
    bounds: dict[str, Any] = dict(filters.get("_id", {}))
    if match is not None:
        filters = {**filters, "$expr": may_match(match)}
    while True:
        docs, edge = await listing.look(parts.store, filters, q, PIECE, "place")
        if len(docs) >= PIECE:
            edge = docs[-1]["_id"]
        yield docs if match is None else await parts.store.many.sift(docs, match), edge
        if edge is None:
            return
        filters = {**filters, "_id": {**bounds, "$lt": edge}}
