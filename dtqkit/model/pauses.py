"""Pauses: which jobs must wait until somebody resumes them. Pure.

A pause is of a lane, of a task, or of the jobs of a task whose payload has certain values. A paused job stays as it is
in the record, and no worker claims it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from typing_extensions import override

from dtqkit.model.jobs import WAITING, AnyPriority, Job, Priority
from dtqkit.model.outcomes import Delayed
from dtqkit.model.policy import Policy
from dtqkit.model.where import MAX_TEXT, Scalar, has_values

#: Pauses that may be in force at a time.
MAX_PAUSES: Final = 200
Reason = Annotated[str, Meta(max_length=MAX_TEXT)]

#: How soon a job is looked at again that was claimed just before its pause was known, in seconds; and one whose
#: payload MongoDB cannot be asked about (`store.packing`), so that it is claimed before it is known to be paused.
SOON_S: Final = 0.5
PACKED_S: Final = 30.0


class Pause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One pause. Exactly one of `lane` and `task` is set; `where` goes with a task."""

    id: str
    lane: AnyPriority | None = None
    task: str | None = None
    #: Values of parameters: only jobs that have all of them are paused.
    where: dict[str, Scalar] = {}
    #: Of these parameters, the defaults of the task: what a payload without them means.
    defaults: dict[str, Any] = {}
    #: When it ends by itself, by MongoDB's clock.
    until: datetime | None = None
    reason: str = ""
    paused_at: datetime
    #: How many jobs it holds; None where that was not counted.
    waiting: int | None = None

    def __str__(self) -> str:
        return name_of(self.lane, self.task, self.where)

    def holds(self, job: Job) -> bool:
        """Whether `job` may not be started while this pause is in force."""
        if self.lane is not None:
            return job.priority == self.lane
        return job.task == self.task and has_values(job.payload, self.where, self.defaults)

    def ended(self, now: datetime) -> bool:
        """Whether it has ended by itself."""
        return self.until is not None and self.until <= now

    def sentence(self) -> str:
        """`task 'render' is paused since 2026-01-31 08:00 UTC until …: the printer is down`."""
        until = f" until {self.until:%Y-%m-%d %H:%M:%S} UTC" if self.until is not None else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self} is paused since {self.paused_at:%Y-%m-%d %H:%M:%S} UTC{until}{why}"


class Pauses(msgspec.Struct, frozen=True):
    """All pauses of a queue, as the record had them at one moment; a higher version is newer."""

    version: int = 0
    pauses: tuple[Pause, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pauses)

    def at(self, now: datetime) -> Pauses:
        """Those that have not ended by then."""
        left = tuple(pause for pause in self.pauses if not pause.ended(now))
        return self if len(left) == len(self.pauses) else Pauses(self.version, left)

    @property
    def lanes(self) -> frozenset[str]:
        """The lanes that are paused as a whole."""
        return frozenset(pause.lane for pause in self.pauses if pause.lane is not None)

    def of(self, job: Job) -> Pause | None:
        """A pause that holds `job`: one without an end, else the one that ends last."""
        holding = [pause for pause in self.pauses if pause.holds(job)]
        lasting = [pause for pause in holding if pause.until is None]
        return (lasting or sorted(holding, key=lambda pause: str(pause.until)) or [None])[-1]

    def held(self, jobs: Iterable[Job]) -> frozenset[str]:
        """The ids of those of `jobs` that wait and are held by a pause."""
        if not self.pauses:
            return frozenset()
        return frozenset(job.id for job in jobs if job.status in WAITING and self.of(job) is not None)

    @property
    def next_end(self) -> datetime | None:
        """When the first of them ends by itself."""
        return min((pause.until for pause in self.pauses if pause.until is not None), default=None)


def id_of(lane: Priority | None, task: str | None, where: Mapping[str, Scalar]) -> str:
    """The same for the same target, in whatever order its parameters are given."""
    if lane is not None:
        return f"lane:{lane}"
    values = msgspec.json.encode(dict(sorted(where.items()))).decode() if where else ""
    return f"task:{task}{values}"


def name_of(lane: Priority | None, task: str | None, where: Mapping[str, Scalar]) -> str:
    """`lane 'low'`, `task 'render' where customer=7`, for people."""
    if lane is not None:
        return f"lane {lane!r}"
    values = ", ".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in where.items())
    return f"task {task!r}{f' where {values}' if values else ''}"


class PauseGate(Policy):
    """Jobs that were claimed although they are paused go back, without an attempt: the claim was on its way already."""

    def __init__(self, pauses: Pauses, packed: Callable[[Any], bool]) -> None:
        """`packed`: whether a payload is stored in a form that a claim cannot look into."""
        self._pauses = pauses
        self._packed = packed

    @override
    def admit(self, job: Job, now: Callable[[], datetime]) -> Delayed | None:
        pauses = self._pauses.at(now())
        if (pause := pauses.of(job)) is None:
            return None
        return Delayed(PACKED_S if pause.where and self._packed(job.payload) else SOON_S)


def sentences(pauses: Pauses, jobs: Iterable[Job]) -> list[str]:
    """Why those of `jobs` that wait do, as far as pauses are the reason; each pause once."""
    found = {pause.id: pause for job in jobs if (pause := pauses.of(job)) is not None}
    return [pause.sentence() for pause in found.values()]
