"""Answers to questions about jobs, lanes, workers and counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from dtqkit.control import (
    NOTHING,
    AttemptRow,
    Health,
    HistoryQuery,
    JobQuery,
    JobRequest,
    JobsRequest,
    JobStatus,
    Log,
    Nothing,
    Page,
    Stats,
    StatsQuery,
    Totals,
    lean,
)
from dtqkit.control.operations import (
    DEAD_LETTERS,
    DEPTHS,
    GET_JOB,
    HEALTH,
    HISTORY,
    JOB_LOG,
    LIST_JOBS,
    SNAPSHOT,
    STATS,
    STATUSES,
    TASKS,
    TOTALS,
    WORKERS,
)
from dtqkit.direct import listing
from dtqkit.direct import stats as counting
from dtqkit.direct.parts import Parts, answers
from dtqkit.model.errors import InvalidQuery, JobNotFound, StoreUnavailable
from dtqkit.model.events import Depths, Heartbeat, ProgressEvent, Snapshot
from dtqkit.model.jobs import PRIORITIES, Job, is_job_id
from dtqkit.store.ids import object_id
from dtqkit.tasks.task import TaskInfo

#: Jobs that a snapshot shows.
RECENT: Final = 50

# -- jobs


@answers.to(GET_JOB)
async def get(parts: Parts, asked: JobRequest) -> Job:
    """The job; while it runs, with its progress and its log's tail as they are now."""
    job = await parts.lookups.get(asked.id)
    if job is None:
        raise JobNotFound(asked.id)
    (job,) = await _as_they_run(parts, [job])
    return job


async def _as_they_run(parts: Parts, jobs: Sequence[Job]) -> list[Job]:
    """`jobs`; those that run with what their attempts last showed, as far as it is known at once."""
    running = [job.id for job in jobs if job.status == "running"]
    if not running:
        return list(jobs)
    lives = await parts.lives.get(running)
    return [as_it_runs(job, lives[job.id]) if job.id in lives else job for job in jobs]


def as_it_runs(job: Job, live: ProgressEvent) -> Job:
    """A running job with what its attempt last showed."""
    if live.claim_number != job.claim_number:
        return job
    return msgspec.structs.replace(
        job,
        started_at=job.started_at or live.started_at,
        progress=live.progress,
        progress_message=live.message,
        log=live.log,
    )


@answers.to(STATUSES)
async def statuses(parts: Parts, asked: JobsRequest) -> tuple[JobStatus, ...]:
    await parts.open()
    docs = await parts.store.jobs.statuses([object_id(i) for i in asked.ids if is_job_id(i)])
    return tuple(JobStatus(str(doc["_id"]), doc["status"], doc["rev"]) for doc in docs)


@answers.to(LIST_JOBS)
async def jobs(parts: Parts, query: JobQuery) -> Page[Job]:
    await parts.open()
    page = await listing.page(parts.store, query)
    if query.brief:
        return page
    return msgspec.structs.replace(page, items=tuple(await _as_they_run(parts, page.items)))


@answers.to(DEAD_LETTERS)
async def dead_letters(parts: Parts, query: JobQuery) -> Page[Job]:
    if query.status not in (None, "failed"):
        raise InvalidQuery(f"dead letters are failed jobs; status is {query.status!r}")
    return await jobs(parts, msgspec.structs.replace(query, status="failed"))


@answers.to(JOB_LOG)
async def log(parts: Parts, asked: JobRequest) -> Log:
    """The kept lines; of a running job, its last ones as it shows them now."""
    job = await get(parts, asked)
    return Log(id=job.id, lines=job.log)


@answers.to(HISTORY)
async def history(parts: Parts, query: HistoryQuery) -> AsyncIterator[AttemptRow]:
    return listing.history(parts.store, parts.open, query)


# -- the queue


@answers.to(DEPTHS)
async def depths(parts: Parts, _: Nothing) -> Depths:
    """As Redis has them; while it is away, as they should be."""
    await parts.open()
    running, oldest = await parts.store.jobs.load()
    try:
        waiting = await parts.broker.depths()
    except StoreUnavailable:
        waiting = await _missed_depths(parts)
    age = (parts.store.now() - oldest).total_seconds() if oldest else None
    return msgspec.structs.replace(waiting, running=running, oldest_wait_s=max(0.0, age) if age is not None else None)


async def _missed_depths(parts: Parts) -> Depths:
    found = await parts.store.jobs.count_waiting()
    lanes = {lane: found.get(("pending", lane), 0) for lane in PRIORITIES}
    return Depths(**lanes, scheduled=sum(n for (status, _), n in found.items() if status == "scheduled"))


@answers.to(WORKERS)
async def workers(parts: Parts, _: Nothing) -> tuple[Heartbeat, ...]:
    await parts.open()
    return tuple(await parts.broker.workers())


@answers.to(TASKS)
async def tasks(parts: Parts, _: Nothing) -> tuple[TaskInfo, ...]:
    await parts.open()
    began = asyncio.get_running_loop().time()
    found = await parts.store.catalogue.all()
    parts.enqueuer.known.take(found, began)
    return tuple(found)


@answers.to(HEALTH)
async def health(parts: Parts, _: Nothing) -> Health:
    """Looked up at most once a second, however often it is asked."""
    return await parts.health.health()


@answers.to(SNAPSHOT)
async def snapshot(parts: Parts, _: Nothing) -> Snapshot:
    """The state; without workers while Redis is away, since only Redis knows them."""
    recent = await jobs(parts, JobQuery(limit=RECENT))
    waiting = await depths(parts, NOTHING)
    try:
        live = await workers(parts, NOTHING)
    except StoreUnavailable:
        live = ()
    return Snapshot(depths=waiting, workers=live, jobs=tuple(map(lean, recent.items)))


@answers.to(STATS)
async def stats(parts: Parts, query: StatsQuery) -> Stats:
    """Counted from the record, at the time of asking; see `direct.stats` for what is looked at."""
    waiting = await depths(parts, NOTHING)
    return await parts.stats.get(query.window_s, lambda: counting.stats(parts.store, waiting, query.window_s))


@answers.to(TOTALS)
async def totals(parts: Parts, _: Nothing) -> Totals:
    await parts.open()
    return await parts.totals.get(None, lambda: counting.totals(parts.store))
