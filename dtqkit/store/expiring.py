"""Jobs that are too late for their first attempt: expressions and a pipeline for those that wait."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from dtqkit.model.jobs import WAITING
from dtqkit.store.documents import CANCELLED, Document, Pipeline, plus, slot_while

#: Longer than any time of a submit, in seconds: with more, a sum with a date may fail.
_MAX_S: Final = 1e10
_FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)


def expired(comparison: str, at: Any) -> Document:
    """Of a job that waits: whether `at` is too late for its first attempt. Never fails: all waiting jobs are asked."""
    usable = [{"$isNumber": "$expires_s"}, {"$gt": ["$expires_s", 0]}, {"$lt": ["$expires_s", _MAX_S]}]
    # Between two dates, it is a date.
    usable += [{"$gt": ["$created_at", datetime(1, 1, 1, tzinfo=UTC)]}, {"$lt": ["$created_at", _FAR]}]
    late = {comparison: [at, {"$add": ["$created_at", {"$multiply": ["$expires_s", 1000]}]}]}
    return {"$cond": [{"$and": [*usable, {"$eq": [{"$type": "$earlier"}, "missing"]}]}, late, False]}


#: Of a waiting job: whether it is to be cancelled without another attempt.
TO_DROP: Final[Document] = {"$or": [CANCELLED, expired("$gt", "$$NOW")]}
#: Of any job: whether it waits and is too late for its first attempt.
WAITS_EXPIRED: Final[Document] = {"$and": [{"$in": ["$status", list(WAITING)]}, expired("$gt", "$$NOW")]}


def dropping() -> Pipeline:
    """Cancel a waiting job that is TO_DROP."""
    message = {"$concat": ["not started within ", {"$toString": "$expires_s"}, " s of its submission"]}
    late = {"kind": "expired", "type": "JobExpired", "message": message}
    fields: Document = {
        "status": "cancelled",
        "rev": plus("rev", 1),
        "ended_at": "$$NOW",
        "error": {"$cond": [CANCELLED, "$error", late]},
        "unique_slot": slot_while({"$eq": ["$unique", "window"]}),
    }
    return [{"$set": fields}]
