"""What a person changes about jobs: cancel and requeue."""

from __future__ import annotations

from dtqkit.control import DeadLetterQuery, JobRequest, Requeued
from dtqkit.control.operations import CANCEL, REQUEUE, REQUEUE_DEAD
from dtqkit.direct import listing
from dtqkit.direct.look import get
from dtqkit.direct.parts import Parts, answers
from dtqkit.errors import JobConflict, StoreUnavailable
from dtqkit.events import encode_batch, event_of
from dtqkit.jobs import Job
from dtqkit.store.documents import object_id, to_job


@answers.to(CANCEL)
async def cancel(parts: Parts, asked: JobRequest) -> Job:
    """A waiting job is cancelled at once; a running one is marked, and stopped within two beats.

    Raises JobConflict when it is over already.
    """
    await parts.open()
    doc = await parts.store.jobs.cancel(object_id(asked.id))
    if doc is None:
        job = await get(parts, asked)
        raise JobConflict(f"job {asked.id} is {job.status}: it cannot be cancelled any more")
    job = to_job(doc)
    try:
        if job.status == "running":
            await parts.broker.ask_to_stop([job.id])
        await parts.broker.publish(encode_batch([event_of(job)]))
    except StoreUnavailable:
        pass  # the leader asks again with its next survey
    return job


@answers.to(REQUEUE)
async def requeue(parts: Parts, asked: JobRequest) -> Job:
    """Requeue a failed job. Raises JobConflict when it is not failed, or somebody else just did."""
    job = await get(parts, asked)
    if job.status != "failed":
        raise JobConflict(f"job {asked.id} is {job.status}: only a failed job can be requeued")
    again = await _requeue(parts, job)
    if again is None:
        raise JobConflict(f"job {asked.id} was requeued by somebody else")
    return again


async def _requeue(parts: Parts, job: Job) -> Job | None:
    doc = await parts.store.jobs.requeue(object_id(job.id), job.death_seq)
    if doc is None:
        return None
    again = to_job(doc)
    try:
        await parts.store.dead.delete(doc["_id"], job.death_seq)
        await parts.broker.push({again.priority: [again.id]}, events=encode_batch([event_of(again)]))
    except StoreUnavailable:
        pass  # it is requeued: recovery lists it and deletes its dead letter
    return again


@answers.to(REQUEUE_DEAD)
async def requeue_dead(parts: Parts, query: DeadLetterQuery) -> Requeued:
    await parts.open()
    matched = await listing.dead_matching(parts.store, query)
    if query.dry_run:
        return Requeued(matched=len(matched), requeued=0)
    requeued = 0
    for job in matched:
        requeued += await _requeue(parts, job) is not None
    return Requeued(matched=len(matched), requeued=requeued)
