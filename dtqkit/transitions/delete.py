"""Delete jobs that are over, with their dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from dtqkit.model.errors import StoreUnavailable
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.store.fields import whole


async def delete_many(store: Store, docs: Sequence[Document]) -> int:
    """Delete those of these jobs that are over; returns how many. Those that stay keep their dead letters."""
    ids = [doc["_id"] for doc in docs]
    deleted = await store.many.delete(ids)
    dead = {doc["_id"]: whole(doc["death_seq"]) for doc in docs if "death_seq" in doc}
    if dead:
        with suppress(StoreUnavailable):  # recovery deletes them
            if deleted < len(ids):
                kept = {doc["_id"] for doc in await store.jobs.statuses(dead)}
                dead = {job: seq for job, seq in dead.items() if job not in kept}
            await store.dead.delete_many(dead)
    return deleted
