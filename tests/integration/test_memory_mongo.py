"""The MongoDB in memory does what a real one does, with the filters, updates and pipelines of the store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from bson import CodecOptions, ObjectId
from pymongo import MongoClient, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from dtqkit.direct.listing import filter_of
from dtqkit.model.followups import FollowUp
from dtqkit.model.jobs import JobError
from dtqkit.model.outcomes import Change
from dtqkit.model.where import PayloadMatch
from dtqkit.store import documents, ids, requeues
from dtqkit.store.documents import Document
from dtqkit.store.indexes import JOBS, UNIQUE
from dtqkit.store.minutes import counting
from dtqkit.store.unique import Put, putting
from dtqkit.store.where import PACKED, may_match
from dtqkit.testing.mongo.client import Client

NOW = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
CLAIM = ObjectId("0123456789abcdef01234567")
ERROR = JobError("exception", "ValueError", "$not a path", "traceback", "builtins")


def at_now(value: Any) -> Any:
    """With one time instead of the server's, which differs each time."""
    match value:
        case "$$NOW":
            return {"$literal": NOW}
        case dict():
            return {key: at_now(part) for key, part in value.items()}
        case list():
            return [at_now(part) for part in value]
        case _:
            return value


def docs() -> list[Document]:
    """Jobs in all states, with and without what a job may have."""
    rng = random.Random(7)
    found: list[Document] = []
    for i in range(120):
        status = ["pending", "scheduled", "running", "completed", "failed", "cancelled"][i % 6]
        created = NOW - timedelta(minutes=rng.randrange(300), milliseconds=rng.randrange(1000))
        doc: Document = {
            "_id": ids.new_id(created),
            "task": f"t{i % 3}",
            "payload": {"n": i % 7} if i % 5 else {"": '{"a.b":1}'},
            "created_at": created,
        }
        doc |= {"priority": ["high", "medium", "low"][i % 4 % 3], "status": status, "token": i % 5, "losses": i % 3}
        doc |= {"rev": i, "max_attempts": 3, "timeout_s": 5.0}
        more: Document = {
            "queued_at": created + timedelta(seconds=5),
            "due_at": NOW + timedelta(seconds=rng.randrange(-50, 50)),
            "claimed_at": created + timedelta(seconds=9),
            "started_at": created + timedelta(seconds=8),
            "start_ms": rng.randrange(2000),
            "lease_until": NOW + timedelta(seconds=rng.randrange(-50, 50)),
            "ended_at": NOW - timedelta(seconds=rng.randrange(20_000)),
            "run_ms": rng.random() * 100,
            "worker": f"w{i % 2}",
            "failures": i % 4,
            "max_losses": 5,
            "death_seq": i % 3,
            "recoveries": i % 2,
            "declined": i % 2,
            "declined_before": 2,
            "cancel_requested": True,
            "progress": 0.5,
            "progress_message": "half",
            "log": ["a", "b"],
            "tags": ["red", f"n{i}"],
            "idempotency_key": f"k{i}",
            "result": {"deep": [1, {"x": None}]},
            "error": {"kind": ["exception", "worker_lost", "timeout"][i % 3], "type": "E", "message": "m"},
            "failed_at": [NOW - timedelta(minutes=rng.randrange(100)) for _ in range(rng.randrange(1, 3))],
            "earlier": [
                {
                    "number": n,
                    "worker": "w",
                    "queued_at": created,
                    "claimed_at": created,
                    "started_at": created + timedelta(seconds=n),
                    "ended_at": created,
                    "run_ms": 3.5,
                    "ending": "failed",
                }
                for n in range(rng.choice([1, 2, 20]))
            ],
            "claim": CLAIM,
        }
        doc |= {
            name: value
            for name, value in more.items()
            if rng.random() < 0.5
            or (status, name)
            == (
                "scheduled",
                "due_at",
            )
        }
        found.append(doc)
    return found


