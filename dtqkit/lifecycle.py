"""What may become of a job: the legal transitions, and the decision at the end of an attempt. Pure.

A decision never looks at a cancel request: that is tested inside the write that carries the decision out, so that
a request which arrives in between is not lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from dtqkit.jobs import Ending, Job, JobError, Status

#: From each status, where a job may go. A completed or cancelled job never changes; a failed one only by requeue.
TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = {
    "pending": frozenset({"running", "cancelled"}),
    "scheduled": frozenset({"running", "cancelled"}),
    "running": frozenset({"completed", "scheduled", "pending", "failed", "cancelled"}),
    "failed": frozenset({"pending", "scheduled"}),
    "completed": frozenset(),
    "cancelled": frozenset(),
}

#: How long a worker leaves to others what it cannot begin, in seconds: doubled each time; and how often a job is
#: declined before it fails. Together some seven minutes: a rolling deploy is over by then.
MIN_PATIENCE_S: Final = 0.25
MAX_PATIENCE_S: Final = 30.0
MAX_DECLINED: Final = 20

#: Kinds of error that another attempt would only repeat, effects and all.
_REPEATS_ITSELF: Final = frozenset({"invalid_result", "wrong_use"})

#: A second loss waits, but never long: the next worker is probably well.
MAX_LOSS_BACKOFF_S: Final = 5.0


class SupportsRandom(Protocol):
    """`random.Random`, `numpy.random.Generator`: anything that draws from [0, 1)."""

    def random(self) -> float: ...


def backoff_ceiling_s(failures: int, *, base_s: float = 1.0, factor: float = 2.0, max_s: float = 600.0) -> float:
    """Longest delay in seconds before the attempt that follows failure number `failures` (1 for the first)."""
    # The exponent is bounded so that a thousand failures do not overflow a float.
    return min(max_s, base_s * factor ** min(failures - 1, 64))


def backoff_s(
    failures: int,
    rng: SupportsRandom,
    *,
    base_s: float = 1.0,
    factor: float = 2.0,
    max_s: float = 600.0,
) -> float:
    """A delay in seconds with full jitter: uniform between 0 and the ceiling.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return rng.random() * backoff_ceiling_s(failures, base_s=base_s, factor=factor, max_s=max_s)


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


class Stopped(msgspec.Struct, frozen=True):
    """The attempt was stopped because the job's cancellation was asked for; `run_ms` is None if it never began."""

    run_ms: float | None


class Lost(msgspec.Struct, frozen=True):
    """The worker is gone: its lease ran out, or it fell silent."""


Outcome = Success | Failure | Released | Declined | Stopped | Lost


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


def wait_ms(job: Job, change: Change) -> float | None:
    """Milliseconds from being ready to the first line of the task; None when it never began."""
    if job.claimed_at is None or change.start_ms is None:
        return None
    waited = job.claimed_at - (job.queued_at or job.created_at)
    return max(0.0, waited.total_seconds() * 1000 + change.start_ms)


_ENDING_OF_ERROR: Final[Mapping[str, Ending]] = {"timeout": "timeout", "crash": "crashed"}


def decide(job: Job, outcome: Outcome, rng: SupportsRandom, start_ms: int | None = None) -> Change:
    """The change that `outcome` brings to `job`, which began `start_ms` after its claim (None: it never did)."""
    match outcome:
        case Success(result, run_ms):
            return Change(status="completed", ending="completed", start_ms=start_ms, result=result, run_ms=run_ms)
        case Released(run_ms):
            return Change(status="pending", ending="released", start_ms=start_ms, run_ms=run_ms)
        case Stopped(run_ms):
            return Change(status="pending", ending="cancelled", start_ms=start_ms, run_ms=run_ms)
        case Failure(error, run_ms):
            return _failed(job, error, start_ms, run_ms, rng)
        case Declined(error):
            return _declined(job, error)
        case Lost():
            return _lost(job, start_ms, rng)


def _failed(job: Job, error: JobError, start_ms: int | None, run_ms: float | None, rng: SupportsRandom) -> Change:
    failures = job.failures + 1
    ending: Ending = _ENDING_OF_ERROR.get(error.kind, "failed")
    final = failures >= job.max_attempts or error.kind in _REPEATS_ITSELF
    delay_s = 0.0 if final else backoff_s(failures, rng, base_s=job.backoff_s, max_s=job.backoff_max_s)
    return Change(
        status="failed" if final else "scheduled",
        ending=ending,
        start_ms=start_ms,
        run_ms=run_ms,
        error=error,
        delay_s=delay_s,
        failures=1,
    )


def patience_s(declined: int) -> float:
    """How long, in seconds, a worker leaves to others what it could not begin, the first time or after so many."""
    return min(MAX_PATIENCE_S, MIN_PATIENCE_S * 2.0 ** min(declined, 64))


def _declined(job: Job, error: JobError) -> Change:
    """Back to its lane, counts of attempts and losses as they were; after MAX_DECLINED times no worker can begin it."""
    if job.declined + 1 >= MAX_DECLINED:
        return Change(status="failed", ending="failed", error=error)
    return Change(status="pending", ending="declined", error=error)


def _lost(job: Job, start_ms: int | None, rng: SupportsRandom) -> Change:
    losses = job.losses + 1
    worker = job.worker or "the worker"
    error = JobError("worker_lost", "WorkerLost", f"{worker} was lost while it ran this job")
    if losses >= job.max_losses:
        return Change(status="failed", ending="lost", start_ms=start_ms, error=error, losses=1)
    delay_s = 0.0
    if losses > 1:
        delay_s = backoff_s(losses - 1, rng, base_s=1.0, max_s=MAX_LOSS_BACKOFF_S)
    return Change(status="scheduled", ending="lost", start_ms=start_ms, error=error, delay_s=delay_s, losses=1)
