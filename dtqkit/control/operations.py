"""The table of operations that a face may ask of a queue, a row each.

Calls, the remote client, the routes, the OpenAPI document and the tests of scopes are all made from it. How to add one:
docs/internals/add-an-operation.md. Those of schedules stand in `schedule_operations`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final, cast

import msgspec

from dtqkit.control.queries import AttemptRow, DeadLetterQuery, HistoryQuery, JobQuery, columns_of
from dtqkit.control.records import (
    MAX_BATCH,
    BatchItem,
    Health,
    JobRequest,
    JobsRequest,
    JobStatus,
    Log,
    Nothing,
    Page,
    Requeued,
    Submission,
)
from dtqkit.control.statistics import Stats, StatsQuery, Totals
from dtqkit.control.table import Lines, Operation, Table
from dtqkit.model.events import Depths, Heartbeat, Snapshot
from dtqkit.model.jobs import Job
from dtqkit.tasks.task import TaskInfo

OPERATIONS: Final = Table()

SUBMIT: Final = OPERATIONS.add(
    Operation(
        name="submit",
        method="POST",
        path="/jobs",
        scope="write",
        summary="Submit a job.",
        request=Submission,
        response=Job,
        status=201,
        created=lambda job: job.id,
    )
)

SUBMIT_MANY: Final = OPERATIONS.add(
    Operation(
        name="submit_many",
        method="POST",
        path="/jobs/batch",
        scope="write",
        summary="Submit up to 1,000 jobs; each is accepted or refused by itself.",
        request=cast(  # how many one request may have is for HTTP alone, which the type of a call does not say
            "type[tuple[Submission, ...]]",
            Annotated[tuple[Submission, ...], msgspec.Meta(min_length=1, max_length=MAX_BATCH)],
        ),
        response=tuple[BatchItem, ...],
    )
)

LIST_JOBS: Final = OPERATIONS.add(
    Operation(
        name="jobs",
        path="/jobs",
        summary="Jobs, newest first.",
        request=JobQuery,
        response=Page[Job],
    )
)

DEPTHS: Final = OPERATIONS.add(
    Operation(
        name="depths",
        path="/jobs/queue-depths",
        summary="How many jobs wait in each lane.",
        request=Nothing,
        response=Depths,
    )
)

DEAD_LETTERS: Final = OPERATIONS.add(
    Operation(
        name="dead_letters",
        path="/jobs/dead-letter/list",
        summary="Jobs that failed for good.",
        request=JobQuery,
        response=Page[Job],
    )
)

REQUEUE_DEAD: Final = OPERATIONS.add(
    Operation(
        name="requeue_dead",
        method="POST",
        path="/jobs/dead-letter/requeue",
        scope="write",
        summary="Requeue dead letters.",
        request=DeadLetterQuery,
        response=Requeued,
    )
)

GET_JOB: Final = OPERATIONS.add(
    Operation(
        name="get",
        path="/jobs/{id}",
        summary="One job with its attempts, progress, log's tail, result or error.",
        request=JobRequest,
        response=Job,
    )
)

JOB_LOG: Final = OPERATIONS.add(
    Operation(
        name="log",
        path="/jobs/{id}/logs",
        summary="All kept log lines of a job's last attempt.",
        request=JobRequest,
        response=Log,
    )
)

REQUEUE: Final = OPERATIONS.add(
    Operation(
        name="requeue",
        method="POST",
        path="/jobs/{id}/requeue",
        scope="write",
        summary="Requeue a failed job.",
        request=JobRequest,
        response=Job,
    )
)

CANCEL: Final = OPERATIONS.add(
    Operation(
        name="cancel",
        method="POST",
        path="/jobs/{id}/cancel",
        scope="write",
        summary="Cancel a waiting job, or ask a running one to stop.",
        request=JobRequest,
        response=Job,
        accepted_when=lambda job: job.status == "running",
    )
)

TASKS: Final = OPERATIONS.add(
    Operation(
        name="tasks",
        path="/tasks",
        summary="Registered tasks with the JSON Schema of their payload.",
        request=Nothing,
        response=tuple[TaskInfo, ...],
    )
)

HISTORY: Final = OPERATIONS.add(
    Operation(
        name="history",
        path="/attempts",
        summary="History as NDJSON, a line an attempt.",
        request=HistoryQuery,
        response=cast("type[AsyncIterator[AttemptRow]]", AsyncIterator),  # a Protocol is no `type` to a type checker
        streams=Lines(row=AttemptRow, each="an attempt", fields=columns_of),
    )
)

WORKERS: Final = OPERATIONS.add(
    Operation(
        name="workers",
        path="/workers",
        summary="Live workers.",
        request=Nothing,
        response=tuple[Heartbeat, ...],
    )
)

STATS: Final = OPERATIONS.add(
    Operation(
        name="stats",
        path="/stats",
        summary="Counts, waits and runs of a window, the last minutes, and a forecast to drain.",
        request=StatsQuery,
        response=Stats,
    )
)

TOTALS: Final = OPERATIONS.add(
    Operation(
        name="totals",
        path="/stats/totals",
        summary="Jobs that were submitted and that ended since the record began, by task and priority.",
        request=Nothing,
        response=Totals,
    )
)

HEALTH: Final = OPERATIONS.add(
    Operation(
        name="health",
        path="/health",
        scope="open",
        summary="Whether jobs can be accepted and run.",
        request=Nothing,
        response=Health,
        may_be_down=lambda health: health.status in ("down", "stopping"),
    )
)

# -- What a queue asks for itself: they have no route, so they are not in the table.

#: The jobs that exist, in no particular order.
RECORDS: Final = Operation(name="records", request=JobsRequest, response=tuple[Job, ...])
#: Of those that exist, in no particular order: some 60 bytes a job, however large it is.
STATUSES: Final = Operation(name="statuses", request=JobsRequest, response=tuple[JobStatus, ...])
#: What a board shows first.
SNAPSHOT: Final = Operation(name="snapshot", request=Nothing, response=Snapshot)
