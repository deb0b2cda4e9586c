"""What a queue counts: windows, minutes, totals, and forecasts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from dtqkit.model.jobs import AnyPriority


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The window, in seconds."""

    window_s: Annotated[float, msgspec.Meta(ge=10, le=7 * 86_400)] = 300.0


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
    """When a lane will be empty, in seconds from now: an estimate and its 90 % interval; None: cannot be estimated."""

    lane: AnyPriority
    waiting: int
    drain_s: float | None
    low_s: float | None
    high_s: float | None


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """One minute, from `at`: counts, and what waited in each lane and ran shortly after it (None: not measured)."""

    at: datetime
    submitted: int
    completed: int
    failed: int
    cancelled: int
    waiting: dict[AnyPriority, int] | None
    running: int | None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The `window_s` seconds before `at`, counted from the record; and a forecast for the jobs that wait.

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
    priority: AnyPriority
    submitted: int
    completed: int
    failed: int
    cancelled: int
    #: Submits that found a unique job instead of making one.
    duplicates: int = 0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Counts until `at` that only grow, whichever process is asked. Of very many tasks, the last share one name."""

    at: datetime
    totals: tuple[Total, ...]
