"""Events of jobs and workers, as they happen, and their JSON form.

Events may be lost and may come twice: read the record where that matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import Final

import msgspec

from dtqkit.model.jobs import AnyPriority, AnyStatus, Job, JobError, Status

#: Characters of an error in an event.
MAX_ERROR: Final = 200


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job has reached `status`; an event with a lower `rev` than one already seen is out of date."""

    id: str
    rev: int
    status: AnyStatus
    task: str
    priority: AnyPriority
    worker: str | None = None
    #: How long the attempt waited and ran, once it has ended.
    wait_ms: float | None = None
    run_ms: float | None = None
    #: Short text of the error that ended the attempt.
    error: str | None = None
    cancel_requested: bool = False


class ProgressEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A running job has reported its progress, or has logged lines."""

    id: str
    #: The claim whose attempt reports.
    claim_number: int = msgspec.field(name="token")
    progress: float | None = None
    message: str = ""
    log: tuple[str, ...] = ()
    #: When the first line of its task ran.
    started_at: datetime | None = None


class Depths(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of waiting jobs by lane, of jobs not yet due, of running jobs; and the oldest waiting one's age in s."""

    high: int = 0
    medium: int = 0
    low: int = 0
    scheduled: int = 0
    running: int = 0
    oldest_wait_s: float | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker reports with each heartbeat."""

    id: str
    name: str
    host: str
    pid: int
    #: The lanes it serves, its own first.
    lanes: tuple[AnyPriority, ...]
    concurrency: int
    #: Jobs that it runs now.
    load: int
    started_at: datetime
    version: str
    #: working, idle or stopping.
    status: str = "idle"
    completed: int = 0
    failed: int = 0
    #: The lanes as the worker last saw them.
    depths: Depths | None = None
    #: Names of the tasks that it serves; None: not known.
    tasks: tuple[str, ...] | None = None
    #: Seconds since its last heartbeat, at the time of reading.
    age_s: float = 0.0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state that a board starts with."""

    depths: Depths
    workers: tuple[Heartbeat, ...]
    jobs: tuple[Job, ...]


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message on the channel `job-events`."""

    jobs: Sequence[JobEvent] = ()
    progress: Sequence[ProgressEvent] = ()


class Line(Enum):
    """The state of a subscription."""

    #: Newly subscribed: earlier events were missed.
    UP = "up"
    #: Disconnected: no events arrive until it is up again.
    DOWN = "down"


_encoder = msgspec.json.Encoder()
_batch_decoder = msgspec.json.Decoder(Batch)


def encode_batch(jobs: Iterable[JobEvent] = (), progress: Iterable[ProgressEvent] = ()) -> bytes:
    return _encoder.encode(Batch(tuple(jobs), tuple(progress)))


def decode_batch(data: bytes) -> Batch:
    """The batch; an empty one when `data` is not of this form (Redis may hold anything)."""
    try:
        return _batch_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Batch()


def encode_heartbeat(beat: Heartbeat) -> bytes:
    return _encoder.encode(beat)


def event_of(job: Job) -> JobEvent:
    """The event of the present state of `job`."""
    return job_event(job, job.rev, job.status, job.error, None, job.run_ms, cancel_requested=job.cancel_requested)


def job_event(
    job: Job,
    rev: int,
    status: Status,
    error: JobError | None,
    wait_ms: float | None,
    run_ms: float | None,
    *,
    cancel_requested: bool = False,
) -> JobEvent:
    """The event of `job` with `change` applied."""
    return JobEvent(
        id=job.id,
        rev=rev,
        status=status,
        task=job.task,
        priority=job.priority,
        worker=job.worker,
        wait_ms=wait_ms,
        run_ms=run_ms,
        error=str(error)[:MAX_ERROR] if error else None,
        cancel_requested=cancel_requested,
    )
