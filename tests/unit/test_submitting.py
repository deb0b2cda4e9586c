"""Submits that share one write: one's outcome is not reported to the others. No server has these faults on demand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from bson import ObjectId
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DocumentTooLarge,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from dtqkit import Job, OutcomeUnknown, Settings, StoreUnavailable
from dtqkit.model.errors import DocumentRefused
from dtqkit.store.client import MongoLink, store_errors
from dtqkit.store.inserts import Inserted, Inserts, submit_s
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.transitions import enqueue as submitting
from dtqkit.transitions.enqueue import Enqueuer
from dtqkit.transitions.new import New
from dtqkit.transitions.patience import Patience


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


ALL: Final = Inserted(set(), {})


class OfDocuments(Enqueuer):
    """Its submissions are documents."""

    async def enqueue(self, submissions: Any, patience: Patience | None = None, make: Any = None) -> Any:
        return await super().enqueue(submissions, patience, make or self._as_it_is)

    async def _as_it_is(self, submission: Any, *_: object) -> New:
        return submission


def submitter(insert: Any = None, push: Any = nothing, **inserts: Any) -> Any:
    broker: Any = SimpleNamespace(push=push)
    store: Any = SimpleNamespace(inserts=SimpleNamespace(insert=insert, **inserts), now=lambda: datetime.now(UTC))
    return OfDocuments(Settings(), broker, store, TaskRegistry())


def away() -> StoreUnavailable:
    return StoreUnavailable("MongoDB", "mongodb://127.0.0.1", "no server answers")


def test_a_key_that_cannot_be_looked_up_is_the_affair_of_its_own_submit() -> None:
    async def insert(docs: list[dict[str, Any]], _: int) -> Inserted:
        return Inserted({i for i, doc in enumerate(docs) if "idempotency_key" in doc}, {})

    async def by_key(*_: object) -> None:
        raise away()

    async def scenario() -> list[Any]:
        one = submitter(insert, by_key=by_key)
        answers = await asyncio.gather(one.enqueue([document()]), one.enqueue([document(idempotency_key="k")]))
        return [type(accepted) for (accepted,) in answers]

    assert asyncio.run(scenario()) == [Job, StoreUnavailable]


def test_what_is_stored_stays_accepted_when_the_next_write_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "MAX_GROUP", 2)
    writes: list[int] = []

    async def insert(docs: list[dict[str, Any]], _: int) -> Inserted:
        writes.append(len(docs))
        if len(writes) == 2:
            raise away()
        return ALL

    async def scenario() -> list[Any]:
        return [type(accepted) for accepted in await submitter(insert).enqueue([document() for _ in range(4)])]

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
    with pytest.raises(OutcomeUnknown), store_errors(MongoLink("mongodb://127.0.0.1"), writes=True):
        raise error


def test_a_large_submit_goes_piece_by_piece_and_small_ones_do_not_wait_for_it() -> None:
    """By bytes, not by jobs: here 100 MB in 100 jobs, over a link that takes its time."""
    written: list[int] = []
    events: list[str] = []

    async def insert(docs: list[dict[str, Any]], size: int) -> Inserted:
        written.append(size)
        await asyncio.sleep(0.02 if size > 1_000 else 0)  # a slow link
        return ALL

    async def scenario() -> None:
        one = submitter(insert)

        async def submit(name: str, *jobs: New) -> None:
            accepted = await one.enqueue(jobs)
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
    async def insert(docs: list[dict[str, Any]], _: int) -> Inserted:
        writes.append(len(docs))
        if len(writes) == 2:
            raise OutcomeUnknown("MongoDB", "mongodb://127.0.0.1", "no answer in time")
        return ALL

    async def scenario() -> list[Any]:
        jobs = [document(size=3_000_000) for _ in range(4)]
        return [type(accepted) for accepted in await submitter(insert).enqueue(jobs)]

    writes: list[int] = []
    assert asyncio.run(scenario()) == [Job, OutcomeUnknown, StoreUnavailable, StoreUnavailable]
    assert writes == [1, 1]


def test_a_submit_may_take_the_longer_the_more_bytes_it_has() -> None:
    assert submit_s(1, 1_000) == submit_s(500, 200_000)
    assert submit_s(20, submitting.MAX_BYTES) > 4


def test_a_submit_that_waits_is_sent_again_under_the_same_ids_until_it_is_taken_or_the_time_is_over() -> None:
    sent: list[list[ObjectId]] = []
    electing = StoreUnavailable("MongoDB", "", "is electing a primary", reason="electing")
    answers: list[Exception | None] = [OutcomeUnknown("MongoDB", "", "no answer in time"), electing, None]

    async def insert(docs: list[dict[str, Any]], _: int) -> Inserted:
        sent.append([doc["_id"] for doc in docs])
        if (error := answers[len(sent) - 1]) is not None:
            raise error
        return ALL

    async def scenario(wait_s: float) -> list[Any]:
        return await submitter(insert).enqueue([document(), document()], Patience(wait_s))

    assert [type(one) for one in asyncio.run(scenario(30.0))] == [Job, Job]
    assert sent[0] == sent[1] == sent[2]
    sent.clear()
    answers[2:] = [electing] * 50
    with pytest.raises(OutcomeUnknown):  # the first try may have been done, whatever the last one returned
        asyncio.run(scenario(0.5))
    sent.clear()
    answers[0] = StoreUnavailable("MongoDB", "", "refuses the user", reason="not_allowed")
    with pytest.raises(StoreUnavailable, match="refuses the user"):
        asyncio.run(scenario(30.0))
    assert len(sent) == 1


class Record:
    """A collection that cannot encode, or refuses, a job of a name, and answers `later` from its `n`th write on.

    It is its own database.
    """

    name = "jobs"

    def __init__(self, later: Exception | None = None, n: int = 1_000) -> None:
        self.writes = 0
        self.stored: list[ObjectId] = []
        self._later = later
        self._n = n
        self.database = self

    async def command(self, command: dict[str, Any]) -> dict[str, Any]:
        docs = command["documents"]
        try:
            await self.insert_many(docs)
        except BulkWriteError as error:
            return {"n": error.details["nInserted"], "writeErrors": error.details["writeErrors"]}
        return {"n": len(docs)}

    async def insert_one(self, doc: dict[str, Any]) -> None:
        await self.insert_many([doc])

    async def insert_many(self, docs: list[dict[str, Any]], **_: object) -> None:
        if any(doc["task"] == "no BSON" for doc in docs):
            raise InvalidDocument("cannot encode object")
        self.writes += 1
        if self._later is not None and self.writes >= self._n:
            raise self._later
        bad = [i for i, doc in enumerate(docs) if doc["task"] == "refused"]
        self.stored += [doc["_id"] for i, doc in enumerate(docs) if i not in bad]
        if bad:
            errors = [{"index": i, "code": 121, "errmsg": "Document failed validation"} for i in bad]
            raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": [], "nInserted": len(docs) - len(bad)})

    async def find_one(self, *_: object, **__: object) -> None:
        return None


class DoesNotSaySo(Record):
    """It does what the first command says, answers `first`, and gives the driver's second try an error or none."""

    def __init__(self, second: Exception | None, first: Exception | dict[str, Any] | None = None) -> None:
        super().__init__()
        self._second = second
        self._first = first or AutoReconnect("connection closed")

    async def command(self, command: dict[str, Any]) -> dict[str, Any]:
        answer = await super().command(command)
        assert command["writeConcern"] == {"w": "majority", "j": True}
        assert command["ordered"] is False
        if isinstance(self._first, Exception):
            raise self._first
        return {**answer, **self._first}

    async def insert_many(self, docs: list[dict[str, Any]], **more: object) -> None:
        if not self.stored:
            return await super().insert_many(docs, **more)
        if self._second is not None:
            raise self._second
        twice = [
            {"index": i, "code": 11000, "errmsg": "E11000 duplicate key", "keyPattern": {"_id": 1}}
            for i, doc in enumerate(docs)
            if doc["_id"] in self.stored
        ]
        raise BulkWriteError({"writeErrors": twice, "writeConcernErrors": [], "nInserted": 0})


