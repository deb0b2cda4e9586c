"""A kill around each write that makes a job follow on another: none is lost by it, and none is there twice."""

from __future__ import annotations

from pathlib import Path

from dtqkit import Settings, TaskQueue
from dtqkit.model.failpoints import LOG_VARIABLE, VARIABLE
from tests import follow_tasks
from tests.command import running
from tests.conftest import Mongo
from tests.follow_tasks import noted, slow, work
from tests.wait import wait_until

APP = "tests.follow_tasks:queue"
#: `lose`: that of a job whose worker was killed, by the leader.
PLACES = ("settle.after", "insert.before", "insert.after", "follow.before", "follow.after", "lose.after")


def test_each_end_is_followed_once_whatever_dies(
    queue: TaskQueue, settings: Settings, tmp_path: Path, mongo: Mongo
) -> None:
    queue.include(follow_tasks)
    jobs = mongo[settings.database_name]["jobs"]
    notes, fired = tmp_path / "notes", tmp_path / "fired"
    plain = {"FOLLOW_FILE": str(notes)}
    accepted: list[str] = []
    for place in PLACES:
        if place.startswith("lose"):
            accepted.append(slow.submit(30).id)
            with running("worker", APP, log=tmp_path / "log", settings=settings, **plain):
                wait_until(lambda: jobs.count_documents({"task": "slow", "status": "running"}) > 0, timeout_s=30)
        accepted += [work.submit(1).id, work.submit(2, fail=True).id]
        env = {**plain, VARIABLE: f"{place}=kill", LOG_VARIABLE: str(fired)}
        with running("worker", APP, log=tmp_path / "log", settings=settings, **env) as process:
            wait_until(
                lambda process=process: process.poll() is not None, timeout_s=30, message=f"{place}: not reached"
            )
        assert f" {place} kill" in fired.read_text()
    with running("worker", APP, log=tmp_path / "log", settings=settings, **plain):
        wait_until(lambda: jobs.count_documents({"status": {"$nin": ["completed", "failed"]}}) == 0, timeout_s=60)
        wait_until(lambda: jobs.count_documents({"followups.token": {"$exists": True}}) == 0, timeout_s=30)
    ended = {str(doc["_id"]): doc for doc in jobs.find({"task": {"$in": ["work", "slow"]}})}
    assert sorted(ended) == sorted(accepted)
    for job_id, doc in ended.items():
        found = list(jobs.find({"follows": job_id}))
        wanted = "archive" if doc["status"] == "completed" else "alert"
        assert [one["task"] for one in found] == [wanted], (job_id, doc["status"])
        assert doc["followed_by"] == [str(found[0]["_id"])]
    assert {one["job"] for one in noted(notes)} == set(accepted)
