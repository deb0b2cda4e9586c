"""A job as a MongoDB document, and the pipelines that change one.

An absent field has the default of `dtqkit.model.jobs.Job`. `token`, `losses` and `rev` are always present, since
filters and pipelines use them. Each change of a document is a single compare-and-set update.

The start of an attempt is stored as `start_ms` after `claimed_at`, so that equal settles of one claim can share a
write. It is absent while it is not known; in a completed job, absent means 0. Documents of older versions have
`started_at`, the time of the claim, instead of both.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, TypeAlias, cast, get_args

import msgspec
from bson import ObjectId

from dtqkit.model.followups import FollowUp
from dtqkit.model.jobs import MAX_ATTEMPTS_KEPT, TERMINAL, Attempt, Ending, ErrorKind, Job, JobError
from dtqkit.model.outcomes import Change
from dtqkit.store.packing import pack, unpack

Document: TypeAlias = dict[str, Any]
Pipeline: TypeAlias = list[dict[str, Any]]

#: Characters of an error's message that is given to what follows on a job.
MAX_MESSAGE: Final = 10_000

#: Fields that listings and claims leave out.
HEAVY: Final = ("log", "earlier")

#: Fields that only a document has.
_OF_DOCUMENTS: Final = ("claim", "failed_at", "followups", "start_ms")
#: Those, and fields that a document has in another form than a job.
_CONVERTED: Final = frozenset(
    (*_OF_DOCUMENTS, "result", "followed_by", "tags", "backoff", "log", "error", "earlier", "claimed_at", "started_at")
)
_JOB_FIELDS: Final = frozenset(Job.__struct_fields__)
_KINDS: Final = frozenset(get_args(ErrorKind))
_ENDINGS: Final = frozenset(get_args(Ending))


def to_job(doc: Document) -> Job:
    """The job of a document. Of a newer version, unknown fields are left out, and unknown kinds become known ones.

    The payload is empty if the document was read without it.
    """
    fields = doc.copy()
    fields["id"] = str(fields.pop("_id"))
    fields["claim_number"] = fields.pop("token", 0)
    fields["payload"] = unpack(doc["payload"]) if "payload" in doc else {}
    if not _CONVERTED.isdisjoint(doc):  # not so of a new job
        _convert(doc, fields)
    try:
        return Job(**fields)
    except TypeError:
        return Job(**{name: value for name, value in fields.items() if name in _JOB_FIELDS})


def _convert(doc: Document, fields: Document) -> None:
    """Write what a document has in another form than a job into `fields`, and take out what only the document has."""
    for name in _OF_DOCUMENTS:
        fields.pop(name, None)
    if doc.get("result") is not None:
        fields["result"] = unpack(doc["result"])
    if followed := doc.get("followed_by"):
        fields["followed_by"] = tuple(followed)
    if tags := doc.get("tags"):
        fields["tags"] = tuple(tags)
    if isinstance(delays := doc.get("backoff"), list):
        fields["backoff"] = tuple(cast("list[float]", delays))
    if log := doc.get("log"):
        fields["log"] = tuple(log)
    if error := doc.get("error"):
        fields["error"] = msgspec.convert(_known(error), JobError)
    if earlier := doc.get("earlier"):
        fields["earlier"] = tuple(map(_attempt, earlier))
    if (claimed := doc.get("claimed_at")) is not None:
        if (start_ms := doc.get("start_ms")) is not None:
            fields["started_at"] = claimed + timedelta(milliseconds=start_ms)
        elif doc["status"] == "completed":
            fields["started_at"] = claimed
    elif "started_at" in doc:
        fields["claimed_at"] = doc["started_at"]


def _known(error: Document) -> Document:
    return error if error.get("kind") in _KINDS else {**error, "kind": "exception"}


def _attempt(stored: Document) -> Attempt:
    fields = {"claimed_at": stored.get("started_at"), **stored}
    if stored.get("ending") not in _ENDINGS:
        fields["ending"] = "failed"
    if error := stored.get("error"):
        fields["error"] = _known(error)
    return msgspec.convert(fields, Attempt)


# -- filters


def runnable(ids: list[ObjectId]) -> Document:
    """A filter: those of `ids` that can be claimed now."""
    return {
        "_id": {"$in": ids},
        "cancel_requested": None,
        "$or": [
            {"status": "pending"},
            {"status": "scheduled", "$expr": {"$lte": ["$due_at", "$$NOW"]}},
        ],
    }


def held(ids: list[ObjectId], claim: ObjectId) -> Document:
    """A filter: those of `ids` that run under `claim`."""
    return {"_id": {"$in": ids}, "claim": claim, "status": "running"}


# -- expressions


def last_attempt() -> Document:
    """{queued_at, started_at} of a job that has ended: the start is null if its last attempt never ran.

    Documents of older versions have `started_at`, the time of the claim, instead of `claimed_at` and `start_ms`. A job
    that did not complete has its last attempt in `earlier`: its own fields are those of the next one.
    """
    own = {
        "queued_at": {"$ifNull": ["$queued_at", "$created_at"]},
        "started_at": _start("$claimed_at", "$start_ms", "$started_at"),
        "run_ms": "$run_ms",
    }
    earlier = {
        "$let": {
            "vars": {"a": {"$arrayElemAt": ["$earlier", -1]}},
            "in": {
                "queued_at": "$$a.queued_at",
                "started_at": {"$ifNull": ["$$a.started_at", _start("$$a.claimed_at", "$$a.start_ms", None)]},
                "run_ms": "$$a.run_ms",
            },
        }
    }
    return {
        "$let": {
            "vars": {"last": {"$cond": [{"$eq": ["$status", "completed"]}, own, earlier]}},
            "in": {
                "queued_at": "$$last.queued_at",
                "started_at": {"$cond": [{"$gt": ["$$last.run_ms", None]}, "$$last.started_at", None]},
            },
        }
    }


def _start(claimed_at: str, start_ms: str, before: str | None) -> Document:
    return {"$ifNull": [{"$add": [claimed_at, {"$ifNull": [start_ms, 0]}]}, before]}


def slot_of(task: str, key: str) -> str:
    """The slot of unique jobs of a task with this key. A task's name has no colon."""
    return f"{task}:{key}"


