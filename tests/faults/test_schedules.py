"""A leader is killed around each write of a tick, or stands still in one: no time is left out or run twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.faults import jobs
from tests.faults.test_failpoints import OF_SCHEDULES, both_sides
from tests.faults.world import World
from tests.wait import wait_until

#: Each tick has two writes of the schedule: its decision and its end.
PLACES = [
    *(f"{place}=kill@{turn}" for place in both_sides(OF_SCHEDULES) for turn in (1, 2)),
    *(f"{place}=kill" for place in both_sides(("insert", "push"))),
]


def times_of(world: World, name: str) -> list[datetime]:
    found = world.mongo[world.settings.database_name]["jobs"].find({"schedule": name})
    return sorted(doc["scheduled_for"] for doc in found)


def record_of(world: World, name: str) -> dict[str, Any]:
    found = world.mongo[world.settings.database_name]["schedules"].find_one({"_id": name})
    assert found is not None
    return found


def check(world: World, name: str) -> int:
    """Every time since it was made has one job; returns how many there are."""
    record, times = record_of(world, name), times_of(world, name)
    assert times == [record["anchor_at"] + timedelta(seconds=n + 1) for n in range(len(times))]
    assert record["next_at"] == record["anchor_at"] + timedelta(seconds=len(times) + 1)
    assert record.get("enqueued", 0) + len(record.get("pending", ())) == len(times)
    assert record.get("missed", 0) == record.get("skipped", 0) == 0
    return len(times)


def test_a_leader_may_be_killed_around_each_write_of_a_tick(world: World) -> None:
    world.queue.schedule("pulse", jobs.note.bind(1, world.ledger), every_s=1, catch_up_runs="all")
    for place in PLACES:
        worker = world.start("w1", fail=place, wait=False)
        wait_until(lambda worker=worker: not worker.alive, timeout_s=30, message=f"{place} is not reached")
        assert world.fired(place.partition("=")[0]), place
    before = len(times_of(world, "pulse"))
    world.start("w1")
    wait_until(lambda: record_of(world, "pulse").get("enqueued", 0) >= before + 2, timeout_s=30)
    world.queue.schedule_of("pulse").pause()
    wait_until(lambda: not record_of(world, "pulse").get("pending"))
    assert check(world, "pulse") >= before + 2


@pytest.mark.parametrize("place", ["tick.before", "tick.after", "insert.before", "insert.after"])
def test_a_leader_that_stands_still_in_a_tick_and_goes_on_later_is_harmless(world: World, place: str) -> None:
    """Meanwhile another one leads, and deals with the same times."""
    world.queue.schedule("pulse", jobs.note.bind(1, world.ledger), every_s=1, catch_up_runs="all", overlap="allow")
    late = world.start("w1", fail=f"{place}=stop", wait=False)
    wait_until(lambda: world.fired(place), timeout_s=30)
    world.start("w2")
    wait_until(lambda: record_of(world, "pulse").get("enqueued", 0) >= 2, timeout_s=30)
    late.resume()
    before = record_of(world, "pulse").get("enqueued", 0)
    wait_until(lambda: record_of(world, "pulse").get("enqueued", 0) >= before + 2, timeout_s=30)
    world.queue.schedule_of("pulse").pause()
    wait_until(lambda: not record_of(world, "pulse").get("pending"))
    assert check(world, "pulse") >= 4
