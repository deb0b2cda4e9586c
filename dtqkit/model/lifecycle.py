"""The legal transitions of a job, and the decision at the end of an attempt. Pure.

A decision never looks at a cancel request: that is tested inside the write that carries the decision out, so that
a request which arrives in between is not lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from dtqkit.model.followups import followed_by
from dtqkit.model.jobs import Job, JobError, Status
from dtqkit.model.outcomes import Change, Declined, Delayed, Dropped, Failure, Lost, Outcome, Released, Stopped, Success
from dtqkit.model.policy import POLICIES, SupportsRandom

#: From each status, where a job may go. A completed or cancelled job never changes; a failed one only by requeue.
TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = {
    "pending": frozenset({"running", "cancelled"}),
    "scheduled": frozenset({"running", "cancelled"}),
    "running": frozenset({"completed", "scheduled", "pending", "failed", "cancelled"}),
    "failed": frozenset({"pending", "scheduled"}),
    "completed": frozenset(),
    "cancelled": frozenset(),
}

#: How long a worker leaves a job that it cannot begin to others, in seconds: doubled each time; and how often a job is
#: declined before it fails. Together some seven minutes: a rolling deploy is over by then.
MIN_PATIENCE_S: Final = 0.25
MAX_PATIENCE_S: Final = 30.0
MAX_DECLINED: Final = 20


def decide(job: Job, outcome: Outcome, rng: SupportsRandom, start_ms: int | None = None) -> Change:
    """The change that `outcome` brings to `job`, which began `start_ms` after its claim (None: it never did)."""
    match outcome:
        case Success(result, run_ms):
            change = Change(status="completed", ending="completed", start_ms=start_ms, result=result, run_ms=run_ms)
            plain = job.on_success is None and job.unique is None
            return change if plain else _with_effects(job, change)
        case Released(run_ms):
            change = Change(status="pending", ending="released", start_ms=start_ms, run_ms=run_ms)
        case Stopped(run_ms):
            change = Change(status="pending", ending="cancelled", start_ms=start_ms, run_ms=run_ms)
        case Declined(error):
            change = _declined(job, error)
        case Delayed(delay_s):
            change = Change(status="scheduled", ending="declined", delay_s=delay_s)
        case Dropped(error, ending):
            change = Change(status="failed" if ending == "failed" else "cancelled", ending=ending, error=error)
        case Failure() | Lost():
            change = msgspec.structs.replace(POLICIES.after(job, outcome, rng), start_ms=start_ms)
    plain = job.on_failure is None and job.unique is None
    return change if plain else _with_effects(job, change)


def _with_effects(job: Job, change: Change) -> Change:
    """The change with its effects on other jobs: the slot that it frees, and the task that follows."""
    followup = followed_by(job, change.status)
    return msgspec.structs.replace(change, frees_slot=job.unique == "active", followup=followup)


def patience_s(declined: int) -> float:
    """How long a worker leaves a job that it could not begin to others, in seconds, after `declined` earlier times."""
    return min(MAX_PATIENCE_S, MIN_PATIENCE_S * 2.0 ** min(declined, 64))


def _declined(job: Job, error: JobError) -> Change:
    """Back to its lane, with the counts of failures and losses unchanged; it fails after MAX_DECLINED times."""
    if job.declined + 1 >= MAX_DECLINED:
        return Change(status="failed", ending="failed", error=error)
    return Change(status="pending", ending="declined", error=error)
