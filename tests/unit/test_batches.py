"""What a bulk raises when only a part of it is accepted."""

import asyncio
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from dtqkit import (
    AsyncTaskQueue,
    BatchOutcomeUnknown,
    BatchRefused,
    BatchUnavailable,
    DtqError,
    Job,
    JobList,
    NotAServer,
    OutcomeUnknown,
    PayloadTooLarge,
    StoreUnavailable,
    TaskQueue,
    UnknownTask,
    task,
)
from dtqkit.control import BatchItem, Refusal, Submission
from dtqkit.remote import calls
from tests.stub import StubControl

AWAY = StoreUnavailable("MongoDB", "", "no primary", reason="electing")
UNKNOWN = OutcomeUnknown("the server", "", "the connection was closed")
LARGE = PayloadTooLarge("keep", 300_000, 256)
JOB = Job(id="0" * 24, task="keep", payload={}, created_at=datetime.now(UTC))


@task
def keep(value: int) -> int:
    return value


class Partly(StubControl):
    """Accepts what has no error in `refused`, by its place."""

    def __init__(self, refused: dict[int, DtqError], *, over_http: bool = False) -> None:
        self._refused = refused
        self._over_http = over_http

    async def submit_many(self, submissions: tuple[Submission, ...]) -> tuple[BatchItem, ...]:
        return tuple(self._item(i, submission) for i, submission in enumerate(submissions))

    def _item(self, i: int, submission: Submission) -> BatchItem:
        if (error := self._refused.get(i)) is None:
            created = datetime(2026, 1, 1, tzinfo=UTC)
            return BatchItem(job=Job(id=f"{i:024x}", task="keep", payload=submission.payload, created_at=created))
        refusal = Refusal.of(error)
        return BatchItem(refused=Refusal(code=refusal.code, detail=refusal.detail) if self._over_http else refusal)


def refused(control: Partly, n: int = 4) -> BatchRefused:
    with TaskQueue(control=control) as queue, pytest.raises(BatchRefused) as error:
        queue.submit_many([keep.bind(i) for i in range(n)])
    return error.value


@pytest.mark.parametrize("over_http", [False, True])
def test_each_refusal_has_its_place_and_its_class(over_http: bool) -> None:
    error = refused(Partly({1: UnknownTask("keep", ["kept"]), 3: LARGE}, over_http=over_http))
    assert type(error) is BatchRefused
    assert [(i, type(why)) for i, why in error.refused] == [(1, UnknownTask), (3, PayloadTooLarge)]
    assert "did you mean 'kept'" in str(error.refused[0][1])
    assert isinstance(error.accepted, JobList)
    assert [job.id for job in error.accepted] == [f"{i:024x}" for i in (0, 2)]
    # The facts of an error that came over HTTP are its class's defaults, and can be read all the same
    large: Any = error.refused[1][1]
    assert (large.path, large.size_bytes) == ("$", 0 if over_http else 300_000)


def test_a_store_that_is_away_can_be_caught_as_such() -> None:
    error = refused(Partly({2: LARGE, 3: AWAY}))
    assert type(error) is BatchUnavailable
    assert isinstance(error, StoreUnavailable)
    assert (error.store, error.reason, error.passes) == ("MongoDB", "electing", True)
    assert str(error).startswith("2 of 4 jobs were refused (the other 2 are accepted); number 2: ")
    unknown = refused(Partly({0: AWAY, 1: UNKNOWN}, over_http=True))
    assert type(unknown) is BatchOutcomeUnknown
    assert isinstance(unknown, BatchUnavailable)
    assert isinstance(unknown, OutcomeUnknown)
    assert "none is accepted" in str(refused(Partly({0: AWAY}), n=1))


def test_a_coroutine_gets_the_handles_that_it_can_await() -> None:
    async def story() -> list[str]:
        queue = AsyncTaskQueue(control=Partly({0: LARGE}))
        with pytest.raises(BatchRefused) as error:
            await queue.submit_many([keep.bind(1), keep.bind(2)])
        await queue.close()
        return [handle.id for handle in error.value.accepted]

    assert asyncio.run(story()) == [f"{1:024x}"]


def test_another_process_gets_the_ids_of_what_was_accepted() -> None:
    error = refused(Partly({3: AWAY}))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - it is ours
    assert (type(again), str(again), again.reason) == (BatchUnavailable, str(error), "electing")
    assert again.accepted == tuple(f"{i:024x}" for i in range(3))
    assert [i for i, _ in again.refused] == [3]


def test_a_refusal_over_http_does_not_name_the_address_of_a_store() -> None:
    refusal = Refusal.of(StoreUnavailable("MongoDB", "mongodb://u:secret@db.internal:27017", "no primary"))
    assert refusal.detail == "MongoDB does not answer"
    assert "db.internal" in str(refusal.error)  # in this process


def test_jobs_of_earlier_requests_are_kept_when_a_later_request_of_a_bulk_is_answered_by_a_proxy() -> None:
    class Server:
        asked = 0

        async def ask_until_known(self, _: Any, batch: Any, __: Any) -> tuple[BatchItem, ...]:
            self.asked += 1
            if self.asked == 2:
                raise NotAServer("a page to sign in")
            return tuple(BatchItem(job=JOB) for _ in batch)

    http: Any = Server()
    items = asyncio.run(
        calls.submit_many(http, tuple(Submission(task="keep", payload={"value": i}) for i in range(1500)))
    )
    assert [item.refused is None for item in items] == [True] * 1000 + [False] * 500
