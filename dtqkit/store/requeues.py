"""The pipelines that requeue a failed job: for a person, or automatically."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from dtqkit.model.jobs import MAX_ATTEMPTS_KEPT
from dtqkit.store.documents import Document, Pipeline, plus, slot_of_document

#: Fields that a requeue removes.
_CLEARED_BY_REQUEUE: Final = (
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


#: Declined claims never count as attempts: their total is kept. The limit of declines starts again at 0.
DECLINED_SO_FAR: Final[Document] = {
    "$let": {
        "vars": {"n": {"$add": [plus("declined", 0), plus("declined_before", 0)]}},
        "in": {"$cond": [{"$gt": ["$$n", 0]}, "$$n", "$$REMOVE"]},
    }
}

#: When a requeued job failed: needed to count its failures.
_FAILED_AT: Final[Document] = {
    "$slice": [
        {"$concatArrays": [{"$cond": [{"$isArray": "$failed_at"}, "$failed_at", []]}, ["$ended_at"]]},
        -MAX_ATTEMPTS_KEPT,
    ]
}


#: A requeued unique job takes its slot again: a duplicate key if another job has it. A window's is freed by time only.
_SLOT_AGAIN: Final[Document] = {
    "$cond": [{"$in": ["$unique", ["waiting", "active"]]}, slot_of_document(), "$unique_slot"]
}


def requeueing() -> Pipeline:
    """Requeue a failed job for a person: all counts start at 0. A duplicate key means that its slot is taken."""
    fields: Document = {
        "status": "pending",
        "failures": 0,
        "losses": 0,
        "recoveries": 0,
        "queued_at": "$$NOW",
        "rev": plus("rev", 1),
        "failed_at": _FAILED_AT,
        "declined_before": DECLINED_SO_FAR,
        "unique_slot": _SLOT_AGAIN,
    }
    return [{"$set": fields}, {"$unset": ["due_at", *_CLEARED_BY_REQUEUE]}]


def recovering(at: datetime) -> Pipeline:
    """Requeue a failed job automatically, not before `at`. One that lost its workers will run alone."""
    lost = {"$eq": ["$error.kind", "worker_lost"]}
    due = {"$max": ["$$NOW", at]}
    most = {"$cond": [{"$isNumber": "$max_losses"}, "$max_losses", 3]}
    fields: Document = {
        "status": "scheduled",
        "failures": 0,
        "losses": {"$cond": [lost, {"$subtract": [most, 1]}, 0]},
        "recoveries": plus("recoveries", 1),
        "due_at": due,
        "queued_at": due,
        "rev": plus("rev", 1),
        "failed_at": _FAILED_AT,
        "declined_before": DECLINED_SO_FAR,
        "unique_slot": _SLOT_AGAIN,
    }
    return [{"$set": fields}, {"$unset": list(_CLEARED_BY_REQUEUE)}]
