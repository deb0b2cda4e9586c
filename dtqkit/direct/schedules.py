"""Answers to questions about schedules, and what a person changes about them."""

from __future__ import annotations

from datetime import datetime

from dtqkit.control.records import Nothing, Submission
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
    Applied,
    Backfill,
    Backfilled,
    Declarations,
    SchedulePause,
    ScheduleRequest,
    ScheduleRuns,
    ScheduleTimes,
)
from dtqkit.direct.parts import Parts, answers
from dtqkit.model.jobs import Job
from dtqkit.model.schedule_changes import check, check_reason
from dtqkit.model.schedule_errors import InvalidSchedule
from dtqkit.model.schedules import Definition, Schedule, next_times
from dtqkit.store.fields import jobs_of
from dtqkit.tasks.scheduled import check_options


@answers.to(SCHEDULES)
async def schedules(parts: Parts, _: Nothing) -> tuple[Schedule, ...]:
    await parts.open()
    return tuple(await parts.store.schedules.all())


@answers.to(SCHEDULE)
async def schedule(parts: Parts, wanted: Definition) -> Schedule:
    """Make or change it, after all checks of its times, its task and its payload."""
    wanted = _checked(wanted)
    await parts.open()
    await parts.enqueuer.check(Submission(task=wanted.task, payload=wanted.payload))
    return await parts.scheduling.put(wanted)


@answers.to(APPLY_SCHEDULES)
async def apply_schedules(parts: Parts, asked: Declarations) -> Applied:
    wanted = [_checked(one) for one in asked.schedules]
    names = [one.name for one in wanted]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidSchedule("name", f"schedule {twice!r} is declared twice by {asked.app}: give one another name")
    await parts.open()
    for one in wanted:
        await parts.enqueuer.check(Submission(task=one.task, payload=one.payload))
    return await parts.scheduling.apply(wanted, asked.app, prune=asked.prune, force=asked.force)


def _checked(wanted: Definition) -> Definition:
    check_options(check(wanted).name, wanted.options)
    return wanted


@answers.to(GET_SCHEDULE)
async def get_schedule(parts: Parts, asked: ScheduleRequest) -> Schedule:
    await parts.open()
    return await parts.scheduling.get(asked.name)


@answers.to(SCHEDULE_TIMES)
async def schedule_times(parts: Parts, asked: ScheduleTimes) -> tuple[datetime, ...]:
    """Also of a paused one: the times that it would have."""
    await parts.open()
    found = await parts.scheduling.get(asked.name)
    return tuple(next_times(found, await parts.scheduling.now(), asked.count))


@answers.to(SCHEDULE_RUNS)
async def schedule_runs(parts: Parts, asked: ScheduleRuns) -> tuple[Job, ...]:
    await parts.open()
    return tuple(jobs_of(await parts.store.schedules.jobs(asked.name, asked.limit)))


@answers.to(PAUSE_SCHEDULE)
async def pause_schedule(parts: Parts, asked: SchedulePause) -> Schedule:
    reason = check_reason(asked.reason)
    await parts.open()
    return await parts.scheduling.pause(asked.name, reason)


@answers.to(RESUME_SCHEDULE)
async def resume_schedule(parts: Parts, asked: ScheduleRequest) -> Schedule:
    await parts.open()
    return await parts.scheduling.resume(asked.name)


@answers.to(RUN_SCHEDULE)
async def run_schedule(parts: Parts, asked: ScheduleRequest) -> Job:
    await parts.open()
    return await parts.scheduling.run_now(asked.name)


@answers.to(BACKFILL_SCHEDULE)
async def backfill_schedule(parts: Parts, asked: Backfill) -> Backfilled:
    await parts.open()
    return await parts.scheduling.backfill(asked.name, asked.start, asked.end)


@answers.to(REMOVE_SCHEDULE)
async def remove_schedule(parts: Parts, asked: ScheduleRequest) -> Schedule:
    await parts.open()
    return await parts.scheduling.remove(asked.name)
