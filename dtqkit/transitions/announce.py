"""Put the ids of changed jobs where they belong in Redis, and publish what changed.

The record has the change already, so an unreachable Redis is not an error: it is returned, for the caller's log. Ids
that Redis refuses are listed once it takes writes (`broker.unlisted`), or by recovery; events are lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from dtqkit.broker import Broker
from dtqkit.broker.background import BackgroundCalls
from dtqkit.broker.keys import member
from dtqkit.model.errors import NamespaceTaken, StoreUnavailable
from dtqkit.model.events import JobEvent, encode_batch, event_of, job_event
from dtqkit.model.jobs import WAITING, Job, Priority, Status
from dtqkit.model.outcomes import Change, wait_ms
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.store.settlements import Settlement
from dtqkit.transitions.places import Places, lane_of_job, name_of, places_of

log = logging.getLogger("dtqkit.queue")

#: A job as it was claimed, and the end of its attempt.
Ended: TypeAlias = tuple[Job, Settlement]

#: By how much the end of an attempt raises `rev`; see `Job.rev`.
END_REVS: Final = 2
#: Maximum number of new jobs per group in events; a board gets more from its next query.
MAX_ANNOUNCED: Final = 100
#: Maximum wait for a push of new jobs, in seconds, and how long submits do not wait at all after that.
PUSH_S: Final = 2.0
#: Seconds after which a worker tries to claim jobs that may have been stored.
DOUBT_S: Final = 2.0


def event_of_end(job: Job, change: Change) -> JobEvent:
    """The event of `change`. If the job was cancelled in between, only the record has that."""
    status: Status = "cancelled" if change.ending == "cancelled" else change.status
    error = change.error if change.ending != "snoozed" else None
    return job_event(job, job.rev + END_REVS, status, error, wait_ms(job, change), change.run_ms)


async def announce(broker: Broker, jobs: Sequence[Job]) -> StoreUnavailable | None:
    """List waiting jobs and request the stop of running ones, as the record has them after a change; publish."""
    ready, later = places_of(job for job in jobs if job.status in WAITING)
    events = encode_batch(map(event_of, jobs))
    try:
        await broker.ask_to_stop(job.id for job in jobs if job.status == "running" and job.cancel_requested)
        if ready or later:
            await broker.push(ready, later, events)
        else:
            await broker.publish(events)
    except StoreUnavailable as error:
        return error
    return None


async def publish_changes(broker: Broker, jobs: Sequence[Job]) -> None:
    """Publish changes that leave each id where it is."""
    if jobs:
        with suppress(StoreUnavailable):
            await broker.publish(encode_batch(map(event_of, jobs)))


async def unlist(broker: Broker, jobs: Iterable[Job]) -> None:
    """Take ids out of where these waiting jobs were listed. What is not found, or not now, a claim drops."""
    lanes: dict[Priority, set[str]] = {}
    scheduled: list[str] = []
    for job in jobs:
        if job.status == "pending":
            lanes.setdefault(lane_of_job(job), set()).add(job.id)
        else:
            scheduled.append(name_of(job))
    parked = [member(lane, job_id) for lane, ids in lanes.items() for job_id in ids]
    with suppress(StoreUnavailable):
        if scheduled or parked:
            await broker.parking.unschedule(scheduled=scheduled, parked=parked)
        for lane, ids in lanes.items():
            await broker.parking.unlist(lane, ids)


async def announce_ends(broker: Broker, ends: Sequence[Ended], now_ms: float) -> StoreUnavailable | None:
    """Recorded ends: jobs that were given back go to the front of their lanes, retries are scheduled."""
    front: dict[str, float] = {}
    later: dict[str, float] = {}
    for job, settlement in ends:
        change = settlement.change
        if change.status == "pending" and change.ending != "cancelled":
            front[name_of(job)] = 0.0
        elif change.status == "scheduled":
            later[name_of(job)] = now_ms + change.delay_s * 1000
    events = encode_batch([event_of_end(job, settlement.change) for job, settlement in ends])
    refused = None
    try:
        await broker.push({}, later, events)
    except StoreUnavailable as error:
        refused = error
    if front:
        try:
            await broker.put_back(front)
        except StoreUnavailable as error:
            refused = error
    return refused


async def announce_losses(broker: Broker, losses: Sequence[tuple[Job, Change]]) -> StoreUnavailable | None:
    """Lost jobs: they go to the front of their lanes, after their delay."""
    front = {name_of(job): change.delay_s * 1000 for job, change in losses if change.status in WAITING}
    events = encode_batch([event_of_end(job, change) for job, change in losses])
    try:
        if front:
            await broker.put_back(front)
        await broker.publish(events)
    except StoreUnavailable as error:
        return error
    return None


async def relist(broker: Broker, places: Places) -> None:
    """List waiting jobs that are missing in Redis or have a wrong score. Raises StoreUnavailable."""
    if places.ready or places.later:
        await broker.push(*places)


class NewJobs:
    """Announces jobs that have just been submitted. A submit waits at most PUSH_S for Redis; after a failure, submits
    do not wait for as long."""

    def __init__(self, broker: Broker, store: Store) -> None:
        self._broker = broker
        self._store = store
        self._back_at = float("-inf")
        self._pushes = BackgroundCalls()

    async def announce(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        places = places_of(jobs)
        now = asyncio.get_running_loop().time()
        if now < self._back_at or self._pushes.late:
            self._broker.push_later(*places)
            return
        events = encode_batch([event_of(job) for job in jobs[-MAX_ANNOUNCED:]])
        try:
            await self._pushes.within(PUSH_S, self._broker.push(*places, events))
        except (StoreUnavailable, TimeoutError) as error:
            log.warning(
                "%s safe in MongoDB, and %s: %s",
                "the job is" if len(jobs) == 1 else f"{len(jobs):,} jobs are",
                "not listed" if isinstance(error, NamespaceTaken) else "will be listed once Redis takes writes",
                str(error) or f"no answer within {PUSH_S:g} s",
            )
            self._back_at = asyncio.get_running_loop().time() + PUSH_S

    async def list_doubtful(self, docs: Iterable[Document]) -> None:
        """List jobs that may or may not be stored: if they are, they would otherwise wait for the next audit."""
        at_ms = (self._store.now().timestamp() + DOUBT_S) * 1000
        later = {member(d["priority"], str(d["_id"])): at_ms for d in docs if d["status"] == "pending"}
        try:
            await self._pushes.within(PUSH_S, self._broker.push({}, later))
        except (StoreUnavailable, TimeoutError):
            pass

    async def close(self) -> None:
        """Wait for pushes in progress."""
        await self._pushes.close()
