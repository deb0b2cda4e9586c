"""Schedules in asynchronous code: what an AsyncTaskQueue does with them, and their handles."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from dtqkit.client.async_handle import AsyncJobHandle, HandleQueue
from dtqkit.control import Control
from dtqkit.control.schedule_operations import (
    APPLY_SCHEDULES,
    BACKFILL_SCHEDULE,
    GET_SCHEDULE,
    PAUSE_SCHEDULE,
    REMOVE_SCHEDULE,
    RESUME_SCHEDULE,
    RUN_SCHEDULE,
    SCHEDULE,
    SCHEDULE_RUNS,
    SCHEDULE_TIMES,
    SCHEDULES,
)
from dtqkit.control.schedules import (
    MAX_SHOWN,
    Applied,
    Backfill,
    Backfilled,
    Declarations,
    SchedulePause,
    ScheduleRequest,
    ScheduleRuns,
    ScheduleTimes,
)
from dtqkit.model.jobs import Job
from dtqkit.model.plain import shown
from dtqkit.model.schedule_changes import check, check_reason, is_utf8, span_s
from dtqkit.model.schedule_errors import InvalidSchedule, ScheduleNotFound
from dtqkit.model.schedules import MAX_NAME, CatchUpRuns, Definition, Overlap, Schedule, next_run
from dtqkit.tasks.misuse import check_call
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.scheduled import check_options
from dtqkit.tasks.task import DEFAULTS, Call


class _Queue(HandleQueue, Protocol):
    """An AsyncTaskQueue, as far as its schedules need it."""

    registry: TaskRegistry


def definition(
    name: str,
    call: Call[Any],
    *,
    cron: str | None,
    every_s: float | None,
    tz: str,
    overlap: Overlap,
    catch_up: str | float,
    catch_up_runs: CatchUpRuns,
    jitter_s: float,
) -> Definition:
    """What these arguments define. Raises InvalidSchedule, InvalidCron or UnknownZone, which name the field."""
    options: dict[str, Any] = {}
    if call.options is not DEFAULTS:
        options = msgspec.to_builtins(call.options)  # without those that have their default
    wanted = Definition(
        name=name,
        task=call.task.name,
        payload=call.payload,
        options=options,
        cron=cron,
        every_s=every_s,
        tz=tz,
        overlap=overlap,
        catch_up_s=span_s("catch_up", catch_up),
        catch_up_runs=catch_up_runs,
        jitter_s=jitter_s,
    )
    check(wanted)
    check_options(name, options)
    every = None if every_s is None else float(every_s)
    return msgspec.structs.replace(wanted, every_s=every, jitter_s=float(jitter_s))


def check_named(name: str) -> str:
    """`name`, if a schedule can have it. Raises ScheduleNotFound, and InvalidSchedule for what is no text."""
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidSchedule("name", f"name is {shown(name)}; it is a text, such as 'nightly'")
    if not 1 <= len(name) <= MAX_NAME or "/" in name or not is_utf8(name):
        raise ScheduleNotFound(name[:MAX_NAME])
    return name


class SchedulingAsyncQueue:
    """What an AsyncTaskQueue does with schedules."""

    async def schedule(
        self: _Queue,
        name: str,
        call: Call[Any],
        *,
        cron: str | None = None,
        every_s: float | None = None,
        tz: str = "UTC",
        overlap: Overlap = "allow",
        catch_up: str | float = "1h",
        catch_up_runs: CatchUpRuns = "last",
        jitter_s: float = 0.0,
    ) -> AsyncScheduleHandle:
        """See TaskQueue.schedule."""
        check_call(call)
        times: dict[str, Any] = {"cron": cron, "every_s": every_s, "tz": tz, "jitter_s": jitter_s}
        late: dict[str, Any] = {"overlap": overlap, "catch_up": catch_up, "catch_up_runs": catch_up_runs}
        wanted = definition(name, call, **times, **late)
        self.registry.add(call.task)
        return AsyncScheduleHandle(self, await self.control.ask(SCHEDULE, wanted))

    async def schedules(self: _Queue) -> list[AsyncScheduleHandle]:
        """All schedules, by name."""
        return [AsyncScheduleHandle(self, one) for one in await self.control.ask(SCHEDULES)]

    async def schedule_of(self: _Queue, name: str) -> AsyncScheduleHandle:
        """The schedule of this name. Raises ScheduleNotFound."""
        return AsyncScheduleHandle(self, await self.control.ask(GET_SCHEDULE, ScheduleRequest(name=check_named(name))))

    async def apply_schedules(self: _Queue, *, prune: bool = False, force: bool = False) -> Applied:
        """Put the schedules that `scheduled` has declared into the record, as workers do when they start.

        `prune` removes those that this app has declared before and does not declare any more. `force` also puts back a
        definition that a newer one has replaced.
        """
        declared = self.registry.scheduled
        asked = Declarations(app=self.registry.declarer, schedules=tuple(declared), prune=prune, force=force)
        return await self.control.ask(APPLY_SCHEDULES, asked)


class AsyncScheduleHandle:
    """A schedule. `record` is what it was when it was last asked for: by `refresh()`, or by what changed it."""

    __slots__ = ("__weakref__", "_queue", "record")

    def __init__(self, queue: HandleQueue, record: Schedule) -> None:
        self._queue = queue
        self.record: Schedule = record

    @property
    def _control(self) -> Control:
        return self._queue.control

    @property
    def name(self) -> str:
        return self.record.name

    async def refresh(self) -> AsyncScheduleHandle:
        """Ask for the schedule as it is now. Raises ScheduleNotFound."""
        self.record = await self._control.ask(GET_SCHEDULE, ScheduleRequest(name=self.name))
        return self

    async def pause(self, reason: str = "") -> AsyncScheduleHandle:
        """Enqueue nothing until `resume`. Times in between are skipped, and counted."""
        asked = SchedulePause(name=self.name, reason=check_reason(reason))
        self.record = await self._control.ask(PAUSE_SCHEDULE, asked)
        return self

    async def resume(self) -> AsyncScheduleHandle:
        self.record = await self._control.ask(RESUME_SCHEDULE, ScheduleRequest(name=self.name))
        return self

    async def run_now(self) -> AsyncJobHandle[Any]:
        """Enqueue a job now, whatever `overlap` says, and also while it is paused."""
        job = await self._control.ask(RUN_SCHEDULE, ScheduleRequest(name=self.name))
        return AsyncJobHandle(self._queue, job)

    async def backfill(self, start: datetime, end: datetime) -> Backfilled:
        """Enqueue a job for each time from `start` to before `end` that has none. At most 1,000."""
        for field, when in (("start", start), ("end", end)):
            if not isinstance(when, datetime) or when.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidSchedule(
                    field, f"{field} is {shown(when)}; it is a datetime with a time zone, such as datetime.now(UTC)"
                )
        return await self._control.ask(BACKFILL_SCHEDULE, Backfill(name=self.name, start=start, end=end))

    async def remove(self) -> None:
        """Remove it; its jobs stay. One that code declares comes again when a worker starts."""
        self.record = await self._control.ask(REMOVE_SCHEDULE, ScheduleRequest(name=self.name))

    async def next_runs(self, count: int = 5) -> Sequence[datetime]:
        """The next times, without jitter, as long as nothing is changed; also of a paused one."""
        return await self._control.ask(SCHEDULE_TIMES, ScheduleTimes(name=self.name, count=_few("count", count)))

    async def runs(self, limit: int = 50) -> Sequence[Job]:
        """Its last jobs, the latest first."""
        return await self._control.ask(SCHEDULE_RUNS, ScheduleRuns(name=self.name, limit=_few("limit", limit)))

    def __repr__(self) -> str:
        return shown_as(self.record)


def shown_as(record: Schedule) -> str:
    """`<Schedule nightly: 0 3 * * * Europe/Berlin, next 2026-11-30 02:00 UTC>`"""
    times = f"every {record.every_s or 0:g} s" if record.cron is None else f"{record.cron} {record.tz}"
    at = next_run(record)
    state = "no next time" if at is None else f"next {at:%Y-%m-%d %H:%M:%S} UTC"
    if record.paused is not None:
        state = f"paused: {record.paused.reason}" if record.paused.reason else "paused"
    return f"<Schedule {record.name}: {times}, {state}>"


def _few(field: str, count: int) -> int:
    if not isinstance(count, int) or not 1 <= count <= MAX_SHOWN:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidSchedule(field, f"{field} is {shown(count)}; it is a number from 1 to {MAX_SHOWN}")
    return count
