"""Update: change what a waiting job was submitted with, and list its id where it belongs then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from dtqkit.broker import Broker
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.jobs import WAITING, Job
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.store.fields import job_of, jobs_of
from dtqkit.store.ids import object_id
from dtqkit.store.packing import pack
from dtqkit.transitions.announce import announce, publish_changes, unlist
from dtqkit.transitions.places import name_of


async def update(
    broker: Broker, store: Store, job: Job, fields: Mapping[str, Any], delay_s: float | None
) -> Job | None:
    """Change a waiting job; None when it has changed since it was read. If Redis is away, recovery lists it."""
    doc = await store.many.update_one(object_id(job.id), job.rev, _stored(fields), delay_s)
    if doc is None:
        return None
    changed = job_of(doc)
    await _move(broker, [job], [changed], fields)
    return changed


async def update_many(
    broker: Broker, store: Store, docs: Sequence[Document], fields: Mapping[str, Any], delay_s: float | None
) -> int:
    """The same for many, whatever their revision: only that they wait is tested. Returns how many were changed."""
    found = await store.many.update([doc["_id"] for doc in docs], _stored(fields), delay_s)
    before = {job.id: job for job in jobs_of(docs)}
    changed = [job for job in jobs_of(found) if job.status in WAITING and job.rev > before[job.id].rev]
    await _move(broker, [before[job.id] for job in changed], changed, fields)
    return len(changed)


async def _move(broker: Broker, before: Sequence[Job], after: Sequence[Job], fields: Mapping[str, Any]) -> None:
    """Take those whose place has changed out of the old one, then list them in the new one.

    In this order each of two changes that cross ends with its own push: what one lists, the other cannot take out as
    its last step. What a crash leaves in between, the audit repairs.
    """
    moved = [(old, new) for old, new in zip(before, after, strict=True) if _place(old) != _place(new)]
    there = {new.id for _, new in moved}
    # A new due time only gives the same entry another score.
    await unlist(broker, [old for old, new in moved if _place(old)[:2] != _place(new)[:2]])
    await announce(broker, [new for _, new in moved])
    stayed = [new for new in after if new.id not in there]
    if "payload" in fields:  # a pause that held one may not any more: if it does, a worker parks it again
        with suppress(StoreUnavailable):
            await broker.parking.unpark([name_of(new) for new in stayed])
    await publish_changes(broker, stayed)


def _place(job: Job) -> tuple[str, str, object]:
    return job.priority, job.status, job.due_at if job.status == "scheduled" else None


def _stored(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: pack(value) if name == "payload" else value for name, value in fields.items()}
