"""Schedules: their records, the check of a definition, and what is to be done when one is due. Pure: no I/O, no clock.

A nominal time is one at which a schedule should run. It follows from the one before (`timing.py`), never from a clock:
so a leader that is late, or a clock that is set, neither adds nor drops one. Each nominal time is accounted for once:
as `enqueued`, as `missed` (too late, or superseded by a later one) or as `skipped` (by `overlap`, or while paused).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from dtqkit.model.schedule_errors import InvalidSchedule
from dtqkit.model.timing import Every, Timing, cron

Overlap: TypeAlias = Literal["allow", "skip", "queue_one", "cancel_running"]
CatchUpRuns: TypeAlias = Literal["last", "all"]

MAX_NAME: Final = 100
DAY_S: Final = 86_400.0
#: How late a leader may be without a failure, in seconds: a time is not missed before.
LATE_S: Final = 2.0
#: Nominal times that one plan enqueues at most, and that it looks at one by one.
PIECE: Final = 200
LOOKED: Final = 1_000
#: How often a schedule is looked at whose next run waits for the one before.
HELD_S: Final = 1.0
#: The same of one whose times this process cannot compute.
TROUBLED_S: Final = 60.0
#: Characters of a reason that a schedule keeps.
MAX_TROUBLE: Final = 500
#: Of what is decided and not done yet: due whatever the clock says.
_ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Jobs that a schedule remembers as perhaps not over yet.
MAX_LIVE: Final = 20


if TYPE_CHECKING:
    AnyOverlap: TypeAlias = Overlap
    AnyRuns: TypeAlias = CatchUpRuns
else:  # in what is read from a server: a newer one may have more of them
    AnyOverlap = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(get_args(Overlap))})]
    AnyRuns = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(get_args(CatchUpRuns))})]


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a schedule runs, and when. Either `cron` or `every_s` is given."""

    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
    task: str
    payload: dict[str, Any] = {}
    #: Options of its jobs, as a submission has them: priority, tags, max_attempts, timeout_s.
    options: dict[str, Any] = {}
    #: Five fields, as in `0 3 * * 1-5`, in the time zone `tz`.
    cron: str | None = None
    tz: str = "UTC"
    #: Seconds between two runs, counted from when the schedule was made.
    every_s: float | None = None
    #: What happens to a run that is due while the one before is not over.
    overlap: Overlap = "allow"
    #: For how long a run that could not be started in time is made up for, in seconds.
    catch_up_s: float = 3600.0
    #: Which of the runs within that time: the last one, or all.
    catch_up_runs: CatchUpRuns = "last"
    #: Each run starts up to so many seconds later: always the same for a nominal time.
    jitter_s: float = 0.0


