"""The document of a new job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from dtqkit.control import Submission
from dtqkit.model.errors import InvalidOption, PayloadTooLarge
from dtqkit.store.documents import Document, new_id
from dtqkit.store.packing import pack
from dtqkit.tasks.options import TaskOptions

#: Approximate bytes of a new job's document without its payload.
_OTHER_BYTES: Final = 256
_OPTION_DEFAULTS: Final = TaskOptions()
#: Options of a task that a document stores if they differ from the default, and the call sets no other.
_KEPT_OPTIONS: Final = ("backoff_s", "backoff_max_s", "max_losses", "expires_s")
#: Options of a call that a document keeps as they are.
_KEPT_OF_CALL: Final = ("idempotency_key", "tags", "expires_s")


class New(NamedTuple):
    """A document, and its approximate size in bytes."""

    doc: Document
    size: int


def new_job(
    submission: Submission, payload: Mapping[str, Any], options: TaskOptions, now: datetime, max_payload: int
) -> New:
    """`payload` is checked; `options`: those of the task; `now`: MongoDB's time.

    Raises PayloadTooLarge, and InvalidOption for a job that would always expire.
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
    if submission.delay_s:
        due = now + timedelta(seconds=submission.delay_s)
        doc |= {"status": "scheduled", "due_at": due, "queued_at": due}
    for name in _KEPT_OF_CALL:
        if (value := getattr(submission, name)) is not None and value != ():
            doc[name] = value
    if options is not _OPTION_DEFAULTS:
        for name in _KEPT_OPTIONS:
            value = getattr(options, name)
            if value != getattr(_OPTION_DEFAULTS, name):
                doc.setdefault(name, value)
    if submission.delay_s and submission.delay_s >= doc.get("expires_s", float("inf")):
        raise InvalidOption(
            f"expires_s is {doc['expires_s']:.15g} and the job is delayed by {submission.delay_s:.15g} s: it would "
            "always expire, since expires_s counts from the submission; make it longer than the delay"
        )
    return New(doc, size + _OTHER_BYTES)
