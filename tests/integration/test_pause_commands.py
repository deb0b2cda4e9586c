"""`dtqkit pause`, `resume`, `pauses`, and the commands that change one job or all that match."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from dtqkit import Settings, TaskQueue
from tests import sample
from tests.command import answer, dtqkit
from tests.conftest import Mongo
from tests.serving import publish


@pytest.fixture(autouse=True)
def published(settings: Settings, queue: TaskQueue) -> None:
    publish(settings, [task.info for task in queue.registry])


def test_a_pause_goes_from_its_begin_to_its_end(settings: Settings, queue: TaskQueue) -> None:
    job = sample.add.submit(7)
    made = answer(
        *("pause", "--task", "add", "--where", "a=7", "--until", "2h", "--reason", "the printer is down"),
        settings=settings,
    )
    assert (made["where"], made["reason"]) == ({"a": 7}, "the printer is down")
    (listed,) = answer("pauses", settings=settings)
    assert (listed["id"], listed["waiting"]) == (made["id"], 1)
    shown = dtqkit("job", job.id, settings=settings).stdout
    assert "task 'add' where a=7 is paused since" in shown
    assert "the printer is down" in shown
    assert "task 'add' where a=7" in dtqkit("pauses", settings=settings).stdout
    assert dtqkit("resume", "--task", "add", "--where", "a=7", settings=settings).stdout == (
        "task 'add' where a=7 is not paused any more\n"
    )
    assert dtqkit("pauses", settings=settings).stdout == "nothing is paused\n"


def test_paused_jobs_are_shown_as_such_in_listings_and_in_notebooks(
    settings: Settings, queue: TaskQueue, mongo: Mongo
) -> None:
    held, free, later = sample.add.submit(7), sample.add.submit(8), sample.add.options(delay_s=600).submit(7)
    queue.pause(task="add", where={"a": 7}, reason="the printer is down")
    rows = {line.split()[0]: line.split() for line in dtqkit("jobs", settings=settings).stdout.splitlines()[1:]}
    assert [rows[job.id][3] for job in (held, free, later)] == ["paused", "pending", "paused"]
    assert answer("jobs", settings=settings)["items"][-1]["status"] == "pending"
    # One that has just been submitted is not looked up
    assert repr(held) == f"<job {held.id} add pending>"
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    jobs = mongo[settings.database_name]["jobs"]
    jobs.update_many({"status": "pending"}, {"$set": {"created_at": long_ago}, "$inc": {"rev": 1}})
    assert repr(held.refresh()).startswith(f"<job {held.id} add pending, task 'add' where a=7 is paused since")
    assert "the printer is down" in (held._repr_html_() or "")
    assert repr(free.refresh()) == f"<job {free.id} add pending>"
    queue.resume(task="add", where={"a": 7})
    assert repr(held) == f"<job {held.id} add pending>"


def test_why_a_bulk_left_jobs_as_they_are_is_said(settings: Settings, queue: TaskQueue, mongo: Mongo) -> None:
    sample.add.options(expires_s=60).submit(1)
    late = dtqkit("update", "--task", "add", "--to-delay", "90", settings=settings)
    assert "or would expire before the delay ends: give a shorter one" in late.stderr
    once = sample.noop.options(unique="active", unique_key="k")
    dead = once.submit()
    jobs = mongo[settings.database_name]["jobs"]
    over = {"status": "failed", "death_seq": 1, "ended_at": datetime.now(UTC)}
    jobs.update_one({"_id": ObjectId(dead.id)}, {"$set": over, "$unset": {"unique_slot": ""}})
    once.submit()
    taken = dtqkit("requeue", "--dead", "--task", "noop", settings=settings)
    assert "they are unique and another job has their key: `dtqkit requeue ID` names it" in taken.stderr
    jobs.update_one({"_id": ObjectId(dead.id)}, {"$set": {"unique_until": datetime.now(UTC) + timedelta(hours=1)}})
    kept = dtqkit("delete", "--task", "noop", settings=settings)
    assert "they are unique and kept until their window is over" in kept.stderr
    assert (late.returncode, taken.returncode, kept.returncode) == (1, 1, 1)


def test_one_job_and_many_are_changed(settings: Settings, queue: TaskQueue) -> None:
    jobs = sample.add.map(range(5))
    one = jobs[0].id
    changed = answer("update", one, "--to-priority", "high", "--to-tag", "x", settings=settings)
    assert (changed["priority"], changed["tags"]) == ("high", ["x"])
    moved = ("update", "--task", "add", "--priority", "medium", "--to-priority", "low")
    assert dtqkit(*moved, "--dry-run", settings=settings).stdout == "4 jobs match\n"
    assert answer(*moved, settings=settings)["changed"] == 4
    assert answer("cancel", one, settings=settings)["status"] == "cancelled"
    cancelled = dtqkit("cancel", "--status", "pending", settings=settings)
    assert cancelled.stdout == "4 of 4 jobs cancelled\n"
    assert dtqkit("delete", "--task", "add", settings=settings).stdout == "5 of 5 jobs deleted\n"


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["cancel"], 2, "give the ID of one job, or filters, or --all"),
        (["cancel", "0" * 24, "--task", "add"], 2, "either the ID of one job or filters"),
        (["delete"], 2, "or all=True"),
        (["pause", "--task", "adt"], 2, "did you mean 'add'"),
        (["pause", "--task", "add", "--until", "tomorrow"], 2, "--until is 'tomorrow'"),
        (["resume", "--lane", "low"], 2, "lane 'low' is not paused; nothing is paused"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_is_said_in_one_line(settings: Settings, given: list[str], code: int, said: str) -> None:
    done: Any = dtqkit(*given, settings=settings)
    assert done.returncode == code, done
    assert said in done.stderr


def test_a_bounded_wait_for_a_paused_job_ends_and_names_the_command_that_resumes_it(
    settings: Settings, queue: TaskQueue
) -> None:
    queue.pause(task="add", where={"a": 7})
    submit = ("submit", "tests.sample:queue", "add", "a=7", "--wait")
    done = dtqkit(*submit, "--wait-timeout", "4s", settings=settings)
    assert done.returncode == 1
    assert "the job waits until it is resumed: `dtqkit resume --task add --where a=7`" in done.stderr
    assert "is not over after 4 s: it is pending" in done.stderr
    assert "Traceback" not in done.stderr
    assert dtqkit("resume", "--task", "add", "--where", "a=7", settings=settings).returncode == 0
    for more, named in ((submit[:-1], "give both"), (submit, "no time to wait")):
        refused = dtqkit(*more, "--wait-timeout", "-1", settings=settings)
        assert (refused.returncode, named in refused.stderr) == (2, True)


def test_times_of_options_may_have_a_unit(settings: Settings, queue: TaskQueue) -> None:
    job = answer("submit", "tests.sample:queue", "add", "a=7", "--delay", "10m", "--expires", "1h", settings=settings)
    record = queue.get(job["id"]).record
    assert record.due_at is not None
    assert timedelta(minutes=9) < record.due_at - datetime.now(UTC) < timedelta(minutes=11)
    assert record.expires_s == 3600
    later = answer("update", job["id"], "--to-delay", "30m", settings=settings)
    assert later["status"] == "scheduled"
    wrong = dtqkit("submit", "tests.sample:queue", "add", "a=7", "--delay", "10x", settings=settings)
    assert (wrong.returncode, "'10x' is no time" in wrong.stderr) == (2, True)
