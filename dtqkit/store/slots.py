"""The slot of a unique job in expressions: whether it is stale, and the upsert that makes, finds or replaces a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from dtqkit.model.jobs import TERMINAL, WAITING
from dtqkit.store.documents import Document, Pipeline
from dtqkit.store.expiring import WAITS_EXPIRED
from dtqkit.store.requeues import DECLINED_SO_FAR

#: Ids and idempotency keys of submits that a job remembers besides the last one, which has replaced them.
MAX_REPLACED: Final = 200
#: Fields of a waiting job that its replacement does not touch.
_KEPT: Final = ("_id", "token", "losses")
#: Fields of a waiting job that say where it came from, and what happened to it before, as before a requeue: its
#: replacement has none of them, so that it may expire, unless its own document has them.
_OF_BEFORE: Final = (
    "follows",
    "follow_depth",
    "not_followed",
    "schedule",
    "scheduled_for",
    "declined",
    "earlier",
    "error",
    "log",
    "snoozes",
    "recoveries",
)
_BEFORE: Final[Document] = {"$ifNull": ["$replaced_before", []]}
#: What a job remembers of the submits before the one that replaces it now.
_REPLACED_SO_FAR: Final[Document] = {
    "$let": {
        "vars": {
            "all": {
                "$concatArrays": [
                    _BEFORE,
                    *({"$cond": [{"$gt": [f, None]}, [f], []]} for f in ("$replaced_by", "$idempotency_key")),
                ]
            }
        },
        "in": {"$cond": [{"$gt": [{"$size": "$$all"}, 0]}, {"$slice": ["$$all", -MAX_REPLACED]}, "$$REMOVE"]},
    }
}


class Put(NamedTuple):
    """What to write: the document of the new job, and times that MongoDB's clock decides."""

    doc: Document
    size: int
    #: Of a debounced job: seconds from now until it is due, and from the first submit at most.
    debounce_s: float | None
    max_s: float | None
    #: Seconds that its slot is held from now on; None: until the end of its state.
    window_s: float | None
    replace: bool
    #: Optional fields that a submit may set: a replacement removes those that `doc` lacks.
    optional: Sequence[str]
    #: How many submits this write is for: one job, and duplicates of it.
    submits: int = 1


def is_of(doc: Document, new: Document) -> bool:
    """Whether the submit of `new` has made this job, or replaced it, even if others have replaced that since."""
    before = doc.get("replaced_before", ())
    return new["_id"] in (doc["_id"], doc.get("replaced_by"), *before) or new.get("idempotency_key") in before


def stale() -> Document:
    """An expression: this job should no longer hold a slot.

    Its window is over; it waits and has expired, so that it will never run; or a worker of a version without unique
    jobs has claimed or ended it.
    """
    started: Document = {"$not": [{"$in": ["$status", list(WAITING)]}]}
    over: Document = {"$in": ["$status", list(TERMINAL)]}
    return {
        "$switch": {
            "branches": [
                {"case": {"$eq": ["$unique", "waiting"]}, "then": {"$or": [started, WAITS_EXPIRED]}},
                {"case": {"$eq": ["$unique", "active"]}, "then": {"$or": [over, WAITS_EXPIRED]}},
            ],
            "default": {"$lte": ["$unique_until", "$$NOW"]},
        }
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def putting(new: Put) -> Pipeline:
    """The upsert; `$$new` is the new document."""
    #: An earlier try has inserted it, or replaced the job with it.
    mine: Document = {"$in": [new.doc["_id"], {"$concatArrays": [["$_id", "$replaced_by"], _BEFORE]}]}
    if (key := new.doc.get("idempotency_key")) is not None:
        mine = {"$or": [mine, {"$in": [{"$literal": key}, _BEFORE]}]}
    times: Document = {}
    if new.debounce_s is not None:
        due: Document = {"$add": ["$$NOW", _ms(new.debounce_s)]}
        times = {"due_at": due, "queued_at": due}
    if new.window_s is not None:
        times["unique_until"] = {"$add": ["$$NOW", _ms(new.window_s)]}
    extra = new.submits - 1
    inserted: Document = {"$mergeObjects": ["$$new", times, {"duplicates": extra} if extra else {}]}
    counted: Document = {"duplicates": {"$add": [{"$ifNull": ["$duplicates", 0]}, new.submits]}}
    found: Document = {"$mergeObjects": ["$$ROOT", counted]}
    branches: list[Document] = [
        {"case": {"$eq": [{"$type": "$_id"}, "missing"]}, "then": inserted},
        {"case": mine, "then": "$$ROOT"},
    ]
    if new.replace:
        #: The first submit: the time of a replacement is that of its own submit, from which `expires_s` counts.
        since: Document = {"$ifNull": ["$unique_since", "$created_at"]}
        if new.max_s is not None:
            last = {"$add": [since, _ms(new.max_s)]}
            due = {"$max": ["$$NOW", {"$min": [times["due_at"], last]}]}
            times = {"due_at": due, "queued_at": due}
        kept = {name: f"${name}" for name in _KEPT}
        marks = {"created_at": "$$NOW", "unique_since": since, "replaced_by": new.doc["_id"], "replaced_now": True}
        marks["replaced_before"] = _REPLACED_SO_FAR
        # The number of claims stays, so the claims that are no attempts do, too.
        marks["declined_before"] = DECLINED_SO_FAR
        changed = {**times, **kept, **counted, **marks, "rev": {"$add": ["$rev", 1]}}
        replaced = {"$mergeObjects": ["$$ROOT", "$$new", changed]}
        # Also one that has expired: with the time of this submit, it has not.
        waits: Document = {"$and": [{"$eq": ["$unique", "waiting"]}, {"$in": ["$status", list(WAITING)]}]}
        branches.append({"case": waits, "then": replaced})
    branches.append({"case": stale(), "then": {"$unsetField": {"field": "unique_slot", "input": "$$ROOT"}}})
    pipeline: Pipeline = [{"$replaceWith": {"$switch": {"branches": branches, "default": found}}}]
    if new.replace:
        gone = [name for name in (*new.optional, *_OF_BEFORE) if name not in new.doc]
        pipeline.append({"$set": {name: {"$cond": ["$replaced_now", "$$REMOVE", f"${name}"]} for name in gone}})
        pipeline.append({"$unset": "replaced_now"})
    return pipeline
