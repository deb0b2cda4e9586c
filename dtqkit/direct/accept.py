"""Submits: from what was asked to the documents of new jobs, and what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from dtqkit.control import BatchItem, Bound, Refusal, Submission
from dtqkit.control.operations import SUBMIT, SUBMIT_MANY
from dtqkit.direct.parts import Parts, answers
from dtqkit.direct.patience import Patience
from dtqkit.direct.submit import New
from dtqkit.errors import DtqError, PayloadTooLarge, StoreUnavailable, UnknownTask
from dtqkit.jobs import Job
from dtqkit.store.documents import Document, new_id
from dtqkit.store.packing import pack
from dtqkit.tasks import TaskOptions
from dtqkit.values import Json

#: Bytes of a new job's document besides its payload, roughly.
_OTHER_BYTES: Final = 256

_OPTION_DEFAULTS: Final = TaskOptions()
#: Options of a task that a document keeps where they are not the default.
_KEPT_OPTIONS: Final = ("backoff_s", "backoff_max_s", "max_losses")


@answers.to(SUBMIT)
async def submit(parts: Parts, submission: Submission) -> Job:
    patience = patience_for(parts, [submission])
    await ready_for(parts, [submission], patience)
    doc = await document(parts, submission, parts.store.now())
    (accepted,) = await parts.submitter.submit([doc], patience)
    if isinstance(accepted, DtqError):
        raise accepted
    parts.health.wrote()
    return accepted


@answers.to(SUBMIT_MANY)
async def submit_many(parts: Parts, submissions: Sequence[Submission]) -> tuple[BatchItem, ...]:
    patience = patience_for(parts, submissions)
    await ready_for(parts, submissions, patience)
    items: list[BatchItem | None] = [None] * len(submissions)
    new: list[New] = []
    places: list[int] = []
    now, asked_at = parts.store.now(), asyncio.get_running_loop().time()
    for place, submission in enumerate(submissions):
        try:
            new.append(await document(parts, submission, now, asked_at))
            places.append(place)
        except DtqError as error:
            items[place] = BatchItem(refused=Refusal.of(error))
    accepted = await parts.submitter.submit(new, patience) if new else []
    for place, job in zip(places, accepted, strict=True):
        items[place] = BatchItem(job=job) if isinstance(job, Job) else BatchItem(refused=Refusal.of(job))
    if any(isinstance(job, Job) for job in accepted):
        parts.health.wrote()
    return tuple(item for item in items if item is not None)


def patience_for(parts: Parts, submissions: Sequence[Submission]) -> Patience:
    default_s = parts.settings.submit_wait_s
    return Patience(max((default_s if s.wait_s is None else s.wait_s for s in submissions), default=0.0))


async def ready_for(parts: Parts, submissions: Sequence[Submission], patience: Patience) -> None:
    """Connected; for delayed jobs, with the clock compared just now."""
    while True:
        try:
            await parts.open()
            await parts.stores.check()
            if any(submission.delay_s for submission in submissions):
                await parts.store.clock_of_now()
        except StoreUnavailable as error:
            if not await patience.again(error):
                raise
        else:
            return


async def document(parts: Parts, submission: Submission, now: datetime, asked_at: float | None = None) -> New:
    """The document of a new job, checked in every respect."""
    task = parts.registry.find(submission.task)
    if task is not None:
        checked = isinstance(submission, Bound)
        payload = submission.payload if checked else task.check_payload(submission.payload)
        return _new(parts, submission, payload, task.defaults, now)
    try:
        payload, options = await parts.known.check(submission.task, submission.payload, asked_at)
    except UnknownTask as error:
        near = error.near or parts.registry.near(submission.task)
        raise UnknownTask(submission.task, near) from None
    return _new(parts, submission, payload, options, now)


def _new(parts: Parts, submission: Submission, payload: dict[str, Json], options: TaskOptions, now: datetime) -> New:
    size = len(msgspec.json.encode(payload))
    if size > parts.settings.max_payload:
        raise PayloadTooLarge(submission.task, size, parts.settings.max_payload)
    doc: Document = {
        "_id": new_id(now),
        "task": submission.task,
        "payload": pack(payload),
        "priority": submission.priority or options.priority,
        "status": "pending",
        "max_attempts": submission.max_attempts or options.max_attempts,
        "timeout_s": submission.timeout_s or options.timeout_s,
        "created_at": now,
        "token": 0,
        "losses": 0,
        "rev": 1,
    }
    if submission.delay_s:
        due = now + timedelta(seconds=submission.delay_s)
        doc |= {"status": "scheduled", "due_at": due, "queued_at": due}
    if submission.idempotency_key is not None:
        doc["idempotency_key"] = submission.idempotency_key
    if submission.tags:
        doc["tags"] = list(submission.tags)
    if options is not _OPTION_DEFAULTS:
        for name in _KEPT_OPTIONS:
            value = getattr(options, name)
            if value != getattr(_OPTION_DEFAULTS, name):
                doc[name] = value
    return New(doc, size + _OTHER_BYTES)
