"""A job as a MongoDB document, and the pipelines that change one.

A field that is absent has the default of `dtqkit.model.jobs.Job`; `token`, `losses` and `rev` are always there, since
filters and pipelines use them. All changes of one document are single compare-and-set updates.

When an attempt began is kept as `start_ms`, counted from `claimed_at`: equal ends of one claim can then share a write.
It is absent while that is not known; in a completed job, absent means at once. Documents of before have `started_at`,
which was the claim.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec
from bson import ObjectId

from dtqkit.model.jobs import MAX_ATTEMPTS_KEPT, Attempt, Job, JobError
from dtqkit.model.outcomes import Change
from dtqkit.store.packing import pack, unpack

Document: TypeAlias = dict[str, Any]
Pipeline: TypeAlias = list[dict[str, Any]]

#: What a listing or a claim does not need to carry.
HEAVY: Final = ("log", "earlier")

_JOB_FIELDS: Final = frozenset(Job.__struct_fields__)


def to_job(doc: Document) -> Job:
    """The record of a document; fields that it does not know (a newer version's) are left out.

    Of a document that was read without its payload, the record has an empty one.
    """
    fields = doc.copy()
    fields["id"] = str(fields.pop("_id"))
    fields.pop("claim", None)
    fields["payload"] = unpack(doc["payload"]) if "payload" in doc else {}
    if doc.get("result") is not None:
        fields["result"] = unpack(doc["result"])
    fields.pop("failed_at", None)
    if tags := doc.get("tags"):
        fields["tags"] = tuple(tags)
    if log := doc.get("log"):
        fields["log"] = tuple(log)
    if error := doc.get("error"):
        fields["error"] = msgspec.convert(error, JobError)
    if earlier := doc.get("earlier"):
        fields["earlier"] = tuple(msgspec.convert({"claimed_at": a.get("started_at"), **a}, Attempt) for a in earlier)
    start_ms = fields.pop("start_ms", None)
    if (claimed := doc.get("claimed_at")) is not None:
        if start_ms is not None:
            fields["started_at"] = claimed + timedelta(milliseconds=start_ms)
        elif doc["status"] == "completed":
            fields["started_at"] = claimed
    elif "started_at" in doc:
        fields["claimed_at"] = doc["started_at"]
    try:
        return Job(**fields)
    except TypeError:
        return Job(**{name: value for name, value in fields.items() if name in _JOB_FIELDS})


def new_id(now: datetime) -> ObjectId:
    """An id for a job that is created `now`: its time is MongoDB's, whatever this machine's clock says."""
    made, seconds = ObjectId(), _seconds(now)
    return made if made.binary.startswith(seconds) else ObjectId(seconds + made.binary[4:])


@lru_cache(maxsize=1)
def _seconds(now: datetime) -> bytes:
    """Of `now`, which is the same for all jobs of a bulk."""
    return int(now.timestamp()).to_bytes(4, "big")


def object_id(job_id: str) -> ObjectId:
    return ObjectId(job_id)


def id_at(when: datetime) -> ObjectId:
    """The smallest id of a job that was created at `when`."""
    return ObjectId.from_datetime(when)


# -- filters


def runnable(ids: list[ObjectId]) -> Document:
    """Those of `ids` that may be claimed now."""
    return {
        "_id": {"$in": ids},
        "cancel_requested": None,
        "$or": [
            {"status": "pending"},
            {"status": "scheduled", "$expr": {"$lte": ["$due_at", "$$NOW"]}},
        ],
    }


def held(ids: list[ObjectId], claim: ObjectId) -> Document:
    """Those of `ids` that run under `claim`."""
    return {"_id": {"$in": ids}, "claim": claim, "status": "running"}


# -- expressions


def last_attempt() -> Document:
    """{queued_at, started_at} of a job that is over: the start is null when its last attempt never ran.

    Documents of before have `started_at`, which was the claim, where there is `claimed_at` and `start_ms` now. What
    did not complete has its last attempt in `earlier`: its own fields are those of the attempt that never came.
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


# -- changes

_CANCELLED: Final = {"$eq": ["$cancel_requested", True]}
#: Of a worker of before, `started_at`.
_CLAIMED_AT: Final = {"$ifNull": ["$claimed_at", "$started_at"]}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _plus(field: str, n: int) -> Document:
    return {"$add": [{"$ifNull": [f"${field}", 0]}, n]}


def claiming(claim: ObjectId, worker: str, lease_s: float) -> Pipeline:
    """Take the job: a new claim, the next token, a lease by MongoDB's clock."""
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
            }
        },
        {"$unset": ["progress", "progress_message", "log", "start_ms", "started_at"]},
    ]


def renewing(lease_s: float) -> Pipeline:
    return [{"$set": {"lease_until": {"$add": ["$$NOW", _ms(lease_s)]}}}]


def completing(change: Change) -> Document:
    """The settle of a success. It needs nothing of the document, so that equal ones can share a write."""
    fields: Document = {"status": "completed", "result": pack(change.result), "run_ms": change.run_ms}
    if change.start_ms:
        fields["start_ms"] = change.start_ms
    return {
        "$set": fields,
        "$inc": {"rev": 2},
        "$currentDate": {"ended_at": True},
        "$unset": {"lease_until": "", "error": ""},
    }


