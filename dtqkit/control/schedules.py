"""What is asked about schedules, and what is answered, besides the schedules themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec

from dtqkit.model.schedules import MAX_NAME, Definition

MAX_SHOWN: Final = 200

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Shown = Annotated[int, msgspec.Meta(ge=1, le=MAX_SHOWN)]
#: With an offset from UTC.
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class ScheduleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One schedule."""

    name: Name


class SchedulePause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Pause one, and say why."""

    name: Name
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class ScheduleTimes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The next times of one."""

    name: Name
    count: Shown = 5


class ScheduleRuns(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The last jobs of one."""

    name: Name
    limit: Shown = 50


class Backfill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The times from `start` to before `end`."""

    name: Name
    start: Moment
    end: Moment


class Backfilled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many times there were, how many jobs were enqueued for them, and how many had one already."""

    times: int
    enqueued: int
    found: int
    #: Times without a job: the task is unique, and another job holds the key.
    skipped: int = 0


class Declarations(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """All schedules that an app declares in its code."""

    app: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    schedules: Annotated[tuple[Definition, ...], msgspec.Meta(max_length=1000)]
    #: Remove those that the app has declared before and does not declare any more.
    prune: bool = False
    #: Also put back a definition that a newer one has replaced.
    force: bool = False


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for the schedules that an app declares, by name."""

    made: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    #: A newer definition is in force.
    older: tuple[str, ...] = ()
    #: Why others could not be put into the record.
    refused: dict[str, str] = {}
    removed: tuple[str, ...] = ()
