"""Unique jobs under races and crashes of real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from typing_extensions import override

from dtqkit import BatchRefused, JobHandle, Settings, TaskQueue
from dtqkit.model import failpoints
from dtqkit.model.errors import OutcomeUnknown, StoreUnavailable
from dtqkit.model.failpoints import FailpointPlan
from dtqkit.store.slots import MAX_REPLACED
from dtqkit.transitions import unique
from tests import sample
from tests.command import environment
from tests.conftest import Mongo
from tests.wait import wait_until
from tests.workers import Workers

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_of_many_processes_that_submit_one_key_at_once_exactly_one_makes_the_job(settings: Settings) -> None:
    """100 rounds: python -m tests.faults.crowd --private --rounds 100."""
    command = [sys.executable, "-m", "tests.faults.crowd", "--processes", "64", "--rounds", "5"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(settings), capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert json.loads(done.stdout)["wrong"] == []


def test_a_replacement_and_a_start_exclude_each_other(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    """Whatever wins: each job runs with the payload in its record, and the last payload of each client is run."""

    @queue.task(unique="waiting", unique_key="k", on_duplicate="replace")
    async def latest(value: str) -> str:
        return value

    last: dict[str, str] = {}

    def submit(name: str) -> None:
        for number in range(60):
            last[name] = latest.submit(f"{name} {number}").id

    with Workers(queue):
        threads = [threading.Thread(target=submit, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        jobs = mongo[settings.database_name]["jobs"]
        wait_until(lambda: jobs.count_documents({"status": {"$ne": "completed"}}) == 0, timeout_s=30)
    docs: list[dict[str, Any]] = list(jobs.find())
    assert len(docs) > 1
    assert [doc for doc in docs if doc["result"] != doc["payload"]["value"]] == []
    made_or_found = len(docs) + sum(doc.get("duplicates", 0) for doc in docs)
    assert made_or_found == 180
    assert not any("unique_slot" in doc for doc in docs)
    assert set(last.values()) <= {str(doc["_id"]) for doc in docs}


def test_a_submit_whose_reply_is_lost_makes_one_job_when_it_is_sent_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mongo: Mongo
) -> None:
    """Also when its job has started meanwhile, so that its slot is free."""
    plan = FailpointPlan("unique.after=raise@1", None)
    monkeypatch.setattr(failpoints, "_plan", lambda: plan)
    with TaskQueue(settings) as queue:
        queue.include("tests.sample")
        with Workers(queue):
            job = sample.add.options(unique="waiting", on_duplicate="raise", wait_s=20).submit(1)
            assert job.result(timeout=20) == 2
            assert not job.was_duplicate
    assert mongo[settings.database_name]["jobs"].count_documents({}) == 1


def test_a_replacement_whose_reply_is_lost_is_made_once_though_its_job_starts_before_the_next_try(
    queue: TaskQueue, settings: Settings, monkeypatch: pytest.MonkeyPatch, mongo: Mongo
) -> None:
    jobs = mongo[settings.database_name]["jobs"]
    once = sample.add.options(unique="waiting", unique_key="k", on_duplicate="replace", wait_s=20)
    queue.include("tests.sample")
    first = once.submit(1)

    def start() -> None:
        # As a claim does: the slot is free at once.
        jobs.update_one({"_id": ObjectId(first.id)}, {"$set": {"status": "running"}, "$unset": {"unique_slot": ""}})

    class Lost(FailpointPlan):
        @override
        def hit(self, place: str) -> None:
            try:
                super().hit(place)
            except OutcomeUnknown:
                start()
                raise

    plan = Lost("unique.after=raise@1", None)
    monkeypatch.setattr(failpoints, "_plan", lambda: plan)
    again = once.submit(2)
    assert again.id == first.id
    assert again.was_duplicate
    assert [doc["payload"]["a"] for doc in jobs.find()] == [2]


@pytest.mark.parametrize("started", [False, True])
def test_a_replacement_whose_reply_is_lost_is_made_once_though_others_replace_it_before_the_next_try(
    queue: TaskQueue, settings: Settings, monkeypatch: pytest.MonkeyPatch, mongo: Mongo, started: bool
) -> None:
    """The job has the payload that came last, whether it waits still or runs."""
    jobs = mongo[settings.database_name]["jobs"]
    once = sample.add.options(unique="waiting", unique_key="k", on_duplicate="replace", wait_s=20)
    queue.include("tests.sample")
    first = once.submit(1)
    others: list[JobHandle[Any]] = []

    class Lost(FailpointPlan):
        @override
        def hit(self, place: str) -> None:
            try:
                super().hit(place)
            except OutcomeUnknown:
                monkeypatch.setattr(failpoints, "_plan", lambda: None)
                thread = threading.Thread(target=replace)
                thread.start()
                thread.join()
                raise

    def replace() -> None:
        with TaskQueue(settings) as other:
            other.include("tests.sample")
            others.extend(other.submit_many([once.bind(value)])[0] for value in (3, 4, 5))
        if started:
            jobs.update_one({"_id": ObjectId(first.id)}, {"$set": {"status": "running"}, "$unset": {"unique_slot": ""}})

    monkeypatch.setattr(failpoints, "_plan", lambda: Lost("unique.after=raise@1", None))
    again = once.submit(2)
    assert {again.id, *(other.id for other in others)} == {first.id}
    assert again.was_duplicate
    assert [doc["payload"]["a"] for doc in jobs.find()] == [5]
    assert again.refresh().record.payload["a"] == 5


@pytest.mark.parametrize("keyed", [False, True])
def test_a_replacement_with_a_key_is_done_once_though_others_replace_it(
    queue: TaskQueue, settings: Settings, mongo: Mongo, keyed: bool
) -> None:
    """As a client does that gets no answer, over HTTP too: the same key again, for which a new id is made."""
    jobs = mongo[settings.database_name]["jobs"]
    queue.include("tests.sample")

    def submit(value: int, key: str | None) -> JobHandle[int]:
        once = sample.add.options(unique="waiting", unique_key="k", on_duplicate="replace", idempotency_key=key)
        return once.submit(value)

    made = submit(2, "sent") if keyed else submit(1, None)
    submit(2, "sent")
    for value in (3, 4):
        submit(value, f"key {value}" if keyed else None)
    again = submit(2, "sent")
    assert (again.id, again.was_duplicate) == (made.id, True)
    jobs.update_one({"_id": ObjectId(made.id)}, {"$set": {"status": "running"}, "$unset": {"unique_slot": ""}})
    again = submit(2, "sent")
    assert (again.id, again.was_duplicate) == (made.id, True)
    assert [doc["payload"]["a"] for doc in jobs.find()] == [4]
    assert submit(5, None).id != made.id


def test_a_job_remembers_a_bounded_number_of_replacements(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    jobs = mongo[settings.database_name]["jobs"]
    once = sample.add.options(unique="waiting", unique_key="k", on_duplicate="replace")
    queue.include("tests.sample")
    first = once.submit(1)
    known = [ObjectId() for _ in range(MAX_REPLACED)]
    jobs.update_one({"_id": ObjectId(first.id)}, {"$set": {"replaced_by": ObjectId(), "replaced_before": known}})
    once.submit(2)
    (doc,) = jobs.find()
    assert len(doc["replaced_before"]) == MAX_REPLACED
    assert doc["replaced_before"][:-1] == known[1:]


def test_of_a_bulk_whose_insert_is_in_doubt_the_later_jobs_are_reported_as_not_sent(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = FailpointPlan("unique.after=raise@2", None)
    monkeypatch.setattr(failpoints, "_plan", lambda: plan)
    monkeypatch.setattr(unique, "PIECE", 2)
    queue.include("tests.sample")
    with pytest.raises(BatchRefused) as some:
        sample.add.options(unique="active", wait_s=0).map([1, 2, 3, 4, 5, 6])
    assert [handle.record.payload["a"] for handle in some.value.accepted] == [1, 2]
    errors = dict(some.value.refused)
    assert [isinstance(errors[i], OutcomeUnknown) for i in (2, 3, 4, 5)] == [True, True, False, False]
    assert isinstance(errors[5], StoreUnavailable)
    assert "not sent" in str(errors[5])
    assert "may be done" not in str(errors[5])
