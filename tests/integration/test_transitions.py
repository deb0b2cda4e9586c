"""What a write makes of a job's status is a legal transition, from whichever status it meets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient

from dtqkit import Settings, Status, TaskQueue
from dtqkit.model.jobs import STATUSES
from dtqkit.model.lifecycle import TRANSITIONS
from dtqkit.model.outcomes import Change
from dtqkit.store import Store
from dtqkit.store.settlements import Settlement
from tests import sample

CLAIM = ObjectId()
ENDS: tuple[Status, ...] = ("completed", "scheduled", "pending", "failed")
Write = Callable[[Store, ObjectId], Awaitable[object]]


def claim(store: Store, job: ObjectId) -> Awaitable[object]:
    return store.jobs.claim_one(job, ObjectId(), "w", 60, tasks=["add_async"])


def cancel(store: Store, job: ObjectId) -> Awaitable[object]:
    return store.jobs.cancel(job)


def requeue(store: Store, job: ObjectId) -> Awaitable[object]:
    return store.jobs.requeue(job, 1)


def settle(status: Status) -> Write:
    ending: Any = {"scheduled": "failed", "pending": "released"}.get(status, status)
    change = Change(status=status, ending=ending, run_ms=1.0)
    return lambda store, job: store.jobs.settle([Settlement(job, CLAIM, 1, change)])


@pytest.mark.parametrize(
    ("write", "makes"),
    [
        (claim, {("pending", "running"), ("scheduled", "running")}),
        (cancel, {("pending", "cancelled"), ("scheduled", "cancelled")}),
        (requeue, {("failed", "pending")}),
        *[(settle(status), {("running", status)}) for status in ENDS],
    ],
    ids=["claim", "cancel", "requeue", *ENDS],
)
@pytest.mark.parametrize("asked_to_stop", [False, True])
def test_a_write_changes_the_status_in_legal_ways_only(
    queue: TaskQueue,
    settings: Settings,
    mongo: MongoClient[dict[str, Any]],
    write: Write,
    makes: set[tuple[Status, Status]],
    asked_to_stop: bool,
) -> None:
    collection = mongo[settings.database_name]["jobs"]

    async def after(job: ObjectId) -> Status:
        store = Store(settings)
        try:
            await write(store, job)
        finally:
            await store.close()
        found = collection.find_one({"_id": job})
        assert found is not None
        return found["status"]

    made: set[tuple[Status, Status]] = set()
    for before in STATUSES:
        job = ObjectId(sample.add_async.submit(1).id)
        now = {"status": before, "claim": CLAIM, "token": 1, "worker": "w", "death_seq": 1, "started_at": None}
        if asked_to_stop and before == "running":
            now["cancel_requested"] = True
        stages: list[dict[str, Any]] = [{"$set": {**now, "claimed_at": "$$NOW", "due_at": "$$NOW"}}]
        collection.update_one({"_id": job}, stages)
        if (status := asyncio.run(after(job))) != before:
            made.add((before, status))
    assert {(before, status) for before, status in made if status not in TRANSITIONS[before]} == set()
    # A request to stop that comes before a failure or a release is honoured; a success stays one.
    cancelled = asked_to_stop and {before for before, _ in makes} == {"running"} and makes != {("running", "completed")}
    assert made == ({("running", "cancelled")} if cancelled else makes)
