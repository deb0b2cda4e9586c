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
from dtqkit.direct.submit import Submitter
from dtqkit.store.client import Link, told


def document(**more: object) -> dict[str, Any]:
    new = ObjectId()
    return {
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


async def nothing(*_: object, **__: object) -> None: ...


def submitter(**jobs: Any) -> Submitter:
    broker: Any = SimpleNamespace(push=nothing)
    store: Any = SimpleNamespace(jobs=SimpleNamespace(**jobs))
    return Submitter(broker, store)


def away() -> StoreUnavailable:
    return StoreUnavailable("MongoDB", "mongodb://127.0.0.1", "no server answers")


def test_a_key_that_cannot_be_looked_up_is_the_affair_of_its_own_submit() -> None:
    async def insert(docs: list[dict[str, Any]]) -> set[int]:
        return {i for i, doc in enumerate(docs) if "idempotency_key" in doc}

    async def by_key(*_: object) -> None:
        raise away()

    async def scenario() -> list[Any]:
        one = submitter(insert=insert, by_key=by_key)
        answers = await asyncio.gather(one.submit([document()]), one.submit([document(idempotency_key="k")]))
        return [type(accepted) for (accepted,) in answers]

    assert asyncio.run(scenario()) == [Job, StoreUnavailable]


def test_what_is_stored_stays_accepted_when_the_next_write_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "MAX_GROUP", 2)
    writes: list[int] = []

    async def insert(docs: list[dict[str, Any]]) -> set[int]:
        writes.append(len(docs))
        if len(writes) == 2:
            raise away()
        return set()

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