def submit_to(record: Record, jobs: list[New]) -> tuple[list[Any] | StoreUnavailable, list[int], list[int]]:
    """Their outcomes, and how many each push listed: now, and later."""
    now: list[int] = []
    later: list[int] = []

    async def push(ready: dict[str, list[str]], doubts: dict[str, float], *_: object) -> None:
        now.append(sum(map(len, ready.values())))
        later.append(len(doubts))

    async def scenario() -> list[Any] | StoreUnavailable:
        inserts = Inserts(cast(Any, record), MongoLink("mongodb://h"), cast(Any, None))
        try:
            return await submitter(inserts.insert, push, by_key=inserts.by_key).enqueue(jobs)
        except StoreUnavailable as error:
            return error

    return asyncio.run(scenario()), now, later


def places_of_refused(accepted: Any) -> set[int]:
    return {i for i, one in enumerate(accepted) if isinstance(one, DocumentRefused)}


@pytest.mark.parametrize("keys", [False, True])
def test_of_many_jobs_of_which_some_are_refused_each_is_sent_once_and_the_others_are_listed_at_once(keys: bool) -> None:
    record = Record()
    jobs = [document(task="refused" if n in (7, 60) else "t") for n in range(100)]
    if keys:
        jobs[1::2] = [document(**{**job.doc, "idempotency_key": f"k{n}"}) for n, job in enumerate(jobs[1::2])]
    accepted, now, later = submit_to(record, jobs)
    assert places_of_refused(accepted) == {7, 60}
    assert len(record.stored) == 98
    assert (now, later) == ([98], [0])
    assert record.writes == (2 if keys else 1)


