"""The records of a job: frozen, without a connection, the same in every part of the kit.

A job's *current* attempt (or its last, when it completed) is in the job's own fields `worker`, `claimed_at`,
`started_at`, `ended_at` and `run_ms`; attempts that ended otherwise have been moved into `earlier`. `Job.attempts` is
both.

Three times belong to an attempt: when a worker claimed it, when the first line of its task ran, and when it ended. What
never began has no `started_at`, and so neither a wait nor a run time.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec

Priority: TypeAlias = Literal["high", "medium", "low"]
Status: TypeAlias = Literal["pending", "scheduled", "running", "completed", "failed", "cancelled"]
Ending: TypeAlias = Literal[
    "completed", "failed", "timeout", "crashed", "lost", "released", "declined", "cancelled", "expired", "snoozed"
]
#: How the delay before the next attempt grows with each failure.
Shape: TypeAlias = Literal["exponential", "linear", "fixed"]
#: How long a unique job is the only one of its key: until it starts, until it is over, or for a time.
UniqueWhile: TypeAlias = Literal["waiting", "active", "window"]
#: What a submit does that finds such a job: return it, raise, or replace its payload and options.
OnDuplicate: TypeAlias = Literal["return", "raise", "replace"]

SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)
#: From the most urgent lane down.
PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
WAITING: Final[tuple[Status, ...]] = ("pending", "scheduled")
TERMINAL: Final[tuple[Status, ...]] = ("completed", "failed", "cancelled")
#: Statuses of a job that is over. Only a failed one can change again, by a requeue.
FINAL: Final[tuple[Status, ...]] = ("completed", "cancelled")
#: Endings of a claim whose attempt did not begin: it counts as none, and none is kept.
NOT_BEGUN: Final[frozenset[Ending]] = frozenset({"declined", "expired"})

#: Attempts kept in a document; older ones are dropped first.
MAX_ATTEMPTS_KEPT: Final = 20

ErrorKind: TypeAlias = Literal[
    "exception",
    "timeout",
    "crash",
    "worker_lost",
    "invalid_payload",
    "invalid_result",
    "unknown_task",
    "wrong_use",
    "store",
    "expired",
    "snoozed",
]


if TYPE_CHECKING:
    # In what is read. To type checkers, the kinds are those that this version knows.
    AnyPriority: TypeAlias = Priority
    AnyStatus: TypeAlias = Status
    AnyEnding: TypeAlias = Ending
    AnyErrorKind: TypeAlias = ErrorKind
    AnyShape: TypeAlias = Shape
    AnyUnique: TypeAlias = UniqueWhile
else:

    def _any(kinds: Any) -> Any:
        """A kind that this version does not know, of a newer server or worker, is kept as it is."""
        return Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(get_args(kinds))})]

    AnyPriority, AnyStatus, AnyEnding = _any(Priority), _any(Status), _any(Ending)
    AnyErrorKind, AnyShape, AnyUnique = _any(ErrorKind), _any(Shape), _any(UniqueWhile)


class JobError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt ended badly. `type` is the exception's class name."""

    kind: AnyErrorKind
    type: str
    message: str
    traceback: str = ""
    #: The module of the class; empty: not known.
    module: str = ""
    #: Why the job is not tried again, however many attempts are left; empty: it may be.
    final: str = ""
    #: Seconds after which the task asked to be tried again; None: it did not.
    retry_s: float | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of a job. Times are MongoDB's; `run_ms` is the worker's own monotonic measurement."""

    #: In `earlier`, the number of the claim; in `Job.attempts`, 1 for the first that could begin.
    number: int
    worker: str
    #: When the job could have started: its submission, its due time or its requeue.
    queued_at: datetime
    #: When its worker claimed it.
    claimed_at: datetime
    #: When the first line of the task ran; None while that is not known, and for what never began.
    started_at: datetime | None = None
    ended_at: datetime | None = None
    run_ms: float | None = None
    #: None while it runs.
    ending: AnyEnding | None = None
    error: JobError | None = None

    @property
    def wait_s(self) -> float | None:
        """Seconds from being ready to the first line of the task, never negative; None for what has not begun."""
        if self.started_at is None:
            return None
        return max(0.0, (self.started_at - self.queued_at).total_seconds())

    @property
    def run_s(self) -> float | None:
        """Seconds that it ran; None while it runs, and for what never began."""
        if self.run_ms is not None:
            return self.run_ms / 1000
        if self.ended_at is None or self.started_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One request to run a task, with its state and history."""

    id: str
    task: str
    payload: dict[str, Any]
    priority: AnyPriority = "medium"
    status: AnyStatus = "pending"

    max_attempts: int = 3
    max_losses: int = 3
    #: Seconds that one attempt may run.
    timeout_s: float = 300.0
    #: Seconds from its submission within which its first attempt must start; None: any time.
    expires_s: float | None = None
    #: How the retry delay grows, with its base and its ceiling; or the delays themselves.
    backoff: AnyShape | tuple[float, ...] = "exponential"
    backoff_s: float = 1.0
    backoff_max_s: float = 600.0
    tags: tuple[str, ...] = ()
    idempotency_key: str | None = None
    #: The schedule that made it, and the time at which that should run; None: a call made it.
    schedule: str | None = None
    scheduled_for: datetime | None = None
    #: Tasks that are submitted once it has failed or completed, by name.
    on_failure: str | None = None
    on_success: str | None = None
    #: The job on whose end it follows, and the last of those that followed on this one.
    follows: str | None = None
    followed_by: tuple[str, ...] = ()
    #: How many jobs it follows on, one after the other; None: on none.
    follow_depth: int | None = None
    #: Why no job could follow on its end; None: there was no reason.
    not_followed: str | None = None
    #: How it is unique, None: it is not; by which key; and the slot, which only one job holds at a time (None: it no
    #: longer does). `unique_until` is the end of its window.
    unique: AnyUnique | None = None
    unique_key: str | None = None
    unique_slot: str | None = None
    unique_until: datetime | None = None
    #: Submits that found it instead of making a job. None: it is not unique, or there was none.
    duplicates: int | None = None
    #: True in the answer to a submit that found this job instead of making one.
    was_duplicate: bool | None = None

    created_at: datetime
    #: When it last became ready to run; None: at creation.
    queued_at: datetime | None = None
    #: Not before this (MongoDB's clock); None: at once.
    due_at: datetime | None = None
    #: Of the current or last attempt: the claim, the first line of the task, the end.
    claimed_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    run_ms: float | None = None
    worker: str | None = None
    #: Claims so far, which numbers the last one: a fencing token, never reset, never lowered.
    claim_number: int = msgspec.field(default=0, name="token")
    lease_until: datetime | None = None
    #: Attempts that failed, and attempts whose worker was lost, since the last requeue.
    failures: int = 0
    losses: int = 0
    #: Attempts that ended because the task asked to be run later.
    snoozes: int = 0
    #: Claims that were given back because the worker could not begin the job, e.g. with another version of the code.
    declined: int = 0
    #: The same before the last requeue, and claims that a policy delayed.
    declined_before: int = 0
    cancel_requested: bool = False
    #: How often it became a dead letter; guards the requeue.
    death_seq: int = 0
    #: Automatic requeues.
    recoveries: int = 0
    #: Grows with each change. A settle adds 2, all else 1, so that the settle's event, whose writer may not have
    #: seen a cancel request in between, still outranks that request's event.
    rev: int = 1

    earlier: tuple[Attempt, ...] = ()
    #: 0 to 1, as the task last reported it.
    progress: float | None = None
    progress_message: str = ""
    log: tuple[str, ...] = ()
    result: Any = None
    error: JobError | None = None

    @property
    def uniqueness(self) -> str:
        """`until it is over, key doc-7, 3 duplicates`; empty: it is not unique."""
        if self.unique is None:
            return ""
        held = {"waiting": "until it starts", "active": "until it is over"}
        until = held.get(self.unique, self.unique)
        if self.unique_until is not None:
            until = f"until {self.unique_until:%Y-%m-%d %H:%M:%S} UTC"
        found = self.duplicates or 0
        return f"{until}, key {self.unique_key}, {found:,} duplicate{'s' * (found != 1)}"

    @property
    def is_over(self) -> bool:
        """Whether the status is completed, failed or cancelled."""
        return self.status in TERMINAL

    @property
    def is_final(self) -> bool:
        """Whether it is completed, failed or cancelled. A failed job can still be requeued."""
        return self.status in FINAL

    @property
    def attempt(self) -> int:
        """The number of its last attempt, 0 before the first. A claim that could not begin is no attempt."""
        return max(0, self.claim_number - self.declined - self.declined_before)

    @property
    def tally(self) -> str:
        """`attempt 4 · 2 of 3 failures`: a lost or given-back attempt is none of the failures that are allowed."""
        if not self.attempt:
            return "no attempt yet"
        snoozed = f" · snoozed {self.snoozes} times" if self.snoozes else ""
        return f"attempt {self.attempt} · {self.failures} of {self.max_attempts} failures{snoozed}"

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All kept attempts, oldest first, the running or completed one last; numbered as `attempt` counts."""
        if self.claimed_at is None or self.status not in ("running", "completed"):
            return self._numbered(self.attempt)
        current = Attempt(
            number=self.attempt,
            worker=self.worker or "",
            queued_at=self.queued_at or self.created_at,
            claimed_at=self.claimed_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            run_ms=self.run_ms,
            ending="completed" if self.status == "completed" else None,
        )
        return (*self._numbered(self.attempt - 1), current)

    def _numbered(self, last: int) -> tuple[Attempt, ...]:
        """The earlier attempts, which the record numbers by their claims; the newest of them is number `last`."""
        if self.claim_number == self.attempt:
            return self.earlier
        first = last - len(self.earlier) + 1
        return tuple(msgspec.structs.replace(attempt, number=first + i) for i, attempt in enumerate(self.earlier))


#: Of each field but `earlier`, its name in JSON and here.
_FIELDS: Final = tuple(
    names for names in zip(Job.__struct_encode_fields__, Job.__struct_fields__, strict=True) if names[0] != "earlier"
)


def job_json(job: Job) -> dict[str, Any]:
    """The JSON form of a job: every field that has a value, also its default, and all attempts.

    A completed job has its result even if that is null.
    """
    fields = {name: value for name, own in _FIELDS if (value := getattr(job, own)) is not None}
    if job.status == "completed":
        fields["result"] = job.result
    fields["attempts"] = job.attempts
    fields["earlier"] = job.earlier
    return fields


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of a job id: 24 hexadecimal digits."""
    return len(text) == 24 and not text.strip("0123456789abcdefABCDEF")
