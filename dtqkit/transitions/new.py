"""The document of a new job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from dtqkit.control import Submission
from dtqkit.model.errors import InvalidOption, PayloadTooLarge
from dtqkit.store.documents import Document, slot_of
from dtqkit.store.ids import new_id
from dtqkit.store.packing import pack
from dtqkit.store.slots import Put
from dtqkit.tasks.options import TaskOptions, check_expiry, check_start
from dtqkit.tasks.unique import Unique, key_by, key_of, unique_of

#: Approximate bytes of a new job's document without its payload.
_OTHER_BYTES: Final = 256
#: How far ahead a job may start.
MAX_DELAY: Final = timedelta(days=366)
_OPTION_DEFAULTS: Final = TaskOptions()
_BACKOFF: Final = ("backoff", "backoff_s", "backoff_max_s")
#: Options of a task that a document stores if they differ from the default, and the call sets no other.
_KEPT_OPTIONS: Final = (*_BACKOFF, "max_losses", "expires_s", "on_failure", "on_success")
#: Fields that the document of a new job may have or lack.
OPTIONAL: Final = (*_KEPT_OPTIONS, "idempotency_key", "tags", "due_at", "queued_at")


class New(NamedTuple):
    """A document, its approximate size in bytes, and how its job is unique, if it is."""

    doc: Document
    size: int
    unique: Unique | None = None


def put_of(new: New, submits: int = 1) -> Put:
    """The write that makes a unique job, or finds the one that has its slot, for so many submits."""
    unique = new.unique
    if unique is None:
        raise TypeError(f"the job of task {new.doc['task']!r} is not unique")
    return Put(
        doc=new.doc,
        size=new.size,
        debounce_s=unique.debounce_s,
        max_s=unique.debounce_max_s,
        window_s=unique.for_s,
        replace=unique.on_duplicate == "replace",
        optional=OPTIONAL,
        submits=submits,
    )


def new_job(
    submission: Submission, payload: Mapping[str, Any], options: TaskOptions, now: datetime, max_payload: int
) -> New:
    """`payload` is checked; `options`: those of the task; `now`: MongoDB's time.

    Raises PayloadTooLarge, and InvalidOption for a job that would always expire, and for options of the call that do
    not go with those of the task.
    """
    size = len(msgspec.json.encode(payload))
    if size > max_payload:
        raise PayloadTooLarge(submission.task, size, max_payload)
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
    unique = unique_of(submission, options)
    if unique is not None:
        key = unique.key or (key_of(payload) if unique.by is None else key_by(unique.by, payload))
        doc |= {"unique": unique.during, "unique_key": key, "unique_slot": slot_of(submission.task, key)}
    if unique is not None and unique.debounce_s:
        if submission.starts_at is not None:
            raise InvalidOption("starts_at is given beside debounce_s, which says when the job starts: leave one out")
        due = now + timedelta(seconds=unique.debounce_s)
        doc |= {"status": "scheduled", "due_at": due, "queued_at": due}
    elif submission.delay_s or submission.starts_at is not None:
        due = _due(submission, now)
        if due > now:
            doc |= {"status": "scheduled", "due_at": due, "queued_at": due}
    # Without a loop over names: this runs for each job.
    if submission.tags:
        doc["tags"] = submission.tags
    if submission.idempotency_key is not None:
        doc["idempotency_key"] = submission.idempotency_key
    if submission.expires_s is not None:
        doc["expires_s"] = submission.expires_s
    if submission.on_failure is not None:
        doc["on_failure"] = submission.on_failure
    if submission.on_success is not None:
        doc["on_success"] = submission.on_success
    if submission.backoff is not None or submission.backoff_s is not None or submission.backoff_max_s is not None:
        doc |= {name: value for name in _BACKOFF if (value := getattr(submission, name)) is not None}
    if kept := _kept(options):
        doc = {**kept, **doc}
    if "expires_s" in doc and "due_at" in doc:
        check_expiry(doc["expires_s"], (doc["due_at"] - now).total_seconds())
    return New(doc, size + _OTHER_BYTES, unique)


@lru_cache(maxsize=256)
def _kept(options: TaskOptions) -> Document:
    """What a document stores of its task's options."""
    values = {name: getattr(options, name) for name in _KEPT_OPTIONS}
    return {name: value for name, value in values.items() if value != getattr(_OPTION_DEFAULTS, name)}


def _due(submission: Submission, now: datetime) -> datetime:
    """When it may start at the earliest. Raises InvalidOption."""
    check_start(submission)
    at = submission.starts_at
    if at is None:
        return now + timedelta(seconds=submission.delay_s)
    if at <= now:
        return now
    if at - now > MAX_DELAY:
        raise InvalidOption(
            f"starts_at is {at.isoformat(sep=' ')}, more than {MAX_DELAY.days} days from now: submit the job later"
        )
    return at.astimezone(UTC).replace(microsecond=at.microsecond // 1000 * 1000)  # as MongoDB keeps it
