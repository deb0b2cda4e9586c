"""Cancel: what waits at once; what runs is marked, and its worker stops it."""

from __future__ import annotations

from collections.abc import Sequence

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.model.jobs import Job
from dtqkit.store import Store
from dtqkit.store.documents import to_job
from dtqkit.transitions.announce import announce


async def cancel(broker: Broker, store: Store, job: ObjectId) -> Job | None:
    """None when it is over or does not exist. What Redis does not take now, recovery asks for again."""
    doc = await store.jobs.cancel(job)
    if doc is None:
        return None
    cancelled = to_job(doc)
    await announce(broker, [cancelled])
    return cancelled


async def cancel_waiting(broker: Broker, store: Store, jobs: Sequence[ObjectId]) -> int:
    """Of these, cancel those that wait although their cancellation was asked for; returns how many."""
    count = await store.upkeep.cancel_waiting(jobs)
    if count:
        docs = await store.jobs.find(jobs, heavy=False, payload=False)
        await announce(broker, [to_job(doc) for doc in docs if doc["status"] == "cancelled"])
    return count


async def ask_to_stop_again(broker: Broker, jobs: Sequence[str]) -> None:
    """Running jobs that are to be cancelled and may not have been heard of. Raises StoreUnavailable."""
    await broker.ask_to_stop(jobs)
