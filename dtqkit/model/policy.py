"""Rules for jobs: whether one may begin now, and what follows an attempt that failed or lost its worker. Pure.

A policy is one class, named in POLICIES. They are asked in that order, and the first one that answers decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from typing_extensions import override

from dtqkit.model.jobs import Ending, Job, JobError
from dtqkit.model.outcomes import Change, Delayed, Dropped, Failure, Lost

#: Kinds of error that another attempt would repeat, with its side effects.
_REPEATS_ITSELF: Final = frozenset({"invalid_result", "wrong_use"})
_ENDING_OF_ERROR: Final[Mapping[str, Ending]] = {"timeout": "timeout", "crash": "crashed"}

#: After a second loss the job waits, but not long: the next worker is probably healthy.
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


#: What a policy answers before a run: None lets the job begin.
Refusal: TypeAlias = Delayed | Dropped


class Policy:
    """One rule. A subclass overrides one or both methods."""

    def admit(self, job: Job, now: Callable[[], datetime]) -> Refusal | None:
        """Whether a claimed job may begin; `now` gives the time by MongoDB's clock. None: this policy lets it begin."""
        del job, now
        return None

    def after(self, job: Job, outcome: Failure | Lost, rng: SupportsRandom) -> Change | None:
        """The change to a job after an attempt that failed or lost its worker. None leaves it to the next policy."""
        del job, outcome, rng
        return None


def retry_delay_s(job: Job, failures: int, rng: SupportsRandom) -> float:
    """Seconds until the attempt that follows failure number `failures`. Only the exponential delay is drawn."""
    match job.backoff:
        case "linear":
            return min(job.backoff_max_s, job.backoff_s * failures)
        case "fixed":
            return min(job.backoff_max_s, job.backoff_s)
        case tuple(delays):
            return float(delays[min(failures, len(delays)) - 1])
        case _:
            return backoff_s(failures, rng, base_s=job.backoff_s, max_s=job.backoff_max_s)


class Expiry(Policy):
    """A job whose first attempt is claimed more than `expires_s` after its submission ends as expired."""

    @override
    def admit(self, job: Job, now: Callable[[], datetime]) -> Refusal | None:
        # Both times are MongoDB's own: `now` would be this process's estimate of its clock.
        if job.expires_s is None or job.claimed_at is None or job.attempt > 1:
            return None
        if (job.claimed_at - job.created_at).total_seconds() <= job.expires_s:
            return None
        message = f"not started within {job.expires_s:.15g} s of its submission"
        return Dropped(JobError("expired", "JobExpired", message), "expired")


class Snoozes(Policy):
    """A task that raised Snooze runs again after the time that it asked for. It has not failed."""

    @override
    def after(self, job: Job, outcome: Failure | Lost, rng: SupportsRandom) -> Change | None:
        if isinstance(outcome, Lost) or outcome.error.kind != "snoozed":
            return None
        delay_s = outcome.error.retry_s or 0.0
        return Change(
            status="scheduled",
            ending="snoozed",
            run_ms=outcome.run_ms,
            error=outcome.error,
            delay_s=delay_s,
            snoozes=1,
        )


class Retries(Policy):
    """Again after a delay, as long as fewer than `max_attempts` failed and fewer than `max_losses` lost their worker.

    >>> import random
    >>> from datetime import datetime
    >>> job = Job(id="1", task="t", payload={}, created_at=datetime(2026, 1, 1), max_attempts=1)
    >>> failure = Failure(JobError("exception", "ValueError", "no"), run_ms=3.0)
    >>> Retries().after(job, failure, random.Random(1)).status
    'failed'
    """

    @override
    def after(self, job: Job, outcome: Failure | Lost, rng: SupportsRandom) -> Change:
        return _failed(job, outcome, rng) if isinstance(outcome, Failure) else _lost(job, rng)


def _failed(job: Job, failure: Failure, rng: SupportsRandom) -> Change:
    error = failure.error
    failures = job.failures + 1
    final = failures >= job.max_attempts or bool(error.final) or error.kind in _REPEATS_ITSELF
    asked_s = error.retry_s
    delay_s = 0.0 if final else retry_delay_s(job, failures, rng) if asked_s is None else asked_s
    return Change(
        status="failed" if final else "scheduled",
        ending=_ENDING_OF_ERROR.get(error.kind, "failed"),
        run_ms=failure.run_ms,
        error=error,
        delay_s=delay_s,
        failures=1,
    )


def _lost(job: Job, rng: SupportsRandom) -> Change:
    losses = job.losses + 1
    worker = job.worker or "the worker"
    error = JobError("worker_lost", "WorkerLost", f"{worker} was lost while it ran this job")
    if losses >= job.max_losses:
        return Change(status="failed", ending="lost", error=error, losses=1)
    delay_s = 0.0
    if losses > 1:
        delay_s = backoff_s(losses - 1, rng, base_s=1.0, max_s=MAX_LOSS_BACKOFF_S)
    return Change(status="scheduled", ending="lost", error=error, delay_s=delay_s, losses=1)


class Policies:
    """Some policies, asked in this order."""

    def __init__(self, *policies: Policy) -> None:
        self._policies = policies
        #: The policies that override `admit`: most do not, and this list is used for each job.
        self._gates = tuple(policy for policy in policies if type(policy).admit is not Policy.admit)

    def after_gate(self, gate: Policy) -> Policies:
        """These policies, with one more that is asked before them."""
        return Policies(gate, *self._policies)

    def admit(self, job: Job, now: Callable[[], datetime]) -> Refusal | None:
        """The first refusal; None: the job may begin."""
        for policy in self._gates:
            if (refusal := policy.admit(job, now)) is not None:
                return refusal
        return None

    def after(self, job: Job, outcome: Failure | Lost, rng: SupportsRandom) -> Change:
        """The first answer. Raises LookupError when no policy answers."""
        for policy in self._policies:
            if (change := policy.after(job, outcome, rng)) is not None:
                return change
        raise LookupError(f"no policy decides about job {job.id} after {type(outcome).__name__}")


#: The policies of every job.
POLICIES: Final = Policies(Expiry(), Snoozes(), Retries())
