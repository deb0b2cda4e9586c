"""Settle: record how attempts ended, and then announce it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from dtqkit.broker import Broker
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.jobs import JobError
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Failure
from dtqkit.model.policy import SupportsRandom
from dtqkit.store import Store
from dtqkit.transitions.announce import Ended, announce_ends
from dtqkit.transitions.deadletter import dead_letter

log = logging.getLogger("dtqkit.worker")


async def record(store: Store, ends: Sequence[Ended]) -> list[Ended]:
    """Write them once. Returns those that are recorded: the others' claims held their jobs no more.

    Raises StoreUnavailable when MongoDB does not take them now, DocumentRefused when it will never take one of them.
    """
    taken = await store.jobs.settle([settlement for _, settlement in ends])
    if not taken:
        return list(ends)
    log.warning("%d ends were not recorded: the jobs had been taken away or were over", len(taken))
    return [end for i, end in enumerate(ends) if i not in taken]


def instead(end: Ended, error: JobError, rng: SupportsRandom) -> Ended:
    """For an end that the record does not take: that the job failed by `error`."""
    job, settlement = end
    change = decide(job, Failure(error, settlement.change.run_ms), rng, settlement.change.start_ms)
    return job, msgspec.structs.replace(settlement, change=change, trail=None)


async def publish(broker: Broker, store: Store, ends: Sequence[Ended]) -> None:
    """Announce what is recorded. The record has it: whatever store is away, recovery does what is left out here."""
    if await announce_ends(broker, ends, store.now().timestamp() * 1000) is not None:
        log.debug("events for %d ends were not published: Redis is unreachable", len(ends))
    if dead := [settlement.id for _, settlement in ends if settlement.change.status == "failed"]:
        try:
            await dead_letter(store, dead)
        except StoreUnavailable as error:
            log.warning("%d dead letters are left to the recovery: %s", len(dead), error)
