"""What is submitted, and the answers that are not a job or a page of jobs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated, Any, Final, Generic, Self, TypeVar

import msgspec

from dtqkit.control.public import public_sentence
from dtqkit.model.errors import DtqError, JobNotFound, StoreUnavailable, rebuild
from dtqkit.model.jobs import AnyPriority, AnyStatus, Job, is_job_id
from dtqkit.support.sanitize import bounded
from dtqkit.tasks.options import JobOptions
from dtqkit.tasks.task import DEFAULTS, Call

T = TypeVar("T")

MAX_PAGE: Final = 200
MAX_BATCH: Final = 1000

JobId = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[0-9a-f]{24}$"})]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request of an operation that takes nothing."""


NOTHING: Final = Nothing()


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job. Raises JobNotFound for an id that no job can have."""

    id: JobId

    def __post_init__(self) -> None:
        if not is_job_id(self.id):
            raise JobNotFound(self.id[:40])
        msgspec.structs.force_setattr(self, "id", self.id.lower())


class JobsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many jobs, by their ids; without `payload`, theirs may be empty."""

    ids: Sequence[str]
    payload: bool = True


class Submission(JobOptions, frozen=True, kw_only=True, gc=False):
    """A job to create: what is None gets the task's own options."""

    task: str
    payload: dict[str, Any] = {}  # noqa: RUF012 - msgspec makes a new one for each


class PreValidated(Submission, frozen=True, kw_only=True, gc=False):
    """A submission of this process, whose payload its own task has just checked: it is not checked again."""


class JobStatus(msgspec.Struct, frozen=True, gc=False):
    """The state of a job; a higher `rev` is newer."""

    id: str
    status: AnyStatus
    rev: int


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A piece of a listing; `cursor` asks for the next one, None at the end."""

    items: tuple[T, ...]
    cursor: str | None = None


def submission_of(call: Call[Any]) -> PreValidated:
    """The submission of a call."""
    if call.options is DEFAULTS:
        return PreValidated(task=call.task.name, payload=call.payload)
    return PreValidated(task=call.task.name, payload=call.payload, **msgspec.structs.asdict(call.options))


class Refusal(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Why one job of a batch was not accepted."""

    code: str
    detail: str

    @classmethod
    def of(cls, error: DtqError) -> Self:
        """What everybody may know of `error`; in this process, `error` is kept with it."""
        detail = public_sentence(error) if isinstance(error, StoreUnavailable) else str(error)
        refusal = cls(code=error.code, detail=bounded(detail))
        vars(refusal)["error"] = error
        return refusal

    @functools.cached_property
    def error(self) -> DtqError:
        """The same as an exception, by its class; what came over HTTP has lost its facts but the message."""
        return rebuild(self.code, self.detail, {})


class BatchItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The outcome of one submission of a batch: a job, or a refusal."""

    job: Job | None = None
    refused: Refusal | None = None


class Requeued(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters matched, and how many were requeued."""

    matched: int
    requeued: int


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The lines that a job has logged, oldest first, as many as were kept."""

    id: str
    lines: tuple[str, ...]


#: As texts: a newer server may have more of them.
HealthStatus = Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["ok", "degraded", "down", "stopping"]})]
StoreStatus = Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["up", "down"]})]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether jobs can be accepted and run.

    `ok`; `degraded`: accepted, but they may not run now; `down`: submits would be refused; `stopping`: this server is.
    """

    status: HealthStatus
    #: Whether each store answers and takes writes.
    redis: StoreStatus
    mongodb: StoreStatus
    #: Live workers; whether one of them leads recovery; lanes in which jobs wait that none of them serves. None: not
    #: known, as Redis does not answer; or who leads, as it has just begun to.
    workers: int | None = None
    leader: bool | None = None
    unserved: tuple[AnyPriority, ...] | None = None
    #: Pauses in force. None: not known.
    pauses: int | None = None
    #: Seconds since the last write to each store that was done, and since the last beat of a worker.
    mongodb_wrote_s: float | None = None
    redis_wrote_s: float | None = None
    beat_s: float | None = None
    #: What is wrong, in plain words.
    reasons: tuple[str, ...] = ()


#: Bytes of a payload or a result, as JSON, that a snapshot still carries.
LEAN: Final = 1_000


def lean(job: Job) -> Job:
    """`job` as a snapshot carries it: without a long payload or result, which a request for the job returns."""
    if len(msgspec.json.encode(job.payload)) > LEAN:
        job = msgspec.structs.replace(job, payload={})
    if len(msgspec.json.encode(job.result)) > LEAN:
        job = msgspec.structs.replace(job, result=None)
    return job
