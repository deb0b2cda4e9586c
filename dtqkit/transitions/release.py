"""Release: give back claims that a worker holds by mistake, and popped ids that it does not run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dtqkit.broker import Broker
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Released
from dtqkit.model.policy import SupportsRandom
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.store.fields import job_of
from dtqkit.store.settlements import Settlement
from dtqkit.transitions.announce import Ended
from dtqkit.transitions.places import member_of
from dtqkit.transitions.settle import publish, recorded

log = logging.getLogger("dtqkit.worker")


async def release_claims(broker: Broker, store: Store, docs: Sequence[Document], rng: SupportsRandom) -> None:
    """Give back those of these running jobs whose claims still hold them. Raises StoreUnavailable for MongoDB."""
    ends: list[Ended] = []
    for doc in docs:
        job = job_of(doc)
        change = decide(job, Released(None), rng)
        ends.append((job, Settlement(doc["_id"], doc["claim"], job.claim_number, change)))
    refused = await store.jobs.settle([settlement for _, settlement in ends])
    await publish(broker, store, recorded(ends, refused))


async def unpop(broker: Broker, members: Sequence[str]) -> None:
    """Put popped ids back to the front of their lanes, in this order. Raises StoreUnavailable."""
    await broker.unpop(members)


async def not_claimed(
    broker: Broker, *, not_due: Sequence[Document], later: Sequence[Document], in_s: float, front: Sequence[Document]
) -> set[str]:
    """List popped jobs that were not claimed: scheduled until they are due, `in_s` seconds from now, or at the front of
    their lanes. Returns the members of those that are not scheduled. Raises StoreUnavailable.
    """
    again = {member_of(doc): in_s * 1000 for doc in later}
    popped = [member_of(doc) for doc in front]
    if not_due:
        await broker.push({}, {member_of(doc): doc["due_at"].timestamp() * 1000 for doc in not_due})
    if again:
        await broker.put_back(again)
    if popped:
        await broker.unpop(popped)
    return {*again, *popped}
