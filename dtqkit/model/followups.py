"""What follows on the end of a job: a task of `on_failure` or `on_success`, and the record that it gets. Pure."""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal, TypeAlias

import msgspec

from dtqkit.model.jobs import Job

Hook: TypeAlias = Literal["failure", "success"]

#: Jobs that may follow on each other: a circle of tasks ends there.
MAX_DEPTH: Final = 100
#: Bytes of a payload or a result, as JSON, that a JobEnd still carries.
MAX_PART: Final = 65_536


class FollowUp(msgspec.Struct, frozen=True):
    """The task that is submitted when a job has ended, and the number of the attempt that ended it."""

    on: Hook
    task: str
    attempt: int


class EndError(msgspec.Struct, frozen=True):
    """Why a job failed."""

    type: str
    message: str


class JobEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended: the argument of a task that `on_failure` or `on_success` names.

    `payload` and `result` are left out when they have more than 64 KiB as JSON: then `left_out` names them, and
    `queue.get(end.job)` has them.
    """

    job: str
    task: str
    status: Literal["completed", "failed"]
    attempt: int
    payload: dict[str, Any] | None = None
    result: Any = None
    error: EndError | None = None
    tags: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def as_argument(self) -> dict[str, Any]:
        """Its JSON form."""
        return {**msgspec.to_builtins(self), "tags": list(self.tags), "left_out": list(self.left_out)}


#: What a task that follows has to take.
EXAMPLES: Final = (
    JobEnd(job="0" * 24, task="t", status="completed", attempt=1, payload={}, result=None),
    JobEnd(job="0" * 24, task="t", status="failed", attempt=1, payload={}, error=EndError("ValueError", "no")),
)


def followed_by(job: Job, status: str) -> FollowUp | None:
    """What follows when `job` ends with this status; None: nothing."""
    if status == "completed" and job.on_success is not None:
        return FollowUp("success", job.on_success, job.attempt)
    if status == "failed" and job.on_failure is not None:
        return FollowUp("failure", job.on_failure, job.attempt)
    return None


def followup_id(job: str, claim_number: int, seconds: int) -> str:
    """The id of what follows on the end of this claim at that time: the same in every process."""
    rest = hashlib.sha256(f"{job}:{claim_number}".encode()).hexdigest()[:16]
    return f"{seconds:08x}{rest}"


def bounded_part(value: Any) -> Any:
    """`value`, or UNSET when it has more than MAX_PART bytes as JSON."""
    return value if len(msgspec.json.encode(value)) <= MAX_PART else msgspec.UNSET
