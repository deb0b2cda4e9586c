"""A job that MongoDB does not take as a claimed one (a validator refuses it) delays no other job."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from bson import DatetimeMS, ObjectId
from bson.errors import InvalidBSON
from pymongo import MongoClient

from dtqkit import JobHandle, Settings, TaskQueue
from dtqkit.store.jobs import Jobs
from tests import sample
from tests.wait import wait_until
from tests.workers import Workers

Refuse = Callable[[list[str]], None]


@pytest.fixture
def refuse(mongo: MongoClient[dict[str, Any]], settings: Settings) -> Refuse:
    """Have MongoDB refuse the claims of these jobs, and of no others."""
    database = mongo[settings.database_name]

    def refuse(jobs: list[str]) -> None:
        rule = {"$nor": [{"_id": {"$in": [ObjectId(job) for job in jobs]}, "status": "running"}]} if jobs else {}
        database.command("collMod", "jobs", validator=rule)

    return refuse


def lines(caplog: pytest.LogCaptureFixture, what: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if what in record.getMessage()]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_lane_goes_on_and_the_job_runs_once_it_is_taken(
    queue: TaskQueue, settings: Settings, refuse: Refuse, caplog: pytest.LogCaptureFixture, concurrency: int
) -> None:
    cursed = sample.add_async.submit(100)
    others: list[JobHandle[int]] = [sample.add_async.submit(n) for n in range(20)]
    second = sample.add_async.submit(200)
    refuse([cursed.id, second.id])
    with Workers(queue, settings=settings.replace(concurrency=concurrency)):
        assert [job.result(timeout=20) for job in others] == [n + 1 for n in range(20)]
        wait_until(lambda: len(lines(caplog, "cannot be claimed")) == 2)
        (line,) = lines(caplog, f"job {cursed.id} cannot be claimed")
        assert "leaving it to other workers for some seconds" in line
        assert "failed validation" in line

        assert sample.add_async.submit(7).result(timeout=20) == 8
        assert (cursed.refresh().status, cursed.record.claim_number) == ("pending", 0)

        refuse([])
        assert (cursed.result(timeout=40), second.result(timeout=40)) == (101, 201)
        assert len(cursed.record.attempts) == 1
    assert len(lines(caplog, "cannot be claimed")) == 2
    assert lines(caplog, "cannot fetch") == []


def test_where_every_claim_is_refused_it_is_tried_at_a_bounded_rate_until_it_is_taken(
    queue: TaskQueue, refuse: Refuse, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [sample.add_async.submit(n) for n in range(10)]
    refuse([job.id for job in jobs])
    with Workers(queue):
        wait_until(lambda: lines(caplog, "refuses one claim after the other"), timeout_s=20)
        refuse([])
        assert [job.result(timeout=60) for job in jobs] == [n + 1 for n in range(10)]


def test_a_claim_whose_answer_cannot_be_decoded_is_looked_up(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    claim_one, failed = Jobs.claim_one, list[ObjectId]()

    async def garbled(self: Jobs, job: ObjectId, *args: Any, **more: Any) -> Any:
        collection = self._claims  # pyright: ignore[reportPrivateUsage]
        find_one_and_update = collection.find_one_and_update

        async def once(*args: Any, **more: Any) -> Any:
            await find_one_and_update(*args, **more)
            failed.append(job)
            raise InvalidBSON("bad eoo")

        if not failed:
            self._claims = SimpleNamespace(find_one_and_update=once, find=collection.find)  # type: ignore[assignment]
        try:
            return await claim_one(self, job, *args, **more)
        finally:
            self._claims = collection  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(Jobs, "claim_one", garbled)
    job = sample.add_async.submit(1)
    with Workers(queue):
        assert job.result(timeout=20) == 2
    assert failed == [ObjectId(job.id)]
    assert (len(job.record.attempts), job.record.claim_number) == (1, 1)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_job_whose_document_cannot_be_decoded_holds_up_no_other(
    queue: TaskQueue, settings: Settings, mongo: MongoClient[dict[str, Any]], caplog: pytest.LogCaptureFixture,
    concurrency: int,
) -> None:  # fmt: skip
    bad = sample.add_async.submit(1)
    others = [sample.add_async.submit(n) for n in range(8)]
    far = {"$set": {"payload.a": DatetimeMS(2**62)}}  # no datetime is so late
    mongo[settings.database_name]["jobs"].update_one({"_id": ObjectId(bad.id)}, far)
    with Workers(queue, settings=settings.replace(concurrency=concurrency)):
        assert [job.result(timeout=20) for job in others] == [n + 1 for n in range(8)]
        wait_until(lambda: lines(caplog, f"job {bad.id} cannot be run: its document cannot be decoded"))