def test_of_many_jobs_of_which_the_driver_cannot_encode_one_the_others_are_listed_at_once() -> None:
    record = Record()
    accepted, now, _ = submit_to(record, [document(task="no BSON" if n == 70 else "t") for n in range(100)])
    assert places_of_refused(accepted) == {70}
    assert len(record.stored) == 99
    assert now == [99]
    assert record.writes < 10


@pytest.mark.parametrize("nth", [1, 2])
def test_when_mongodb_goes_away_after_a_part_is_stored_all_are_in_doubt_and_listed_later(nth: int) -> None:
    """If the error reported that a repeat is safe, a repeat would submit the first of them twice."""
    record = Record(ServerSelectionTimeoutError("No servers found yet"), nth)
    error, now, later = submit_to(record, [document(task="no BSON" if n == 3 else "t") for n in range(4)])
    assert type(error) is (OutcomeUnknown if nth == 2 else StoreUnavailable)
    assert (len(record.stored), now, later) == ((2, [0], [4]) if nth == 2 else (0, [], []))


STEPPED_DOWN: Final = {"writeConcernError": {"code": 11602, "errmsg": "operation was interrupted"}}


@pytest.mark.parametrize("first", [None, STEPPED_DOWN, OperationFailure("host unreachable", 6), NotPrimaryError("no")])
def test_of_jobs_that_are_stored_before_the_answer_is_lost_the_second_try_finds_each_and_all_are_accepted(
    first: Any,
) -> None:
    record = DoesNotSaySo(None, first)
    accepted, now, _ = submit_to(record, [document() for _ in range(3)])
    assert isinstance(accepted, list)
    assert [type(one) for one in accepted] == [Job] * 3
    assert (len(record.stored), now) == (3, [3])


REFUSED_AFTERWARDS: Final = (
    ServerSelectionTimeoutError("No servers"),
    WaitQueueTimeoutError("no connection"),
    OperationFailure("not authorized", 13),
    BulkWriteError({"writeErrors": [{"index": 0, "code": 8000, "errmsg": "over quota"}], "nInserted": 0}),
)


@pytest.mark.parametrize("second", REFUSED_AFTERWARDS)
def test_when_the_second_try_does_not_say_what_is_stored_the_first_one_may_have_been_done(second: Exception) -> None:
    error, _, later = submit_to(DoesNotSaySo(second), [document() for _ in range(3)])
    assert type(error) is OutcomeUnknown
    assert later == [3]


def test_a_write_that_a_step_down_leaves_in_doubt_says_that_a_primary_is_elected() -> None:
    record = DoesNotSaySo(ServerSelectionTimeoutError("No servers"), STEPPED_DOWN)
    error, _, _ = submit_to(record, [document() for _ in range(3)])
    assert type(error) is OutcomeUnknown
    assert error.reason == "electing"


def test_jobs_that_are_too_large_for_one_command_are_left_to_the_driver() -> None:
    class Small(Record):
        async def command(self, command: dict[str, Any]) -> dict[str, Any]:
            raise DocumentTooLarge(f"{next(iter(command))} is too large")

    record = Small()
    accepted, now, _ = submit_to(record, [document() for _ in range(3)])
    assert isinstance(accepted, list)
    assert [type(one) for one in accepted] == [Job] * 3
    assert (record.writes, now) == (1, [3])


def test_one_document_that_is_a_little_too_large_is_refused_alone() -> None:
    class AlmostFits(Record):
        async def insert_many(self, docs: list[dict[str, Any]], **_: object) -> None:
            self.stored += [doc["_id"] for doc in docs[1:]]
            large = {"index": 0, "code": 2, "errmsg": "object to insert too large. size in bytes: 16777300"}
            raise BulkWriteError({"writeErrors": [large], "writeConcernErrors": [], "nInserted": len(docs) - 1})

    accepted, _, _ = submit_to(AlmostFits(), [document() for _ in range(3)])
    assert isinstance(accepted, list)
    assert [type(one) for one in accepted] == [DocumentRefused, Job, Job]
