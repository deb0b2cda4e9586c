"""Dead letters: a projection of the jobs that failed for good."""

from __future__ import annotations

from collections.abc import Sequence

from bson import ObjectId

from dtqkit.store import Store


async def dead_letter(store: Store, jobs: Sequence[ObjectId]) -> None:
    """Write the dead letters of jobs that have just failed; recovery writes those that are missing."""
    docs = await store.jobs.find(jobs, heavy=False)
    await store.dead.project([doc for doc in docs if doc.get("status") == "failed"])