def declining(change: Change) -> Pipeline:
    """Give back a claim that did not begin: as if it had not been, but for its number, its reason and their count.

    Only claims without a delay count against the job: of these, a policy has made the others.
    """
    count = "declined_before" if change.status == "scheduled" else "declined"
    fields: Document = {
        "status": {"$cond": [_CANCELLED, "cancelled", change.status]},
        count: _plus(count, 1),
        "rev": {"$add": ["$rev", 2]},
        "ended_at": {"$cond": [_CANCELLED, "$$NOW", "$$REMOVE"]},
    }
    if change.error is not None:
        fields["error"] = {"$literal": msgspec.to_builtins(change.error)}
    if change.status == "scheduled":
        fields["due_at"] = {"$add": ["$$NOW", _ms(change.delay_s)]}
    return [{"$set": fields}, {"$unset": ["lease_until", "claimed_at", "started_at"]}]


def ending(change: Change, trail: Document | None = None) -> Pipeline:
    """The settle of anything but a success: the attempt is filed, and a cancel request decides inside the write."""
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
    # Whatever a task has said is a literal: a message that begins with $ is no field path.
    error = {"$literal": msgspec.to_builtins(change.error)} if change.error else None
    if error:
        attempt["error"] = error
    over = change.status == "failed"
    due = {"$add": ["$$NOW", _ms(change.delay_s)]}
    fields: Document = {
        "status": {"$cond": [_CANCELLED, "cancelled", change.status]},
        "earlier": {
            "$slice": [
                {"$concatArrays": [{"$ifNull": ["$earlier", []]}, [attempt]]},
                -MAX_ATTEMPTS_KEPT,
            ]
        },
        "rev": {"$add": ["$rev", 2]},
        "queued_at": due,
        "run_ms": change.run_ms,
        "start_ms": "$$REMOVE" if change.start_ms is None else change.start_ms,
    }
    if error:
        fields["error"] = error
    if change.failures:
        fields["failures"] = _plus("failures", change.failures)
    if change.losses:
        fields["losses"] = _plus("losses", change.losses)
    if change.status == "scheduled":
        fields["due_at"] = due
    if over:
        fields["death_seq"] = {"$cond": [_CANCELLED, "$death_seq", _plus("death_seq", 1)]}
    fields["ended_at"] = "$$NOW" if over else {"$cond": [_CANCELLED, "$$NOW", "$$REMOVE"]}
    if trail:
        fields.update({k: {"$literal": v} for k, v in trail.items()})
    return [{"$set": fields}, {"$unset": ["lease_until"]}]


def cancelling() -> Pipeline:
    """A waiting job is cancelled; a running one is marked, and its worker stops it."""
    running = {"$eq": ["$status", "running"]}
    return [
        {
            "$set": {
                "status": {"$cond": [running, "running", "cancelled"]},
                "cancel_requested": True,
                "rev": {"$cond": [{"$and": [running, _CANCELLED]}, "$rev", {"$add": ["$rev", 1]}]},
                "ended_at": {"$cond": [running, "$$REMOVE", "$$NOW"]},
            }
        }
    ]


#: What a requeued job begins without.
_OF_LIFE: Final = (
    "cancel_requested",
    "declined",
    "claimed_at",
    "started_at",
    "start_ms",
    "ended_at",
    "run_ms",
    "progress",
    "progress_message",
)


#: Claims that were declined are no attempts in any life, while each life may decline as many anew.
_DECLINED_SO_FAR: Final[Document] = {
    "$let": {
        "vars": {"n": {"$add": [_plus("declined", 0), _plus("declined_before", 0)]}},
        "in": {"$cond": [{"$gt": ["$$n", 0]}, "$$n", "$$REMOVE"]},
    }
}

#: A requeued job did fail, then: counts look for it.
_FAILED_AT: Final[Document] = {
    "$slice": [{"$concatArrays": [{"$ifNull": ["$failed_at", []]}, ["$ended_at"]]}, -MAX_ATTEMPTS_KEPT]
}


def requeueing() -> Pipeline:
    """Run a failed job anew, as a person asks: all counts start anew."""
    fields: Document = {
        "status": "pending",
        "failures": 0,
        "losses": 0,
        "recoveries": 0,
        "queued_at": "$$NOW",
        "rev": {"$add": ["$rev", 1]},
        "failed_at": _FAILED_AT,
        "declined_before": _DECLINED_SO_FAR,
    }
    return [{"$set": fields}, {"$unset": ["due_at", *_OF_LIFE]}]


def recovering(at: datetime) -> Pipeline:
    """Run a failed job anew, as the recovery does, not before `at`: alone if it died with its workers."""
    lost = {"$eq": ["$error.kind", "worker_lost"]}
    due = {"$max": ["$$NOW", at]}
    fields: Document = {
        "status": "scheduled",
        "failures": 0,
        "losses": {"$cond": [lost, {"$subtract": [{"$ifNull": ["$max_losses", 3]}, 1]}, 0]},
        "recoveries": _plus("recoveries", 1),
        "due_at": due,
        "queued_at": due,
        "rev": {"$add": ["$rev", 1]},
        "failed_at": _FAILED_AT,
        "declined_before": _DECLINED_SO_FAR,
    }
    return [{"$set": fields}, {"$unset": list(_OF_LIFE)}]
