"""Many ends in one write."""

from __future__ import annotations

import asyncio

from bson import ObjectId

from dtqkit import Job, Settings
from dtqkit.broker import Broker
from dtqkit.control import Submission
from dtqkit.model.jobs import JobError
from dtqkit.model.outcomes import Change
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job
from dtqkit.store.settlements import Settlement
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.transitions.enqueue import Enqueuer
from tests.sample import noop

#: As JSON 120 kB, as BSON some 660 kB: of 60 such results, MongoDB takes no more than 24 in one command.
NUMBERS = [1] * 60_000


def completed(doc: Document, claim: ObjectId) -> Settlement:
    return Settlement(doc["_id"], claim, 1, Change(status="completed", ending="completed", result=NUMBERS, run_ms=1.0))


def failed(doc: Document, claim: ObjectId) -> Settlement:
    change = Change(status="failed", ending="failed", error=JobError("exception", "ValueError", "no", "x" * 16_000))
    return Settlement(doc["_id"], claim, 1, change, {"log": ["ü" * 2000] * 32})


def test_ends_that_are_too_large_for_one_command_are_all_recorded(settings: Settings) -> None:
    async def scenario() -> tuple[list[set[int]], list[Job]]:
        store, broker = Store(settings), Broker(settings)
        enqueuer = Enqueuer(settings, broker, store, TaskRegistry())
        try:
            await store.open()
            await store.catalogue.publish([noop.info])
            jobs = await enqueuer.enqueue([Submission(task=noop.name, payload={}) for _ in range(300)])
            ids = [ObjectId(job.id) for job in jobs if isinstance(job, Job)]
            claim = ObjectId()
            held = await store.jobs.claim_many(ids, claim, "w1", 60.0, tasks=[noop.name])
            ends = [completed(doc, claim) for doc in held[:60]] + [failed(doc, claim) for doc in held[60:]]
            refused = [await store.jobs.settle(ends), await store.jobs.settle(ends)]
            return refused, [to_job(doc) for doc in await store.jobs.find(ids)]
        finally:
            await enqueuer.close()
            await broker.close()
            await store.close()

    refused, jobs = asyncio.run(scenario())
    assert refused == [set(), set()]  # the second time, each has this end already
    assert sorted(job.status for job in jobs) == ["completed"] * 60 + ["failed"] * 240
    assert {len(job.result) for job in jobs if job.status == "completed"} == {60_000}  # type: ignore[arg-type]
    assert {len(job.log) for job in jobs if job.status == "failed"} == {32}
