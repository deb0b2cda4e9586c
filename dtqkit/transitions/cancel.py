"""Cancel a waiting job at once; mark a running one, which its worker then stops."""

from __future__ import annotations

from collections.abc import Sequence

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.model.jobs import Job
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.store.fields import job_of, jobs_of, whole
from dtqkit.transitions.announce import announce


async def cancel(broker: Broker, store: Store, job: ObjectId) -> Job | None:
    """None when the job has ended or does not exist. If Redis is unreachable, recovery repeats the request."""
    doc = await store.jobs.cancel(job)
    if doc is None:
        return None
    cancelled = job_of(doc)
    await announce(broker, [cancelled])
    return cancelled


async def cancel_many(broker: Broker, store: Store, docs: Sequence[Document]) -> list[Job]:
    """The same for many; returns those that were changed. Their ids stay listed: see `announce.unlist`."""
    found = await store.many.cancel(docs)
    before = {str(doc["_id"]): whole(doc.get("rev")) for doc in docs}
    changed = [job for job in jobs_of(found) if job.cancel_requested and job.rev > before[job.id]]
    if changed:
        await announce(broker, changed)
    return changed


async def cancel_waiting(broker: Broker, store: Store, jobs: Sequence[ObjectId]) -> int:
    """Cancel those of these jobs that wait and are to be dropped, e.g. with a cancel request; returns how many."""
    count = await store.upkeep.cancel_waiting(jobs)
    if count:
        docs = await store.jobs.find(jobs, heavy=False, payload=False)
        await announce(broker, [job for job in jobs_of(docs) if job.status == "cancelled"])
    return count


async def ask_to_stop_again(broker: Broker, jobs: Sequence[str]) -> None:
    """Repeat the cancel requests of running jobs: their workers may have missed them. Raises StoreUnavailable."""
    await broker.ask_to_stop(jobs)