def slot_of_document() -> Document:
    """The same as an expression, for a unique job."""
    return {"$concat": ["$task", ":", "$unique_key"]}


# -- changes

CANCELLED: Final = {"$eq": ["$cancel_requested", True]}
#: Workers of older versions set `started_at`.
_CLAIMED_AT: Final = {"$ifNull": ["$claimed_at", "$started_at"]}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def plus(field: str, n: int) -> Document:
    """A count in a document, and `n`. One that is absent, or no number, is 0."""
    return {"$add": [{"$cond": [{"$isNumber": f"${field}"}, f"${field}", 0]}, n]}


def claiming(claim: ObjectId, worker: str, lease_s: float) -> Pipeline:
    """Take the job: a new claim with the next number, a lease by MongoDB's clock."""
    return [
        {
            "$set": {
                "status": "running",
                "claim": claim,
                "worker": worker,
                "token": {"$add": ["$token", 1]},
                "rev": {"$add": ["$rev", 1]},
                "claimed_at": "$$NOW",
                "lease_until": {"$add": ["$$NOW", _ms(lease_s)]},
                "unique_slot": slot_while({"$ne": ["$unique", "waiting"]}),
            }
        },
        {"$unset": ["progress", "progress_message", "log", "start_ms", "started_at"]},
    ]


def slot_while(held: Any) -> Document:
    """The slot of a unique job as long as this expression is true. A document without one does not get the field."""
    return {"$cond": [held, "$unique_slot", "$$REMOVE"]}


def _slot_after(change: Change) -> Any:
    """The slot of an active unique job after the end of an attempt."""
    return "$$REMOVE" if change.status in TERMINAL else slot_while({"$not": [CANCELLED]})


def renewing(lease_s: float) -> Pipeline:
    return [{"$set": {"lease_until": {"$add": ["$$NOW", _ms(lease_s)]}}}]


def completing(change: Change, claim_number: int) -> Document:
    """The settle of a success. It reads no field of the document, so equal ones can share a write.

    `claim_number` is only needed for one that another job follows.
    """
    fields: Document = {"status": "completed", "result": pack(change.result), "run_ms": change.run_ms}
    if change.start_ms:
        fields["start_ms"] = change.start_ms
    unset = {"lease_until": "", "error": ""}
    if change.frees_slot:
        unset["unique_slot"] = ""
    update: Document = {"$set": fields, "$inc": {"rev": 2}, "$currentDate": {"ended_at": True}, "$unset": unset}
    if (followup := change.followup) is not None:
        update["$push"] = {"followups": {**msgspec.to_builtins(followup), "token": claim_number}}
    return update