class Both:
    """The same collection on a real server and in memory."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.memory = Client(lambda: NOW)["x"][real.name]

    def fill(self, some: Iterable[Document]) -> None:
        self.real.insert_many(some)
        asyncio.run(self.memory.insert_many(list(some)))

    def same(self) -> None:
        assert list(self.real.find().sort("_id", 1)) == asyncio.run(self.memory.find().sort("_id", 1).to_list())


@pytest.fixture
def both(mongo: MongoClient[Document], namespace: str) -> Both:
    options = CodecOptions[Document](tz_aware=True, tzinfo=UTC)
    both = Both(mongo[f"dtqkit_{namespace}"].get_collection("jobs", codec_options=options))
    both.fill(docs())
    return both


def changes() -> list[tuple[str, Any]]:
    """Every update of `store.documents`."""
    failed = Change(status="failed", ending="failed", error=ERROR, failures=1, run_ms=3.0)
    retried = Change(status="scheduled", ending="failed", error=ERROR, failures=1, delay_s=1.5, start_ms=20)
    lost = Change(status="scheduled", ending="lost", error=ERROR, losses=1)
    followed = msgspec.structs.replace(failed, followup=FollowUp("failure", "t", 2), frees_slot=True)
    log = {"progress": 0.5, "progress_message": "$x", "log": ["$y"]}
    return [
        ("claim", documents.claiming(ObjectId(), "w", 30.0)),
        ("renew", documents.renewing(30.0)),
        ("complete", {**documents.completing(Change(status="completed", ending="completed", result={"a": [1]}), 1)}),
        ("decline", documents.declining(Change(status="pending", ending="declined", error=ERROR))),
        ("delay", documents.declining(Change(status="scheduled", ending="declined", delay_s=5.0))),
        ("fail", documents.ending(failed)),
        ("fail a unique one that another follows", documents.ending(followed)),
        ("retry", documents.ending(retried, log)),
        ("release", documents.ending(Change(status="pending", ending="released", run_ms=1.0))),
        ("lose", documents.ending(lost)),
        ("cancel", documents.cancelling()),
        ("requeue", requeues.requeueing()),
        ("recover", requeues.recovering(NOW + timedelta(seconds=3))),
    ]


@pytest.mark.parametrize(("name", "update"), changes(), ids=[name for name, _ in changes()])
def test_a_change_of_jobs_is_the_same_in_memory(both: Both, name: str, update: Any) -> None:
    update = at_now(update)
    if name == "complete":  # $currentDate is the server's own
        update["$set"]["ended_at"] = NOW
        del update["$currentDate"]
    real = both.real.update_many({}, update)
    memory = asyncio.run(both.memory.update_many({}, update))
    assert (real.matched_count, real.modified_count) == (memory.matched_count, memory.modified_count)
    both.same()


def queries() -> list[Document]:
    some = [doc["_id"] for doc in docs()][:9]
    return [
        {},
        at_now(documents.runnable(some)),
        documents.held(some, CLAIM),
        filter_of(NOW, since="1h", status="failed"),
        filter_of(NOW, since="2h", task="t1", priority="low", worker="w1"),
        filter_of(NOW, priority="high"),
        {"tags": {"$elemMatch": {"$gt": "n1", "$lt": "n2"}}},
        {"tags": "red"},
        {"tags": {"$in": ["n5", "n7", None]}},
        {"idempotency_key": {"$exists": True}, "status": {"$nin": ["failed"]}},
        {"idempotency_key": None},
        {"cancel_requested": None, "earlier.number": {"$gte": 15}},
        {"earlier": {"$elemMatch": {"number": 1, "ending": "failed"}}},
        {"run_ms": {"$gt": 20}, "$nor": [{"token": 1}, {"token": {"$lte": 0}}]},
        {"ended_at": {"$gte": NOW - timedelta(hours=1), "$lt": NOW}},
        {"$expr": {"$lt": ["$lease_until", {"$literal": NOW}]}},
        {"error.kind": {"$ne": "timeout"}, "failures": {"$not": {"$gt": 1}}},
        {"status": "failed", "priority": {"$in": ["high", "low", None]}},
        {"payload.n": {"$in": [3, 4.0, True]}, "tags": {"$type": "string"}},
        {"$and": [{"tags": {"$all": ["red"]}}, {"run_ms": {"$type": "number"}}]},
        {"$expr": PACKED},
        {"$expr": may_match(PayloadMatch({"n": 3, "of": None}, {"t1": {"of": None}, "t2": {"n": 3, "of": None}}))},
    ]


def test_filters_and_projections_find_the_same_in_memory(both: Both) -> None:
    for query in queries():
        for fields in (None, {"status": 1, "earlier.number": 1, "earlier.ending": 1}, {"log": 0, "earlier": 0}):
            real = list(both.real.find(query, fields).sort("_id", -1))
            memory = asyncio.run(both.memory.find(query, fields).sort("_id", -1).to_list())
            assert memory == real, query


@pytest.mark.parametrize(
    "pipeline",
    [
        counting("jobs", NOW - timedelta(hours=2), None),
        counting("jobs", NOW - timedelta(hours=2), NOW - timedelta(hours=1)),
        [
            {"$match": {"ended_at": {"$gte": NOW - timedelta(hours=3)}}},
            {"$sort": {"ended_at": -1, "_id": 1}},
            {"$limit": 40},
            {"$set": {"last": documents.last_attempt()}},
            {
                "$group": {
                    "_id": {"task": "$task", "priority": "$priority"},
                    "waits": {"$push": {"$subtract": ["$last.started_at", "$last.queued_at"]}},
                    "runs": {"$push": "$run_ms"},
                    "first": {"$min": "$last.started_at"},
                    "n": {"$sum": 1},
                }
            },
        ],
        [{"$sort": {"_id": 1}}, {"$limit": 3}, {"$project": {"at": {"$toDate": "$_id"}}}],
        [{"$unwind": "$tags"}, {"$group": {"_id": "$tags", "n": {"$sum": 1}}}, {"$match": {"n": {"$gt": 1}}}],
    ],
)
def test_aggregations_give_the_same_in_memory(both: Both, pipeline: list[Document]) -> None:
    async def memory() -> list[Document]:
        return await (await both.memory.aggregate(pipeline)).to_list()

    real = list(both.real.aggregate(pipeline))
    assert sorted(asyncio.run(memory()), key=repr) == sorted(real, key=repr)
    assert real


def test_unique_indexes_hold_in_memory(both: Both) -> None:
    both.real.create_indexes(list(JOBS))
    asyncio.run(both.memory.create_indexes(list(JOBS)))
    known = next(doc for doc in docs_of(both) if "idempotency_key" in doc)
    twin = {name: known[name] for name in ("idempotency_key", "task")}
    for write in (both.real.insert_one, lambda doc: asyncio.run(both.memory.insert_one(doc))):
        with pytest.raises(DuplicateKeyError) as error:
            write({"_id": ObjectId(), **twin})
        assert set((error.value.details or {})["keyPattern"]) == {"idempotency_key", "task"}
        with pytest.raises(DuplicateKeyError) as error:
            write({"_id": known["_id"]})
        assert set((error.value.details or {})["keyPattern"]) == {"_id"}
    free = UpdateOne({"_id": known["_id"]}, {"$unset": {"idempotency_key": ""}})
    upsert = UpdateOne(twin, {"$setOnInsert": {"payload": {}, "n": 1}, "$inc": {"rev": 1}}, upsert=True)
    both_write(both, [free, upsert, upsert])
    assert len([doc for doc in docs_of(both) if doc.get("idempotency_key") == twin["idempotency_key"]]) == 1


def test_a_bulk_that_is_not_ordered_goes_on_after_an_error_in_memory(both: Both) -> None:
    first, second = (doc["_id"] for doc in docs_of(both)[:2])
    requests = [
        UpdateOne({"_id": first, "rev": {"$lt": -1}}, {"$set": {"a": 1}}, upsert=True),
        UpdateMany({"task": "t1"}, {"$max": {"version": 3}, "$inc": {"n.deep": 2}}),
        UpdateOne({"_id": second}, [{"$set": {"x": {"$mergeObjects": ["$payload", {"y": "$rev"}]}}}]),
    ]
    errors: list[Any] = []
    for write in (both.real.bulk_write, lambda r, **how: asyncio.run(both.memory.bulk_write(r, **how))):
        with pytest.raises(BulkWriteError) as error:
            write(requests, ordered=False)
        details = error.value.details
        errors.append((details["nMatched"], [(one["index"], one["code"]) for one in details["writeErrors"]]))
    assert errors[0] == errors[1]
    both.same()


def docs_of(both: Both) -> list[Document]:
    return asyncio.run(both.memory.find().sort("_id", 1).to_list())


def both_write(both: Both, requests: list[Any]) -> None:
    real = both.real.bulk_write(requests)
    memory = asyncio.run(both.memory.bulk_write(requests))
    for count in ("matched_count", "modified_count", "upserted_count", "deleted_count"):
        assert getattr(real, count) == getattr(memory, count), count


def test_an_upsert_by_a_pipeline_with_variables_is_the_same_in_memory(both: Both) -> None:
    """As the slots of unique jobs are written."""
    new = {"_id": ObjectId(), "task": "t", "payload": {"$odd": 1}, "duplicates": 0}
    counted = {"$mergeObjects": ["$$ROOT", {"duplicates": {"$add": [{"$ifNull": ["$duplicates", 0]}, 1]}}]}
    branches = [
        {"case": {"$eq": [{"$type": "$_id"}, "missing"]}, "then": {"$mergeObjects": ["$$new", "$$ROOT"]}},
        {"case": {"$gte": ["$duplicates", 1]}, "then": {"$unsetField": {"field": "slot", "input": "$$ROOT"}}},
    ]
    update = [{"$replaceWith": {"$switch": {"branches": branches, "default": counted}}}]
    for _ in range(3):
        how: Any = {"let": {"new": {"$literal": new}}, "upsert": True, "return_document": ReturnDocument.AFTER}
        real = both.real.find_one_and_update({"slot": "a:b"}, update, **how)
        assert asyncio.run(both.memory.find_one_and_update({"slot": "a:b"}, update, **how)) == real
        both.same()
    real = both.real.update_many({"slot": None}, [{"$set": {"slot": {"$concat": ["$task", ":", "$worker"]}}}])
    memory = asyncio.run(
        both.memory.update_many({"slot": None}, [{"$set": {"slot": {"$concat": ["$task", ":", "$worker"]}}}])
    )
    assert real.modified_count == memory.modified_count
    both.same()


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("window_s", [None, 30.0])
def test_the_slot_of_a_unique_job_is_the_same_in_memory(both: Both, replace: bool, window_s: float | None) -> None:
    both.real.create_indexes(list(JOBS))
    asyncio.run(both.memory.create_indexes(list(JOBS)))
    for n in range(3):
        doc: Document = {"_id": ObjectId(), "task": "t", "payload": {"n": n}, "created_at": NOW, "status": "scheduled"}
        doc |= {"unique": "waiting", "unique_key": "k", "unique_slot": "t:k", "due_at": NOW, "rev": 1, "token": 0}
        doc |= {"losses": 0, "priority": "low", "queued_at": NOW, **({"tags": ["a"]} if n == 1 else {})}
        new = Put(doc, 9, 5.0, 60.0, window_s, replace=replace, optional=("tags",))
        how: Any = {"let": {"new": {"$literal": doc}}, "upsert": True, "return_document": ReturnDocument.AFTER}
        how["hint"] = UNIQUE
        update = at_now(putting(new))
        real = both.real.find_one_and_update({"unique_slot": "t:k"}, update, **how)
        assert asyncio.run(both.memory.find_one_and_update({"unique_slot": "t:k"}, update, **how)) == real
        both.same()


def test_what_is_not_known_in_memory_is_named() -> None:
    collection = Client(lambda: NOW)["x"]["jobs"]
    asyncio.run(collection.insert_one({"_id": 1}))
    for wrong, named in (
        ([{"$set": {"a": {"$tan": 1}}}], r"\$tan"),
        ([{"$bucket": {}}], r"\$bucket"),
        ({"$bit": {"a": 1}}, r"\$bit"),
    ):
        with pytest.raises(NotImplementedError, match=named):
            asyncio.run(collection.update_one({}, wrong))
    with pytest.raises(NotImplementedError, match=r"\$where"):
        asyncio.run(collection.find({"$where": "1"}).to_list())
    with pytest.raises(NotImplementedError, match=r"\$near"):
        asyncio.run(collection.find({"a": {"$near": 1}}).to_list())
