"""Submits that share one write: what becomes of one is not told to the others. No server has these faults on demand."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import BulkWriteError, WriteConcernError

from dtqkit import Job, OutcomeUnknown, StoreUnavailable
from dtqkit.direct import submit as submitting
from dtqkit.direct.submit import New, Submitter
from dtqkit.store.client import Link, told
from dtqkit.store.jobs import submit_s


def document(size: int = 100, **more: object) -> New:
    new = ObjectId()
    doc: dict[str, Any] = {
        "_id": new,
        "task": "t",
        "payload": {},
        "priority": "high",
        "status": "pending",
        "created_at": new.generation_time,
        "token": 0,
        "losses": 0,
        "rev": 1,
        **more,
    }
    return New(doc, size)


async def nothing(*_: object, **__: object) -> None: ...


def submitter(**jobs: Any) -> Submitter:
    broker: Any = SimpleNamespace(push=nothing)
    store: Any = SimpleNamespace(jobs=SimpleNamespace(**jobs))
    return Submitter(broker, store)


def away() -> StoreUnavailable:
    return StoreUnavailable("MongoDB", "mongodb://127.0.0.1", "no server answers")


def test_a_key_that_cannot_be_looked_up_is_the_affair_of_its_own_submit() -> None:
    async def insert_keyed(docs: list[dict[str, Any]], _: int) -> set[int]:
        return set(range(len(docs)))

    async def by_key(*_: object) -> None:
        raise away()

    async def scenario() -> list[Any]:
        one = submitter(insert=nothing, insert_keyed=insert_keyed, by_key=by_key)
        answers = await asyncio.gather(one.submit([document()]), one.submit([document(idempotency_key="k")]))
        return [type(accepted) for (accepted,) in answers]

    assert asyncio.run(scenario()) == [Job, StoreUnavailable]


def test_what_is_stored_stays_accepted_when_the_next_write_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "MAX_GROUP", 2)
    writes: list[int] = []

    async def insert(docs: list[dict[str, Any]], _: int) -> None:
        writes.append(len(docs))
        if len(writes) == 2:
            raise away()

    async def scenario() -> list[Any]:
        return [type(accepted) for accepted in await submitter(insert=insert).submit([document() for _ in range(4)])]

    assert asyncio.run(scenario()) == [Job, Job, StoreUnavailable, StoreUnavailable]
    assert writes == [2, 2]


@pytest.mark.parametrize(
    "error",
    [
        WriteConcernError("waiting for replication timed out", 50, {}),
        BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "timed out"}]}),
    ],
    ids=["one", "bulk"],
)
def test_a_write_that_is_not_known_to_be_on_a_majority_has_an_unknown_outcome(error: Exception) -> None:
    with pytest.raises(OutcomeUnknown), told(Link("mongodb://127.0.0.1"), writes=True):
        raise error


def test_a_large_submit_goes_piece_by_piece_and_small_ones_do_not_wait_for_it() -> None:
    """By bytes, not by jobs: here 100 MB in 100 jobs, over a link that takes its time."""
    written: list[int] = []
    events: list[str] = []

    async def insert(docs: list[dict[str, Any]], size: int) -> None:
        written.append(size)
        await asyncio.sleep(0.02 if size > 1_000 else 0)

    async def scenario() -> None:
        one = submitter(insert=insert)

        async def submit(name: str, *jobs: New) -> None:
            accepted = await one.submit(jobs)
            assert all(isinstance(job, Job) for job in accepted)
            events.append(name)

        async with asyncio.TaskGroup() as submits:
            submits.create_task(submit("large", *(document(size=1_000_000) for _ in range(100))))
            await asyncio.sleep(0)
            submits.create_task(submit("small", document()))

    asyncio.run(scenario())
    assert events == ["small", "large"]
    assert max(written) <= submitting.MAX_BYTES
    assert sum(written) == 100_000_100


def test_of_a_large_submit_only_the_piece_that_was_sent_has_an_unknown_outcome() -> None:
    async def insert(docs: list[dict[str, Any]], _: int) -> None:
        writes.append(len(docs))
        if len(writes) == 2:
            raise OutcomeUnknown("MongoDB", "mongodb://127.0.0.1", "no answer in time")

    async def scenario() -> list[Any]:
        jobs = [document(size=3_000_000) for _ in range(4)]
        return [type(accepted) for accepted in await submitter(insert=insert).submit(jobs)]

    writes: list[int] = []
    assert asyncio.run(scenario()) == [Job, OutcomeUnknown, StoreUnavailable, StoreUnavailable]
    assert writes == [1, 1]


def test_a_submit_may_take_the_longer_the_more_bytes_it_has() -> None:
    assert submit_s(1, 1_000) == submit_s(500, 200_000)
    assert submit_s(20, submitting.MAX_BYTES) > 4
