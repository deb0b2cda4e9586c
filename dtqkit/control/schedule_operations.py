"""The rows of the table of operations that are about schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from dtqkit.control.operations import OPERATIONS
from dtqkit.control.records import Nothing
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
from dtqkit.control.table import Operation
from dtqkit.model.jobs import Job
from dtqkit.model.schedules import Definition, Schedule

SCHEDULES: Final = OPERATIONS.add(
    Operation(
        name="schedules",
        path="/schedules",
        summary="Schedules, by name.",
        request=Nothing,
        response=tuple[Schedule, ...],
    )
)

SCHEDULE: Final = OPERATIONS.add(
    Operation(
        name="schedule",
        method="POST",
        path="/schedules",
        scope="write",
        summary="Make a schedule, or change the one of this name.",
        request=Definition,
        response=Schedule,
    )
)

APPLY_SCHEDULES: Final = OPERATIONS.add(
    Operation(
        name="apply_schedules",
        method="POST",
        path="/schedule-declarations",
        scope="write",
        summary="Put the schedules that an app declares into the record.",
        request=Declarations,
        response=Applied,
    )
)

GET_SCHEDULE: Final = OPERATIONS.add(
    Operation(
        name="get_schedule",
        path="/schedules/{name}",
        summary="One schedule.",
        request=ScheduleRequest,
        response=Schedule,
    )
)

SCHEDULE_TIMES: Final = OPERATIONS.add(
    Operation(
        name="schedule_times",
        path="/schedules/{name}/next",
        summary="The next times of a schedule.",
        request=ScheduleTimes,
        response=tuple[datetime, ...],
    )
)

SCHEDULE_RUNS: Final = OPERATIONS.add(
    Operation(
        name="schedule_runs",
        path="/schedules/{name}/runs",
        summary="The last jobs of a schedule, the latest first.",
        request=ScheduleRuns,
        response=tuple[Job, ...],
    )
)

PAUSE_SCHEDULE: Final = OPERATIONS.add(
    Operation(
        name="pause_schedule",
        method="POST",
        path="/schedules/{name}/pause",
        scope="write",
        summary="Pause a schedule, and say why.",
        request=SchedulePause,
        response=Schedule,
    )
)

RESUME_SCHEDULE: Final = OPERATIONS.add(
    Operation(
        name="resume_schedule",
        method="POST",
        path="/schedules/{name}/resume",
        scope="write",
        summary="Resume a paused schedule.",
        request=ScheduleRequest,
        response=Schedule,
    )
)

RUN_SCHEDULE: Final = OPERATIONS.add(
    Operation(
        name="run_schedule",
        method="POST",
        path="/schedules/{name}/run",
        scope="write",
        summary="Enqueue a job of a schedule now.",
        request=ScheduleRequest,
        response=Job,
    )
)

BACKFILL_SCHEDULE: Final = OPERATIONS.add(
    Operation(
        name="backfill_schedule",
        method="POST",
        path="/schedules/{name}/backfill",
        scope="write",
        summary="Enqueue the jobs of past times that have none.",
        request=Backfill,
        response=Backfilled,
    )
)

REMOVE_SCHEDULE: Final = OPERATIONS.add(
    Operation(
        name="remove_schedule",
        method="POST",
        path="/schedules/{name}/remove",
        scope="write",
        summary="Remove a schedule; its jobs stay.",
        request=ScheduleRequest,
        response=Schedule,
    )
)