def declining(change: Change) -> Pipeline:
    """Give back a claim whose attempt did not begin. Only its number, its reason and the count of declines stay.

    Claims that are given back with a delay, by a policy, do not count against the job's limit of declines.
    """
    count = "declined_before" if change.status == "scheduled" else "declined"
    fields: Document = {
        "status": {"$cond": [CANCELLED, "cancelled", change.status]},
        count: plus(count, 1),
        "rev": {"$add": ["$rev", 2]},
        "ended_at": "$$NOW" if change.status in TERMINAL else {"$cond": [CANCELLED, "$$NOW", "$$REMOVE"]},
    }
    if change.error is not None:
        fields["error"] = {"$literal": msgspec.to_builtins(change.error)}
    if change.status == "scheduled":
        fields["due_at"] = fields["queued_at"] = {"$add": ["$$NOW", _ms(change.delay_s)]}
    if change.frees_slot:
        fields["unique_slot"] = _slot_after(change)
    return [{"$set": fields}, {"$unset": ["lease_until", "claimed_at", "started_at"]}]


def ending(change: Change, attempt_log: Document | None = None) -> Pipeline:
    """The settle of anything but a success. Stores the attempt in `earlier`; a cancel request makes it cancelled."""
    attempt: Document = {
        "number": "$token",
        "worker": "$worker",
        "queued_at": {"$ifNull": ["$queued_at", "$created_at"]},
        "claimed_at": _CLAIMED_AT,
        "ended_at": "$$NOW",
        "run_ms": change.run_ms,
        "ending": change.ending,
    }
    if change.start_ms is not None:
        attempt["started_at"] = {"$add": [_CLAIMED_AT, change.start_ms]}
    # Text of a task is a literal: a message that begins with $ is not a field path.
    error = {"$literal": msgspec.to_builtins(change.error)} if change.error else None
    if error:
        attempt["error"] = error
    over = change.status in TERMINAL
    due = {"$add": ["$$NOW", _ms(change.delay_s)]}
    fields: Document = {
        "status": {"$cond": [CANCELLED, "cancelled", change.status]},
        "earlier": {
            "$slice": [
                {"$concatArrays": [{"$cond": [{"$isArray": "$earlier"}, "$earlier", []]}, [attempt]]},
                -MAX_ATTEMPTS_KEPT,
            ]
        },
        "rev": {"$add": ["$rev", 2]},
        "queued_at": due,
        "run_ms": change.run_ms,
        "start_ms": "$$REMOVE" if change.start_ms is None else change.start_ms,
    }
    if error and not change.snoozes:
        fields["error"] = error
    if change.snoozes:
        fields["snoozes"] = plus("snoozes", change.snoozes)
    if change.failures:
        fields["failures"] = plus("failures", change.failures)
    if change.losses:
        fields["losses"] = plus("losses", change.losses)
    if change.status == "scheduled":
        fields["due_at"] = due
    if change.status == "failed":
        fields["death_seq"] = {"$cond": [CANCELLED, "$death_seq", plus("death_seq", 1)]}
    fields["ended_at"] = "$$NOW" if over else {"$cond": [CANCELLED, "$$NOW", "$$REMOVE"]}
    if change.followup is not None:
        entry = {**_to_follow(change.followup, change.error), "token": "$token", "at": "$$NOW"}
        fields["followups"] = {
            "$cond": [CANCELLED, "$followups", {"$concatArrays": [{"$ifNull": ["$followups", []]}, [entry]]}]
        }
    if attempt_log:
        fields.update({k: {"$literal": v} for k, v in attempt_log.items()})
    if change.frees_slot:
        fields["unique_slot"] = _slot_after(change)
    return [{"$set": fields}, {"$unset": ["lease_until"]}]


def _to_follow(followup: FollowUp, error: JobError | None) -> Document:
    """What is kept of it in a pipeline, until it is submitted."""
    entry: Document = {"on": followup.on, "task": {"$literal": followup.task}, "attempt": followup.attempt}
    if error is not None:
        entry["error"] = {"$literal": {"type": error.type, "message": error.message[:MAX_MESSAGE]}}
    return entry


def cancelling() -> Pipeline:
    """Cancel a waiting job; mark a running one, which its worker then stops."""
    running = {"$eq": ["$status", "running"]}
    return [
        {
            "$set": {
                "status": {"$cond": [running, "running", "cancelled"]},
                "cancel_requested": True,
                "rev": {"$cond": [{"$and": [running, CANCELLED]}, "$rev", {"$add": ["$rev", 1]}]},
                "ended_at": {"$cond": [running, "$$REMOVE", "$$NOW"]},
                "unique_slot": slot_while({"$or": [running, {"$eq": ["$unique", "window"]}]}),
            }
        }
    ]


#: A filter, with the status: of jobs that are over, those that nothing needs any more.
DELETABLE: Final[Document] = {
    "followups.token": {"$exists": False},
    "$expr": {"$not": [{"$gt": ["$unique_until", "$$NOW"]}]},  # true without a window
}
