"""Requeue a failed job: for a person, or automatically if the job itself may not be at fault."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.jobs import WAITING, Job
from dtqkit.model.unique_errors import DuplicateJob
from dtqkit.store import Store
from dtqkit.store.documents import Document, slot_of
from dtqkit.store.fields import job_of, jobs_of, whole
from dtqkit.store.ids import object_id
from dtqkit.store.unique import SlotTaken
from dtqkit.transitions.announce import announce

log = logging.getLogger("dtqkit.recovery")

#: Seconds between two automatic requeues: jobs that failed together do not run together.
SPACING_S: Final = 1.0


async def requeue(broker: Broker, store: Store, job: Job) -> Job | None:
    """Requeue the failed `job` with all counts at 0; None when it was requeued already.

    Raises DuplicateJob when it is unique and another job holds its slot.
    """
    try:
        doc = await store.jobs.requeue(object_id(job.id), job.death_seq)
    except SlotTaken:
        holder = await store.unique.holder(slot_of(job.task, job.unique_key or ""))
        if holder is not None:
            raise DuplicateJob(str(holder), _taken(job, str(holder))) from None
        doc = await store.jobs.requeue(object_id(job.id), job.death_seq)
    if doc is None:
        return None
    again = job_of(doc)
    with suppress(StoreUnavailable):  # recovery deletes it
        await store.dead.delete(doc["_id"], again.death_seq)
    await announce(broker, [again])
    return again


async def requeue_many(broker: Broker, store: Store, failed: Sequence[Document]) -> int:
    """The same for many; returns how many were requeued."""
    before = {str(doc["_id"]): doc for doc in failed}
    found = jobs_of(await store.many.requeue(failed))
    again = [job for job in found if job.status in WAITING and job.rev > whole(before[job.id].get("rev"))]
    if again:
        with suppress(StoreUnavailable):  # recovery deletes them
            dead = {object_id(job.id): whole(before[job.id].get("death_seq")) for job in again}
            await store.dead.delete_many(dead)
        await announce(broker, again)
    return len(again)


def _taken(job: Job, holder: str) -> str:
    until = "has started" if job.unique == "waiting" else "is over"
    return (
        f"job {job.id} is unique, and job {holder} has its key {job.unique_key!r} now: cancel that one, or requeue "
        f"this one when that one {until}"
    )


async def requeue_automatically(broker: Broker, store: Store, failed: Sequence[Document]) -> set[ObjectId]:
    """Requeue these failed jobs, SPACING_S apart. Returns the requeued ones; others may have been requeued before."""
    docs = await store.upkeep.recover(failed, SPACING_S)
    if not docs:
        return set()
    await store.dead.delete_many({doc["_id"]: whole(doc.get("death_seq")) for doc in docs})
    if (refused := await announce(broker, jobs_of(docs))) is not None:
        log.warning("%d requeued jobs will be listed once Redis takes writes: %s", len(docs), refused)
    return {doc["_id"] for doc in docs}
