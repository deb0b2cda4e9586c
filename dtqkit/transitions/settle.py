"""Settle: record how attempts ended, for as long as MongoDB refuses it, then announce it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from dtqkit.broker import Broker
from dtqkit.model.errors import DocumentRefused, StoreUnavailable
from dtqkit.model.jobs import JobError
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Failure
from dtqkit.model.policy import SupportsRandom
from dtqkit.store import Store
from dtqkit.support.formatting import storable
from dtqkit.transitions.announce import Ended, announce_ends
from dtqkit.transitions.deadletter import dead_letter
from dtqkit.transitions.followup import follow_up

log = logging.getLogger("dtqkit.worker")


#: Longest pause in seconds between two tries while MongoDB refuses.
MAX_PAUSE_S: Final = 2.0
#: Tries of one end with errors that are caused neither by it nor by MongoDB.
MAX_BROKEN: Final = 6


async def record(store: Store, ends: Sequence[Ended], rng: SupportsRandom) -> list[Ended]:
    """Write these ends, however long MongoDB refuses. Returns those that are recorded, as they were written.

    An end that cannot be written is found by halves, so that no other waits for it.
    """
    pause_s = 0.0
    stripped = False
    broken = 0
    while True:
        try:
            return recorded(ends, await store.jobs.settle([settlement for _, settlement in ends]))
        except StoreUnavailable as error:
            if not pause_s:
                log.warning("%d results are kept until MongoDB accepts them: %s", len(ends), error)
        except Exception as error:
            if len(ends) > 1:
                half = len(ends) // 2
                parts = await asyncio.gather(record(store, ends[:half], rng), record(store, ends[half:], rng))
                return [written for part in parts for written in part]
            job = ends[0][0].id
            known = isinstance(error, DocumentRefused)
            broken += not known
            if stripped if known else broken == MAX_BROKEN:
                # It is not held from now on: once its lease is over, it counts as lost and may run again.
                text = "the result of job %s cannot be recorded; the job is recovered when its lease expires: %s"
                log.error(text, job, error, exc_info=not known)  # noqa: TRY400 - of a refusal, no traceback of ours
                return []
            if known:
                log.error("the result of job %s cannot be recorded; recording it as failed: %s", job, error)  # noqa: TRY400
                reason = JobError("invalid_result", type(error).__name__, storable(str(error)[:500]))
                ends, stripped = [as_failure(ends[0], reason, rng)], True
                continue
        pause_s = min(MAX_PAUSE_S, pause_s * 2 or 0.05)
        await asyncio.sleep(pause_s)


def recorded(ends: Sequence[Ended], refused: Collection[int]) -> list[Ended]:
    """These ends without those at `refused`, whose claims no longer held their jobs."""
    if not refused:
        return list(ends)
    log.warning("%d results were not recorded: their jobs were re-queued or had ended already", len(refused))
    return [end for i, end in enumerate(ends) if i not in refused]


def as_failure(end: Ended, error: JobError, rng: SupportsRandom) -> Ended:
    """The end to record for one that the record refuses: a failure with `error`."""
    job, settlement = end
    change = decide(job, Failure(error, settlement.change.run_ms), rng, settlement.change.start_ms)
    return job, msgspec.structs.replace(settlement, change=change, attempt_log=None)


async def publish(broker: Broker, store: Store, ends: Sequence[Ended]) -> None:
    """Announce recorded ends, and write dead letters. If a store is unreachable, recovery does it later."""
    if await announce_ends(broker, ends, store.now().timestamp() * 1000) is not None:
        log.debug("events for %d results were not published: Redis is unreachable", len(ends))
    if back := [s for job, s in ends if s.change.ending == "declined" and job.unique == "waiting"]:
        with suppress(StoreUnavailable):  # without its slot it runs all the same
            await store.unique.take_back([(settlement.id, settlement.claim_number) for settlement in back])
    if dead := [settlement.id for _, settlement in ends if settlement.change.status == "failed"]:
        try:
            await dead_letter(store, dead)
        except StoreUnavailable as error:
            log.warning("recovery will write %d dead letters: %s", len(dead), error)
    if followed := [settlement.id for _, settlement in ends if settlement.change.followup is not None]:
        await follow_up(broker, store, followed)
