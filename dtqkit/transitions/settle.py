"""Settle: record how attempts ended, then announce it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

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
    """Write these ends. Returns those that are recorded: the claims of the others no longer held their jobs.

    Raises StoreUnavailable when MongoDB does not take them now, DocumentRefused when it will never take one of them.
    """
    taken = await store.jobs.settle([settlement for _, settlement in ends])
    if not taken:
        return list(ends)
    log.warning("%d results were not recorded: their jobs were re-queued or had ended already", len(taken))
    return [end for i, end in enumerate(ends) if i not in taken]


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
            await store.unique.take_back([(settlement.id, settlement.token) for settlement in back])
    if dead := [settlement.id for _, settlement in ends if settlement.change.status == "failed"]:
        try:
            await dead_letter(store, dead)
        except StoreUnavailable as error:
            log.warning("recovery will write %d dead letters: %s", len(dead), error)
