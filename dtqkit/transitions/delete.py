"""Delete jobs that are over, with their dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from dtqkit.model.errors import StoreUnavailable
from dtqkit.store import Store
from dtqkit.store.documents import Document


async def delete_many(store: Store, docs: Sequence[Document]) -> int:
    """Delete those of these jobs that are over; returns how many."""
    deleted = await store.many.delete([doc["_id"] for doc in docs])
    dead = {doc["_id"]: doc["death_seq"] for doc in docs if doc["status"] == "failed" and "death_seq" in doc}
    if dead:
        with suppress(StoreUnavailable):  # recovery deletes them
            await store.dead.delete_many(dead)
    return deleted
