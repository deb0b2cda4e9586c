"""The one table of operations that a face may ask of a queue: their records, and the Protocol of whoever answers.

Routes, the OpenAPI document, the remote client and the board are all made from `OPERATIONS`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Generic, Literal, Protocol, TypeVar

import msgspec

from dtqkit.errors import InvalidQuery
from dtqkit.events import Batch, Depths, Heartbeat, Line, Snapshot
from dtqkit.jobs import Ending, Job, Priority, Status
from dtqkit.tasks import Call, TaskInfo

T = TypeVar("T")

MAX_PAGE: Final = 200
MAX_BATCH: Final = 1000

Attempts = Annotated[int, msgspec.Meta(ge=1, le=100)]
Timeout = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Delay = Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)]
Wait = Annotated[float, msgspec.Meta(ge=0, le=60)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Tags = Annotated[tuple[Tag, ...], msgspec.Meta(max_length=20)]


class Submission(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One job to be: what is None falls back to the task's own options."""

    task: str
    payload: dict[str, Any] = {}
    priority: Priority | None = None
    #: Seconds before it may start.
    delay_s: Delay = 0.0
    max_attempts: Attempts | None = None
    #: Seconds that one attempt may run.
    timeout_s: Timeout | None = None
    #: The same key with the same payload gives the first job again.
    idempotency_key: Key | None = None
    tags: Tags = ()
    #: Seconds for which a submit that MongoDB does not take now, say while it elects a primary, is sent again.
    wait_s: Wait | None = None


class Bound(Submission, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A submission of this process, whose payload its own task has just checked: it is not checked again."""


def submission_of(call: Call[Any]) -> Bound:
    """What a call says, to be enqueued."""
    options = call.options
    return Bound(
        task=call.task.name,
        payload=call.payload,
        priority=options.priority,
        delay_s=options.delay_s,
        max_attempts=options.max_attempts,
        timeout_s=options.timeout_s,
        idempotency_key=options.idempotency_key,
        tags=options.tags,
        wait_s=options.wait_s,
    )


class JobQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Filters of a listing; newest first. `since` is a time, or an age such as `90s`, `15m`, `24h`, `7d`."""

    status: Status | None = None
    task: str | None = None
    priority: Priority | None = None
    worker: str | None = None
    since: str | None = None
    #: An id, an idempotency key or a tag, exact or its beginning.
    q: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    #: Exactly these jobs, with their attempts and logs.
    ids: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_PAGE)] | None = None
    #: Of each job only id, task, priority, status, rev and the time of creation; its payload is empty.
    brief: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)] = 50
    cursor: str | None = None


class JobStatus(msgspec.Struct, frozen=True, gc=False):
    """How a job stands; a higher `rev` is newer."""

    id: str
    status: Status
    rev: int


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A piece of a listing; `cursor` asks for the next one, None at the end."""

    items: tuple[T, ...]
    cursor: str | None = None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why one job of a batch was not accepted."""

    code: str
    detail: str


class BatchItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What became of one submission of a batch: a job, or a refusal."""

    job: Job | None = None
    refused: Refusal | None = None


class DeadLetterQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which dead letters to requeue; `dry_run` only counts them."""

    task: str | None = None
    priority: Priority | None = None
    since: str | None = None
    #: Exactly these jobs.
    ids: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_BATCH)] | None = None
    dry_run: bool = False