class Paused(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Since when a schedule is paused, and why."""

    at: datetime
    reason: str = ""


class Declared(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which code declares a schedule: its app, and the hash of the definition that it wrote last."""

    app: str
    hash: str
    #: When a worker with this definition last said that it has it.
    at: datetime
    #: Hashes of definitions that this one has replaced, oldest first.
    before: tuple[str, ...] = ()


class Schedule(Definition, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule and its state. Times are MongoDB's."""

    overlap: AnyOverlap = "allow"
    catch_up_runs: AnyRuns = "last"
    created_at: datetime
    #: What `every_s` is counted from.
    anchor_at: datetime
    #: The next nominal time that is not accounted for; None: there is none.
    next_at: datetime | None = None
    #: When the leader has to look at it; None while it is paused.
    due_at: datetime | None = None
    #: Nominal times whose jobs are being enqueued, and jobs that are cancelled before: decided, and not done yet.
    pending: tuple[datetime, ...] = ()
    stopping: tuple[str, ...] = ()
    #: A nominal time whose run waits until the one before is over (`overlap="queue_one"`).
    held_at: datetime | None = None
    #: The last nominal time that was enqueued, and its job.
    last_at: datetime | None = None
    last_job: str | None = None
    #: Jobs of this schedule that were not over when it was last looked at.
    live: tuple[str, ...] = ()
    enqueued: int = 0
    missed: int = 0
    skipped: int = 0
    #: Jobs that people asked for: by "run now" and by a backfill. They are no nominal times of their own.
    by_hand: int = 0
    #: Why the last run could not be enqueued; empty: it was.
    trouble: str = ""
    paused: Paused | None = None
    #: The last pause that is over: what was due in it is skipped.
    off_from: datetime | None = None
    off_until: datetime | None = None
    #: The code that declares it; None: it was made at run time.
    declared: Declared | None = None
    #: Grows with each change.
    rev: int = 1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done about a schedule now, and what it is afterwards."""

    #: Nominal times whose jobs are to be enqueued.
    enqueue: tuple[datetime, ...] = ()
    #: Jobs that are cancelled before that.
    cancel: tuple[str, ...] = ()
    missed: int = 0
    skipped: int = 0
    held_at: datetime | None = None
    next_at: datetime | None = None
    #: Jobs that are not over.
    live: tuple[str, ...] = ()


# -- times


def timing_of(schedule: Definition, anchor: datetime) -> Timing:
    if schedule.cron is not None:
        return cron(schedule.cron, schedule.tz)
    return Every(schedule.every_s or DAY_S, anchor)


def key_of(name: str, at: datetime) -> str:
    """The idempotency key of the run of a nominal time. Keys of one schedule sort by time."""
    return f"{prefix_of(name)}{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def prefix_of(name: str) -> str:
    """What the keys of all jobs of a schedule begin with: no name contains `@`."""
    return f"schedule:{name}@"


def jitter(schedule: Definition, at: datetime) -> timedelta:
    """How much later the run of this nominal time starts: always the same, and different from other schedules."""
    if not schedule.jitter_s:
        return timedelta()
    drawn = int.from_bytes(hashlib.sha256(key_of(schedule.name, at).encode()).digest()[:8], "big") / 2**64
    return timedelta(milliseconds=int(drawn * schedule.jitter_s * 1000))


def due_at(schedule: Schedule, now: datetime) -> datetime | None:
    """When the leader has to look at it again."""
    if schedule.pending:
        return _ALWAYS
    if schedule.paused is not None:
        return None
    due = None if schedule.next_at is None else schedule.next_at + jitter(schedule, schedule.next_at)
    if schedule.held_at is not None:
        soon = now + timedelta(seconds=HELD_S)
        due = soon if due is None else min(due, soon)
    return due


def is_due(schedule: Schedule, now: datetime) -> bool:
    """Whether a nominal time of it is to be dealt with."""
    at = schedule.next_at
    if schedule.pending:
        return True
    return schedule.paused is None and at is not None and at + jitter(schedule, at) <= now


def next_run(schedule: Schedule) -> datetime | None:
    """The next nominal time that runs; None while it is paused, and when this process cannot compute it.

    What fell into a pause is skipped by the next plan.
    """
    if schedule.paused is not None:
        return None
    at, until = schedule.next_at, schedule.off_until
    if at is None or until is None or not _in_pause(schedule, at):
        return at
    try:
        return timing_of(schedule, schedule.anchor_at).after(until - timedelta(milliseconds=1))
    except InvalidSchedule:  # a zone that is not known here
        return None


def next_times(schedule: Schedule, now: datetime, count: int) -> Iterator[datetime]:
    """The next nominal times after `now`, as long as nothing is changed."""
    timing = timing_of(schedule, schedule.anchor_at)
    at = schedule.next_at
    if at is not None and at <= now:
        at = timing.after(now)
    while at is not None and count > 0:
        yield at
        count -= 1
        at = timing.after(at)


def times_between(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """The nominal times from `start` on, before `end`."""
    timing = timing_of(schedule, schedule.anchor_at)
    at = timing.after(start - timedelta(milliseconds=1))
    while at is not None and at < end:
        yield at
        at = timing.after(at)


# -- the decision


def plan(schedule: Schedule, now: datetime, running: Collection[str] = ()) -> Plan:
    """What is due `now`, by MongoDB's clock, and what to do. `running`: the jobs in `live` that are not over."""
    active = [job for job in schedule.live if job in running]
    if schedule.paused is not None:
        return Plan(held_at=schedule.held_at, next_at=schedule.next_at, live=tuple(active))
    due = _due(schedule, now)
    going = _Overlap(schedule, active)
    going.release()
    for at in due.wanted:
        going.meet(at)
    return Plan(
        enqueue=tuple(going.enqueue),
        cancel=tuple(going.cancel),
        missed=due.missed,
        skipped=due.skipped + going.skipped,
        held_at=going.held_at,
        next_at=due.next_at,
        live=tuple(active),
    )


class _Due(NamedTuple):
    """Of the nominal times that are due: those that run unless they overlap, and how many do not; the one after."""

    wanted: list[datetime]
    missed: int
    skipped: int
    next_at: datetime | None


def _due(schedule: Schedule, now: datetime) -> _Due:
    """Looks at LOOKED times, or stretches of times, and finds PIECE that run: the rest is for the next plan."""
    timing = timing_of(schedule, schedule.anchor_at)
    oldest = now - timedelta(seconds=max(schedule.catch_up_s, LATE_S))
    # The end of those that are due, and of those that are missed, whatever their jitter.
    sure = now - timedelta(seconds=schedule.jitter_s)
    gone = _gone(schedule, timing, oldest, sure)
    wanted: list[datetime] = []
    missed = skipped = looked = 0
    at = schedule.next_at
    while at is not None and at + jitter(schedule, at) <= now and looked < LOOKED and len(wanted) < PIECE:
        looked += 1
        if _in_pause(schedule, at):
            n, at = timing.skip(at, min(schedule.off_until or at, sure))
            skipped += n
        elif at < gone:
            pause = schedule.off_from
            n, at = timing.skip(at, gone if pause is None or pause < at else min(gone, pause))
            missed += n
        else:
            if at + jitter(schedule, at) < oldest:
                missed += 1
            elif schedule.catch_up_runs == "last" and wanted:
                wanted[-1] = at
                missed += 1
            else:
                wanted.append(at)
            at = timing.after(at)
    if schedule.catch_up_runs == "last" and wanted and _is_followed(schedule, timing, at, now):
        missed += 1
        wanted = []
    return _Due(wanted, missed, skipped, at)


def _gone(schedule: Schedule, timing: Timing, oldest: datetime, sure: datetime) -> datetime:
    """All times before it are missed, or skipped by a pause: they are too late, or a later one takes their place."""
    gone = oldest - timedelta(seconds=schedule.jitter_s)
    if schedule.catch_up_runs == "all" or timing.step is None:
        return gone
    # Within a step before this there is one that is due and in no pause.
    last, begin, end = sure, schedule.off_from, schedule.off_until
    if begin is not None and end is not None and end > sure - timing.step:
        last = min(begin, sure)
    return max(gone, last - timing.step) if last - timing.step >= oldest else gone


def _is_followed(schedule: Schedule, timing: Timing, at: datetime | None, now: datetime) -> bool:
    """Whether `at`, which no plan has looked at yet, or one after it is due and in no pause."""
    if at is not None and at + jitter(schedule, at) <= now and _in_pause(schedule, at):
        at = timing.after((schedule.off_until or now) - timedelta(milliseconds=1))
    return at is not None and at + jitter(schedule, at) <= now


def _in_pause(schedule: Schedule, at: datetime) -> bool:
    begin, end = schedule.off_from, schedule.off_until
    return begin is not None and end is not None and begin <= at < end


class _Overlap:
    """What happens to each nominal time in turn, given the runs that are not over."""

    def __init__(self, schedule: Schedule, active: list[str]) -> None:
        self._rule = schedule.overlap
        self._active = active
        self.held_at = schedule.held_at
        self.enqueue: list[datetime] = []
        self.cancel: list[str] = []
        self.skipped = 0

    def release(self) -> None:
        """The run that waits: it starts when none is left before it."""
        if self.held_at is not None and (not self._active or self._rule != "queue_one"):
            self.enqueue.append(self.held_at)
            self.held_at = None

    def meet(self, at: datetime) -> None:
        """The run of the next nominal time."""
        if self._rule == "allow" or not (self._active or self.enqueue):
            self.enqueue.append(at)
        elif self._rule == "queue_one" and self.held_at is None:
            self.held_at = at
        elif self._rule == "cancel_running":
            self.cancel = self._active
            self.skipped += len(self.enqueue)  # a later one would cancel it at once
            self.enqueue = [at]
        else:
            self.skipped += 1


def advanced(known: Schedule, done: Plan, now: datetime) -> Schedule:
    """`known` once its plan is decided: its jobs are pending."""
    over = known.off_until is not None and not before(done.next_at, known.off_until)
    new = msgspec.structs.replace(
        known,
        next_at=done.next_at,
        held_at=done.held_at,
        pending=done.enqueue,
        stopping=done.cancel,
        live=done.live[-MAX_LIVE:],
        missed=known.missed + done.missed,
        skipped=known.skipped + done.skipped,
        off_from=None if over else known.off_from,
        off_until=None if over else known.off_until,
    )
    return msgspec.structs.replace(new, due_at=due_at(new, now))


def completed(
    known: Schedule, jobs: Mapping[datetime, str], refused: Sequence[str], now: datetime, skipped: int = 0
) -> Schedule:
    """`known` once its pending jobs are enqueued: their ids; why others were refused; how many were duplicates."""
    last = max(jobs, default=None)
    new = msgspec.structs.replace(
        known,
        pending=(),
        stopping=(),
        live=(*known.live, *jobs.values())[-MAX_LIVE:],
        enqueued=known.enqueued + len(jobs),
        missed=known.missed + len(refused),
        skipped=known.skipped + skipped,
        last_at=known.last_at if last is None else last,
        last_job=known.last_job if last is None else jobs[last],
        trouble=refused[-1][:MAX_TROUBLE] if refused else "",
    )
    return msgspec.structs.replace(new, due_at=due_at(new, now))


def troubled(known: Schedule, why: str, now: datetime) -> Schedule:
    """`known` when its times cannot be computed, as without its zone: it is tried again, here or by another leader."""
    return msgspec.structs.replace(known, trouble=why[:MAX_TROUBLE], due_at=now + timedelta(seconds=TROUBLED_S))


def before(at: datetime | None, limit: datetime) -> bool:
    return at is not None and at < limit
