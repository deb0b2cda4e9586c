"""How an attempt ends, and how that changes its job."""

from __future__ import annotations

from typing import Any

import msgspec

from dtqkit.model.followups import FollowUp
from dtqkit.model.jobs import Ending, Job, JobError, Status


class Success(msgspec.Struct, frozen=True):
    """The task returned; `result` is a checked JSON value."""

    result: Any
    run_ms: float


class Failure(msgspec.Struct, frozen=True):
    """The task raised, ran out of time, or took its process with it; `run_ms` is None if it never began."""

    error: JobError
    run_ms: float | None


class Released(msgspec.Struct, frozen=True):
    """The worker gives the job back unfinished, through no fault of the job's; `run_ms` is None if it never began."""

    run_ms: float | None


class Declined(msgspec.Struct, frozen=True):
    """This worker cannot begin the job: its code lacks the task, or the payload does not fit it. Another's may."""

    error: JobError


class Delayed(msgspec.Struct, frozen=True):
    """A policy lets the job begin only later: it waits again, for so many seconds, as if it had not been claimed."""

    delay_s: float


class Dropped(msgspec.Struct, frozen=True):
    """A policy does not let the job begin any more: failed, or cancelled if it has another ending."""

    error: JobError
    ending: Ending = "failed"


class Stopped(msgspec.Struct, frozen=True):
    """The attempt was stopped because the job was cancelled; `run_ms` is None if it never began."""

    run_ms: float | None


class Lost(msgspec.Struct, frozen=True):
    """The worker was lost: its lease expired, or it stopped sending heartbeats."""


Outcome = Success | Failure | Released | Declined | Delayed | Dropped | Stopped | Lost


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What to write at the end of an attempt. With a cancel request, any status but completed becomes cancelled."""

    status: Status
    ending: Ending
    #: Milliseconds from the claim to the first line of the task; None when it never began.
    start_ms: int | None = None
    run_ms: float | None = None
    result: Any = None
    error: JobError | None = None
    #: For `scheduled`: seconds from now until it is due.
    delay_s: float = 0.0
    failures: int = 0
    losses: int = 0
    snoozes: int = 0
    #: What is to be submitted once this is recorded.
    followup: FollowUp | None = None
    #: The job is the only active one of its key, until this change ends it.
    frees_slot: bool = False


def wait_ms(job: Job, change: Change) -> float | None:
    """Milliseconds from being ready to the first line of the task; None when it never began."""
    if job.claimed_at is None or change.start_ms is None:
        return None
    waited = job.claimed_at - (job.queued_at or job.created_at)
    return max(0.0, waited.total_seconds() * 1000 + change.start_ms)