class Requeued(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters matched, and how many were put back."""

    matched: int
    requeued: int


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The lines that a job has logged, oldest first, as far as they were kept."""

    id: str
    lines: tuple[str, ...]


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which attempts: `since` as in JobQuery, by the job's creation; and what of them, in this order."""

    since: str | None = None
    task: str | None = None
    status: Status | None = None
    #: Names of columns; besides the usual ones, these are payload, tags and result.
    columns: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=50)] | None = None


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of one job, flat, as history and NDJSON have it."""

    job: str
    task: str
    priority: Priority
    status: Status
    number: int
    worker: str
    queued_at: datetime
    claimed_at: datetime
    #: When the first line of the task ran; None for what has not begun, or never did.
    started_at: datetime | None
    ended_at: datetime | None
    #: Seconds from being ready to the first line; seconds that it ran. None for what never began, or still runs.
    wait_s: float | None
    run_s: float | None
    ending: Ending | None
    error: str | None
    #: Of the job, when they are asked for; the result, of the attempt that brought it.
    payload: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    tags: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    result: Any | msgspec.UnsetType = msgspec.UNSET


#: Columns of a history that come only when they are asked for, and those that come otherwise.
MORE_COLUMNS: Final = ("payload", "tags", "result")
COLUMNS: Final = tuple(name for name in AttemptRow.__struct_fields__ if name not in MORE_COLUMNS)


def columns_of(query: HistoryQuery) -> tuple[str, ...]:
    """The columns that a history shall have. Raises InvalidQuery, which names those that there are."""
    if query.columns is None:
        return COLUMNS
    for name in query.columns:
        if name not in AttemptRow.__struct_fields__:
            known = ", ".join(AttemptRow.__struct_fields__)
            raise InvalidQuery(f"there is no column {name[:60]!r}; there are {known}")
    return query.columns


class TaskStats(msgspec.Struct, frozen=True, kw_only=True):
    """Of one task in the window: counts, and percentiles in seconds of those that ran."""

    task: str
    submitted: int
    completed: int
    failed: int
    cancelled: int
    wait_p50_s: float | None
    wait_p95_s: float | None
    run_p50_s: float | None
    run_p95_s: float | None


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """When a lane will be empty, in seconds from now: an estimate and its 90 % interval; None: not foreseeable."""

    lane: Priority
    waiting: int
    drain_s: float | None
    low_s: float | None
    high_s: float | None


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """One minute, from `at`: counts, and what waited in each lane and ran shortly after it (None: nobody looked)."""

    at: datetime
    submitted: int
    completed: int
    failed: int
    cancelled: int
    waiting: dict[Priority, int] | None
    running: int | None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The `window_s` seconds before `at`, counted from the record; and what they mean for what waits.

    A job that failed and was requeued since counts as failed; one that is submitted counts by the second.
    """

    at: datetime
    window_s: float
    submitted: int
    completed: int
    failed: int
    cancelled: int
    #: Completed and failed ones a second.
    throughput_per_s: float
    tasks: tuple[TaskStats, ...]
    #: How many of the newest ends the percentiles are of; None: of all.
    sampled: int | None
    #: Estimates, all of them.
    forecast: tuple[Forecast, ...]
    #: The last 60 whole minutes, oldest first.
    minutes: tuple[Minute, ...]


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one task and priority since the record began."""

    task: str
    priority: Priority
    submitted: int
    completed: int
    failed: int
    cancelled: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Counts until `at` that only grow, whichever process is asked; of very many tasks, the last share one name."""

    at: datetime
    totals: tuple[Total, ...]


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The window, in seconds."""

    window_s: Annotated[float, msgspec.Meta(ge=10, le=7 * 86_400)] = 300.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether jobs can be accepted and run.

    `ok`; `degraded`: accepted, but they may not run now; `down`: submits would be refused; `stopping`: this server is.
    """

    status: Literal["ok", "degraded", "down", "stopping"]
    #: Whether each store answers and takes writes.
    redis: Literal["up", "down"]
    mongodb: Literal["up", "down"]
    #: Live workers; whether one of them leads recovery; lanes in which jobs wait that none of them serves. None: not
    #: known, as Redis does not answer; or who leads, as it has just begun to.
    workers: int | None = None
    leader: bool | None = None
    unserved: tuple[Priority, ...] | None = None
    #: Seconds since the last write to each store that was done, and since the last beat of a worker.
    mongodb_wrote_s: float | None = None
    redis_wrote_s: float | None = None
    beat_s: float | None = None
    #: What is wrong, in plain words.
    reasons: tuple[str, ...] = ()


