"""Schedules on real stores: what is due is enqueued once, whatever its leader does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from dtqkit import (
    InvalidCron,
    InvalidPayload,
    InvalidSchedule,
    ScheduleNotFound,
    ScheduleTaken,
    Settings,
    TaskQueue,
    UnknownTask,
    UnknownZone,
)
from dtqkit.model.schedules import Definition
from tests import sample
from tests.wait import wait_until
from tests.workers import Workers

Mongo = MongoClient[dict[str, Any]]


def document(mongo: Mongo, settings: Settings, name: str) -> dict[str, Any]:
    found = mongo[settings.database_name]["schedules"].find_one({"_id": name})
    assert found is not None
    return found


def set_back(mongo: Mongo, settings: Settings, name: str, **fields: Any) -> None:
    """As if that had happened earlier."""
    mongo[settings.database_name]["schedules"].update_one({"_id": name}, {"$set": fields, "$inc": {"rev": 1}})


def jobs_of(mongo: Mongo, settings: Settings, name: str) -> list[dict[str, Any]]:
    found = mongo[settings.database_name]["jobs"].find({"schedule": name})
    return sorted(found, key=lambda doc: doc["scheduled_for"])


def test_a_schedule_runs_its_task_again_and_again_at_times_that_follow_from_each_other(
    queue: TaskQueue, worker: Workers
) -> None:
    schedule = queue.schedule("pulse", sample.add_async.bind(2), every_s=1)
    first = schedule.record.next_at
    assert first is not None
    runs = wait_until(lambda: len(found := schedule.runs()) >= 3 and found)
    assert runs
    times = [job.scheduled_for for job in reversed(runs)]
    assert times == [first + timedelta(seconds=n) for n in range(len(times))]
    assert {job.schedule for job in runs} == {"pulse"}
    assert queue.get(runs[-1].id).result(timeout=10) == 3
    record = schedule.refresh().record
    assert (record.missed, record.skipped, record.trouble) == (0, 0, "")
    schedule.remove()
    with pytest.raises(ScheduleNotFound, match="'pulse'"):
        schedule.refresh()


def test_a_task_knows_the_nominal_time_in_a_child_and_on_the_loop(queue: TaskQueue, worker: Workers) -> None:
    for task in (sample.nominal, sample.nominal_async):
        job = queue.schedule(task.name, task.bind(), cron="0 3 1 1 *").run_now()
        text = job.result(timeout=20)
        assert datetime.fromisoformat(text) == job.record.scheduled_for
        assert text.endswith("+00:00")
        assert task.submit().result(timeout=20) is None
