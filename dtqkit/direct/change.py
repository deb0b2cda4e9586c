"""What a person changes about jobs: cancel and requeue."""

from __future__ import annotations

from contextlib import suppress

from dtqkit.control import DeadLetterQuery, JobRequest, Requeued
from dtqkit.control.operations import CANCEL, REQUEUE, REQUEUE_DEAD
from dtqkit.direct import listing
from dtqkit.direct.look import get
from dtqkit.direct.parts import Parts, answers
from dtqkit.model.errors import JobConflict
from dtqkit.model.jobs import Job
from dtqkit.model.unique_errors import DuplicateJob
from dtqkit.store.ids import object_id
from dtqkit.transitions.cancel import cancel as cancel_job
from dtqkit.transitions.requeue import requeue as requeue_job


@answers.to(CANCEL)
async def cancel(parts: Parts, asked: JobRequest) -> Job:
    """A waiting job is cancelled at once; a running one is marked, and stopped within two beats.

    Raises JobConflict when it is over already.
    """
    await parts.open()
    cancelled = await cancel_job(parts.broker, parts.store, object_id(asked.id))
    if cancelled is None:
        job = await get(parts, asked)
        raise JobConflict(f"job {asked.id} is {job.status}: it cannot be cancelled any more")
    return cancelled


@answers.to(REQUEUE)
async def requeue(parts: Parts, asked: JobRequest) -> Job:
    """Requeue a failed job.

    Raises JobConflict when it is not failed, when somebody else just did, and when another job has its unique key.
    """
    job = await get(parts, asked)
    if job.status != "failed":
        raise JobConflict(f"job {asked.id} is {job.status}: only a failed job can be requeued")
    again = await requeue_job(parts.broker, parts.store, job)
    if again is None:
        raise JobConflict(f"job {asked.id} was requeued by somebody else")
    return again


@answers.to(REQUEUE_DEAD)
async def requeue_dead(parts: Parts, query: DeadLetterQuery) -> Requeued:
    await parts.open()
    matched = await listing.dead_matching(parts.store, query)
    if query.dry_run:
        return Requeued(matched=len(matched), requeued=0)
    requeued = 0
    for job in matched:
        with suppress(DuplicateJob):  # another job of its key is there
            requeued += await requeue_job(parts.broker, parts.store, job) is not None
    return Requeued(matched=len(matched), requeued=requeued)