class Control(Protocol):
    """What a queue can be asked, whether it is here or behind HTTP."""

    async def submit(self, submission: Submission) -> Job: ...
    async def submit_many(self, submissions: Sequence[Submission]) -> Sequence[BatchItem]: ...
    async def get(self, job_id: str) -> Job: ...

    async def get_many(self, job_ids: Sequence[str], *, payload: bool = True) -> Sequence[Job]:
        """Those that exist, in no particular order; without `payload`, theirs may be empty."""
        ...

    async def statuses(self, job_ids: Sequence[str]) -> Sequence[JobStatus]:
        """Of those that exist, in no particular order: some 60 bytes a job, however large it is."""
        ...

    async def jobs(self, query: JobQuery) -> Page[Job]: ...
    async def log(self, job_id: str) -> Log: ...
    async def cancel(self, job_id: str) -> Job: ...
    async def requeue(self, job_id: str) -> Job: ...
    async def dead_letters(self, query: JobQuery) -> Page[Job]: ...
    async def requeue_dead(self, query: DeadLetterQuery) -> Requeued: ...
    async def depths(self) -> Depths: ...
    async def workers(self) -> Sequence[Heartbeat]: ...
    async def tasks(self) -> Sequence[TaskInfo]: ...
    async def stats(self, query: StatsQuery) -> Stats: ...
    async def totals(self) -> Totals: ...
    async def health(self) -> Health: ...
    async def snapshot(self) -> Snapshot: ...
    def history(self, query: HistoryQuery) -> AsyncIterator[AttemptRow]: ...

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        """Call `callback` on the loop with each batch of events, and with a Line when it is up or down.

        Returns a function that ends the subscription.
        """
        ...

    async def close(self) -> None: ...


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One row: the Control method of this name, reached by `method path`, needing `scope`."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    scope: Literal["open", "read", "write"]
    summary: str
    #: The record of the query string (GET) or of the body (POST); None: nothing is taken.
    request: Any = None
    response: Any = None
    status: int = 200


OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        name="submit",
        method="POST",
        path="/jobs",
        scope="write",
        summary="Submit a job.",
        request=Submission,
        response=Job,
        status=201,
    ),
    Operation(
        name="submit_many",
        method="POST",
        path="/jobs/batch",
        scope="write",
        summary="Submit up to 1,000 jobs; each is accepted or refused by itself.",
        request=Annotated[tuple[Submission, ...], msgspec.Meta(min_length=1, max_length=MAX_BATCH)],
        response=tuple[BatchItem, ...],
    ),
    Operation(
        name="jobs",
        method="GET",
        path="/jobs",
        scope="read",
        summary="Jobs, newest first.",
        request=JobQuery,
        response=Page[Job],
    ),
    Operation(
        name="depths",
        method="GET",
        path="/jobs/queue-depths",
        scope="read",
        summary="How many jobs wait in each lane.",
        response=Depths,
    ),
    Operation(
        name="dead_letters",
        method="GET",
        path="/jobs/dead-letter/list",
        scope="read",
        summary="Jobs that failed for good.",
        request=JobQuery,
        response=Page[Job],
    ),
    Operation(
        name="requeue_dead",
        method="POST",
        path="/jobs/dead-letter/requeue",
        scope="write",
        summary="Requeue dead letters.",
        request=DeadLetterQuery,
        response=Requeued,
    ),
    Operation(
        name="get",
        method="GET",
        path="/jobs/{id}",
        scope="read",
        summary="One job with its attempts, progress, log's tail, result or error.",
        response=Job,
    ),
    Operation(
        name="log",
        method="GET",
        path="/jobs/{id}/logs",
        scope="read",
        summary="All kept log lines of a job.",
        response=Log,
    ),
    Operation(
        name="requeue",
        method="POST",
        path="/jobs/{id}/requeue",
        scope="write",
        summary="Requeue a failed job.",
        response=Job,
    ),
    Operation(
        name="cancel",
        method="POST",
        path="/jobs/{id}/cancel",
        scope="write",
        summary="Cancel a waiting job, or ask a running one to stop.",
        response=Job,
    ),
    Operation(
        name="tasks",
        method="GET",
        path="/tasks",
        scope="read",
        summary="Registered tasks with the JSON Schema of their payload.",
        response=tuple[TaskInfo, ...],
    ),
    Operation(
        name="history",
        method="GET",
        path="/attempts",
        scope="read",
        summary="History as NDJSON, a line an attempt.",
        request=HistoryQuery,
        response=AttemptRow,
    ),
    Operation(
        name="workers",
        method="GET",
        path="/workers",
        scope="read",
        summary="Live workers.",
        response=tuple[Heartbeat, ...],
    ),
    Operation(
        name="stats",
        method="GET",
        path="/stats",
        scope="read",
        summary="Counts, waits and runs of a window, the last minutes, and a forecast to drain.",
        request=StatsQuery,
        response=Stats,
    ),
    Operation(
        name="totals",
        method="GET",
        path="/stats/totals",
        scope="read",
        summary="Jobs that were submitted and that ended since the record began, by task and priority.",
        response=Totals,
    ),
    Operation(
        name="health",
        method="GET",
        path="/health",
        scope="open",
        summary="Whether jobs can be accepted and run.",
        response=Health,
    ),
)


