"""`on_failure` and `on_success`: a task that is submitted, once, when a job has ended."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from unittest.mock import ANY

import pytest
from bson import ObjectId

from dtqkit import InvalidOption, Job, JobCancelled, JobEnd, JobFailed, Settings, TaskDefinitionError, TaskQueue, task
from dtqkit.broker import Broker
from dtqkit.store import Store
from dtqkit.transitions import followup
from tests import follow_tasks
from tests.command import answer
from tests.conftest import Mongo
from tests.follow_tasks import alert, archive, latest, slow, tick, work
from tests.serving import TOKEN, Server, publish
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture
def queue(queue: TaskQueue) -> TaskQueue:
    queue.include(follow_tasks)
    return queue


def followers(queue: TaskQueue, job_id: str) -> list[Job]:
    """What has followed on a job, once it has."""
    wait_until(lambda: queue.get(job_id).record.followed_by, timeout_s=20)
    return [queue.get(one).record for one in queue.get(job_id).record.followed_by]


def test_the_named_task_gets_how_the_job_ended(queue: TaskQueue, worker: Workers) -> None:
    good, bad = work.options(tags=["t"]).submit(3), work.submit(4, fail=True)
    assert good.result(timeout=20) == 6
    with pytest.raises(JobFailed):
        bad.result(timeout=20)
    [after_good], [after_bad] = followers(queue, good.id), followers(queue, bad.id)
    assert queue.get(after_good.id).result(timeout=20) == "work completed 6"
    assert queue.get(after_bad.id).result(timeout=20) == "work failed ValueError"
    assert (after_good.task, after_good.follows) == ("archive", good.id)
    assert after_good.payload["what"] == dict(
        zip(JobEnd.__struct_fields__, (good.id, "work", "completed", 1, ANY, 6, None, ["t"], []), strict=True)
    )
    assert after_good.payload["what"]["payload"] == {"n": 3}
    assert (after_bad.task, after_bad.priority, after_bad.max_attempts) == ("alert", "high", 7)
    end = after_bad.payload["end"]
    assert (end["status"], end["attempt"], end["result"]) == ("failed", 2, None)
    assert end["error"] == {"type": "ValueError", "message": "no 4"}
    assert queue.get(good.id).record.error is None


def test_a_call_names_other_tasks_than_its_task_and_one_may_take_nothing(queue: TaskQueue, worker: Workers) -> None:
    job = work.options(on_success=tick, on_failure="tick").submit(1)
    job.result(timeout=20)
    [after] = followers(queue, job.id)
    assert (after.task, after.payload) == ("tick", {})
    assert queue.get(after.id).result(timeout=20) == "tick"


def test_what_was_cancelled_or_has_expired_has_neither_failed_nor_completed(queue: TaskQueue, worker: Workers) -> None:
    running = slow.submit(30)
    wait_until(lambda: running.refresh().record.started_at is not None, timeout_s=20)
    waiting = work.options(delay_s=60).submit(1)
    for job in (running, waiting):
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result(timeout=20)
        assert job.refresh().record.followed_by == ()


def test_each_end_of_a_requeued_job_is_followed_once(queue: TaskQueue, worker: Workers) -> None:
    job = work.submit(5, fail=True)
    for n in (1, 2):
        wait_until(lambda n=n: len(queue.get(job.id).record.followed_by) == n, timeout_s=20)
        job.requeue()
    wait_until(lambda: len(queue.get(job.id).record.followed_by) == 3, timeout_s=20)
    ends = [queue.get(one).record.payload["end"]["attempt"] for one in queue.get(job.id).record.followed_by]
    assert ends == [2, 4, 6]
    assert len(queue.jobs(task="alert").items) == 3


def test_an_unknown_task_is_submitted_all_the_same_and_waits_for_a_worker(queue: TaskQueue, worker: Workers) -> None:
    job = work.options(on_success="not_there").submit(1)
    job.result(timeout=20)
    [after] = followers(queue, job.id)
    assert (after.task, after.status, after.payload["end"]["result"]) == ("not_there", "pending", 2)


def test_a_payload_or_result_that_is_large_is_left_out_and_named(queue: TaskQueue, worker: Workers) -> None:
    @queue.task(on_success=archive)
    async def large(text: str) -> str:
        return text * 2

    job = large.submit("x" * 40_000)
    job.result(timeout=20)
    [after] = followers(queue, job.id)
    what = after.payload["what"]
    assert (len(what["payload"]["text"]), what["result"], what["left_out"]) == (40_000, None, ["result"])


@pytest.mark.parametrize("follower", ["alert", "single"])
def test_what_a_crash_left_is_submitted_by_the_leader_under_the_same_id(
    queue: TaskQueue, mongo: Mongo, follower: str
) -> None:
    """Also where it has run already, and its slot is free again if it is unique."""
    with Workers(queue):
        job = work.options(on_failure=follower).submit(1, fail=True)
        [before] = followers(queue, job.id)
        queue.get(before.id).result(timeout=20)
    jobs = mongo[queue.settings.database_name]["jobs"]
    doc = jobs.find_one({"task": "work"})
    assert doc is not None
    left = {"on": "failure", "task": follower, "attempt": 2, "error": {"type": "ValueError", "message": "no 1"}}
    left |= {"token": doc["token"], "at": doc["ended_at"]}
    jobs.update_one({"_id": doc["_id"]}, {"$set": {"followups": [left], "followed_by": []}})
    with Workers(queue):
        [again] = followers(queue, job.id)
    assert (again.id, again.status) == (before.id, "completed")
    assert jobs.count_documents({"task": follower}) == 1
    assert jobs.count_documents({"followups.token": {"$exists": True}}) == 0


def test_what_cannot_be_read_holds_up_nothing_else_that_a_crash_left(
    queue: TaskQueue, mongo: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    with Workers(queue):
        for _ in range(2):
            tick.submit().result(timeout=20)
    jobs = mongo[queue.settings.database_name]["jobs"]
    good, hollow = list(jobs.find({}))
    del hollow["ended_at"]
    entry = {"on": "success", "task": "tick", "attempt": 1, "token": 1}
    wrong: list[Any] = [
        *({name: value for name, value in entry.items() if name != left} for left in entry if left != "token"),
        *({**entry, "token": odd} for odd in ("1", None, 1.5, {"a": 1}, [1])),
        *({**entry, "task": odd} for odd in (5, None, {"a": 1})),
        {**entry, "at": "today"},
        {**entry, "error": "no"},
    ]
    docs = [{**good, "followups": [one]} for one in wrong]
    docs += [{**good, "followups": {"token": token}} for token in (1, None)]
    docs += [{**hollow, "followups": [entry]}, {**good, "followups": [7, {"token": 9}, {"on": "success"}, entry]}]
    for doc in docs:
        doc.pop("_id", None)
    jobs.insert_many(docs)
    last = docs[-1]["_id"]
    with Workers(queue):
        assert [one.task for one in followers(queue, str(last))] == ["tick"]
        wait_until(lambda: jobs.count_documents({"followups.token": {"$exists": True}}) == 0)
    assert jobs.count_documents({"follows": {"$exists": True}}) == 1
    assert jobs.count_documents({"not_followed": {"$regex": "cannot be read"}}) == len(docs)
    assert str(docs[0]["_id"]) in caplog.text


@pytest.mark.parametrize(("follower", "counts"), [("alert", [1, 0, 1, 0]), ("single", [1, 0, 0, 0])])
def test_what_two_submit_at_once_counts_once(
    queue: TaskQueue, settings: Settings, follower: str, counts: list[int]
) -> None:
    jobs = [{"_id": ObjectId(), "task": "work", "payload": {"n": n}, "ended_at": datetime.now(UTC)} for n in (1, 2)]
    entry = {"on": "success", "task": follower, "attempt": 1, "token": 1}
    ended = [{**job, "followups": [entry]} for job in jobs]

    async def story() -> list[int]:
        broker, store = Broker(settings), Store(settings)
        try:
            await store.open()
            await store.catalogue.publish([one.info for one in queue.registry])
            return [await followup.submit_all(broker, store, some) for some in (ended[:1], ended[:1], ended, ended)]
        finally:
            await broker.close()
            await store.close()

    assert asyncio.run(story()) == counts


def test_a_follower_that_has_replaced_a_job_which_started_since_is_not_submitted_again(
    queue: TaskQueue, mongo: Mongo
) -> None:
    """A crash left it in the record."""
    with Workers(queue):
        job = work.options(on_failure=latest).submit(1, fail=True)
        [before] = followers(queue, job.id)
        queue.get(before.id).result(timeout=20)
    jobs = mongo[queue.settings.database_name]["jobs"]
    doc = jobs.find_one({"task": "work"})
    assert doc is not None
    # As if that job had been there, and the follower had replaced it.
    made = jobs.find_one_and_delete({"task": "latest"})
    assert made is not None
    jobs.insert_one({**made, "_id": ObjectId(), "replaced_by": made["_id"]})
    left = {"on": "failure", "task": "latest", "attempt": 2, "error": {"type": "ValueError", "message": "no 1"}}
    left |= {"token": doc["token"], "at": doc["ended_at"]}
    jobs.update_one({"_id": doc["_id"]}, {"$set": {"followups": [left], "followed_by": []}})
    with Workers(queue):
        followers(queue, job.id)
    assert jobs.count_documents({"task": "latest"}) == 1
    assert jobs.count_documents({"followups.token": {"$exists": True}}) == 0


def test_what_follows_on_a_job_that_was_requeued_meanwhile_is_submitted_all_the_same(
    queue: TaskQueue, mongo: Mongo
) -> None:
    with Workers(queue):
        job = work.options(on_failure=alert).submit(1, fail=True)
        followers(queue, job.id)
    jobs = mongo[queue.settings.database_name]["jobs"]
    doc = jobs.find_one({"task": "work"})
    assert doc is not None
    left = {"on": "failure", "task": "alert", "attempt": 2, "token": doc["token"], "at": doc["ended_at"]}
    jobs.update_one({"_id": doc["_id"]}, {"$set": {"followups": [left], "followed_by": []}})
    job.requeue()
    jobs.update_one({"_id": doc["_id"]}, {"$set": {"status": "scheduled", "due_at": datetime(2999, 1, 1, tzinfo=UTC)}})
    assert "ended_at" not in (jobs.find_one({"_id": doc["_id"]}) or {})
    with Workers(queue):
        assert [one.task for one in followers(queue, job.id)] == ["alert"]


@pytest.mark.parametrize("error", [InvalidOption("they do not go together"), RuntimeError("a mistake of ours")])
def test_a_job_that_cannot_follow_stops_no_worker(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(followup, "new_job", refuse)
    with Workers(queue):
        job = work.options(on_success=alert).submit(1)
        assert job.result(timeout=20) == 2
        wait_until(lambda: job.id in caplog.text or "try again" in caplog.text)
        tick.submit().result(timeout=20)
    assert queue.get(job.id).record.followed_by == ()


def test_plain_jobs_have_no_field_of_it(queue: TaskQueue, worker: Workers, mongo: Mongo) -> None:
    tick.submit().result(timeout=20)
    doc = mongo[queue.settings.database_name]["jobs"].find_one({})
    assert doc is not None
    assert not {name for name in doc if "follow" in name or name.startswith("on_")}


@pytest.mark.parametrize("hook", ["on_failure", "on_success"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (5, "is 5; it is a task or the name of one"),
        ("no name!", "is 'no name!'; it is a task or the name of one"),
        (len, "it is a task or the name of one"),
        (
            work,
            r": write a task that takes one argument, `end: dtqkit.JobEnd`, and submits work with .*work cannot follow",
        ),
    ],
)
def test_what_cannot_follow_is_refused_where_it_is_named(hook: str, wrong: Any, says: str) -> None:
    options: Any = {hook: wrong}
    with pytest.raises(TaskDefinitionError, match=rf"^act: {hook}.*{says}"):
        task(name="act", **options)(archive.function)
    with pytest.raises(InvalidOption, match=rf"^{hook}.*{says}"):
        work.options(**options)


def test_a_task_does_not_follow_on_itself() -> None:
    with pytest.raises(TaskDefinitionError, match="alert: on_failure is the task itself"):
        task(name="alert", on_failure="alert")(alert.function)


def test_over_http_and_on_the_command_line(queue: TaskQueue, settings: Settings) -> None:
    behind = settings.replace(token=TOKEN, port=0, ws_port=0)
    publish(behind, [one.info for one in queue.registry])
    with Server(behind) as server, TaskQueue.connect(server.http, token=TOKEN) as remote:
        accepted = server.post("/jobs", {"task": "work", "payload": {"n": 1}, "on_success": "tick"})
        assert (accepted.status, accepted.json["on_success"], accepted.json["on_failure"]) == (201, "tick", "alert")
        wrong = server.post("/jobs", {"task": "work", "payload": {"n": 1}, "on_success": "no name!"})
        assert (wrong.status, "on_success" in wrong.json["detail"]) == (400, True)
        with Workers(queue, settings=behind):
            [after] = followers(remote, accepted.json["id"])
        assert (after.task, after.follows) == ("tick", accepted.json["id"])
    app = "tests.follow_tasks:queue"
    given = answer("submit", app, "work", "n=1", "--on-failure", "tick", "--on-success", "alert", settings=settings)
    assert (given["on_failure"], given["on_success"]) == ("tick", "alert")


def test_the_record_that_it_gets_is_public() -> None:
    assert JobEnd.__struct_fields__[:4] == ("job", "task", "status", "attempt")
