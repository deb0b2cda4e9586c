"""Where the id of a waiting job belongs in Redis. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

from dtqkit.broker.found import Listed
from dtqkit.broker.keys import member, split_member
from dtqkit.model.jobs import PRIORITIES, Job, Priority
from dtqkit.store.documents import Document
from dtqkit.store.fields import lane_of

#: Tolerated difference between a score and the job's due time, in ms: clocks differ a little.
_TOLERANCE_MS: Final = 2_000.0


class Places(NamedTuple):
    """Where ids of waiting jobs go: to their lanes, or to the schedule with a score (ms by MongoDB's clock)."""

    ready: dict[Priority, list[str]]
    later: dict[str, float]


def places_of(jobs: Iterable[Job]) -> Places:
    """The places of waiting jobs, as the record has them."""
    ready: dict[Priority, list[str]] = {}
    later: dict[str, float] = {}
    for job in jobs:
        if job.status == "pending" or job.due_at is None:
            ready.setdefault(lane_of_job(job), []).append(job.id)
        else:
            later[name_of(job)] = job.due_at.timestamp() * 1000
    return Places(ready, later)


def lane_of_job(job: Job) -> Priority:
    """Where it is listed: another program may have written a lane that there is not."""
    return job.priority if job.priority in PRIORITIES else "medium"


def name_of(job: Job) -> str:
    return member(lane_of_job(job), job.id)


def member_of(doc: Document) -> str:
    return member(lane_of(doc), str(doc["_id"]))


class Missing(NamedTuple):
    """Differences between the record and what Redis lists."""

    places: Places
    #: Not listed at all; listed with a wrong score.
    listed: int
    rescored: int
    #: The members of all jobs that were compared.
    members: list[str]


def missing(waiting: Iterable[Document], listed: Listed, now_ms: float, inflight_s: float) -> Missing:
    """Compare waiting jobs, at MongoDB's time `now_ms`, with what Redis lists."""
    # An id in flight with a later score would not be put back in time.
    soon_ms = listed.now_ms + _TOLERANCE_MS + inflight_s * 1000
    places = Places({}, {})
    members: list[str] = []
    rescored = unlisted = 0
    for doc in waiting:
        name = member_of(doc)
        members.append(name)
        place = _place(doc, name, listed, now_ms, soon_ms)
        if isinstance(place, float):
            places.later[name] = place
            rescored += name in listed.scheduled
            unlisted += name not in listed.scheduled
        elif isinstance(place, str):
            places.ready.setdefault(lane_of(doc), []).append(place)
            unlisted += 1
    return Missing(places, unlisted, rescored, members)


def _place(doc: Document, name: str, listed: Listed, now_ms: float, soon_ms: float) -> str | float | None:
    """Where a waiting job must be listed: in its lane (its id) or in the schedule (a score); None: it is listed."""
    _, job_id = split_member(name)
    if job_id in listed.lanes or name in listed.parked:
        return None
    if listed.inflight.get(name, soon_ms + 1) <= soon_ms:
        return None
    due: Any = doc.get("due_at") if doc["status"] == "scheduled" else None
    due_ms = due.timestamp() * 1000 if isinstance(due, datetime) else now_ms
    score = listed.scheduled.get(name)
    if score is not None and score <= max(due_ms, now_ms) + _TOLERANCE_MS:
        return None
    return due_ms if due_ms > now_ms else job_id