def encode_cursor(last_id: str) -> str:
    """A cursor that continues after the job `last_id`."""
    place = bytes.fromhex(last_id)
    return base64.urlsafe_b64encode(place + _mark(place)).decode()


def decode_cursor(cursor: str) -> str:
    """The id that `cursor` continues after; InvalidQuery when it is not one of ours."""
    try:
        decoded = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        decoded = b""
    place = decoded[:12]
    if decoded != place + _mark(place) or encode_cursor(place.hex()) != cursor:
        raise InvalidQuery(f"cursor {cursor[:80]!r} is not one that a listing gave")
    return place.hex()


def _mark(place: bytes) -> bytes:
    """What a cursor that was cut or changed does not have. No secret: an id of one's own making does no harm."""
    return hashlib.sha256(b"dtqkit cursor" + place).digest()[:3]


_AGE = re.compile(r"^(\d{1,6}(?:\.\d{1,3})?)([smhd])$")
#: Bytes of a payload or a result, as JSON, that a snapshot still carries.
LEAN: Final = 1_000


def lean(job: Job) -> Job:
    """`job` as a snapshot carries it: a payload or result that is long is left to who asks for the job."""
    if len(msgspec.json.encode(job.payload)) > LEAN:
        job = msgspec.structs.replace(job, payload={})
    if len(msgspec.json.encode(job.result)) > LEAN:
        job = msgspec.structs.replace(job, result=None)
    return job


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2106, 1, 1, tzinfo=UTC)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_since(text: str, now: datetime) -> datetime:
    """The time that `text` means: an age (`90s`, `15m`, `24h`, `7d`) or a time in ISO 8601 (UTC if it says nothing)."""
    try:
        if match := _AGE.match(text):
            when = now - timedelta(seconds=float(match[1]) * _UNIT_S[match[2]])
        else:
            when = datetime.fromisoformat(text)
            when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
        # A job's id holds its time in 32 bits: what is before all jobs, or after them, is as good as the limit.
        return min(max(when, _EPOCH), _LAST)
    except (OverflowError, ValueError):
        pass
    raise InvalidQuery(
        f"since is {text[:80]!r}; it is an age such as 90s, 15m, 24h or 7d, or a time such as 2026-01-31T08:00"
    )
