"""Indexes that are missing, for whatever reason, come back; a collection with many jobs can be used meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pymongo._csot
import pytest

from dtqkit import Settings, TaskQueue
from dtqkit.control import StatsQuery
from dtqkit.store import Store, indexes
from tests import sample
from tests.conftest import Mongo
from tests.wait import wait_until

ALL = {"_id_", *(index.document["name"] for index in indexes.JOBS)}


def names(mongo: Mongo, settings: Settings) -> set[str]:
    return set(mongo[settings.database_name]["jobs"].index_information())


def opened(settings: Settings, then: Callable[[Store], Coroutine[Any, Any, None]] | None = None) -> None:
    async def run() -> None:
        store = Store(settings)
        await store.open()
        if then is not None:
            await then(store)
        await store.close()

    asyncio.run(run())


def test_indexes_that_were_dropped_are_made_at_the_next_open(settings: Settings, mongo: Mongo) -> None:
    opened(settings)
    assert names(mongo, settings) == ALL
    mongo[settings.database_name]["jobs"].drop_indexes()
    opened(settings)
    assert names(mongo, settings) == ALL
    mongo[settings.database_name]["jobs"].drop()
    opened(settings)
    assert names(mongo, settings) == ALL


def test_those_of_many_jobs_are_built_in_the_background(
    settings: Settings, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "SMALL", 0)
    go = asyncio.Event()
    built = indexes.create

    async def later(*args: Any) -> None:
        left = pymongo._csot.get_timeout()  # the deadline of opening is not that of building
        assert left is not None
        assert left > 3_600
        await go.wait()
        await built(*args)

    monkeypatch.setattr(indexes, "create", later)

    async def meanwhile(store: Store) -> None:
        assert names(mongo, settings) <= {"_id_"}
        go.set()
        for _ in range(500):
            if names(mongo, settings) == ALL:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(names(mongo, settings))

    opened(settings, meanwhile)


def test_a_queue_can_be_used_without_its_indexes(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    jobs = [sample.add.options(tags=["nightly"], idempotency_key=f"key {n}").submit(n) for n in range(3)]
    mongo[settings.database_name]["jobs"].drop_indexes()
    wanted: list[tuple[dict[str, str], int]] = [
        ({"q": "nightly"}, 3),
        ({"q": "key 1"}, 1),
        ({"q": jobs[0].id}, 1),
        ({"worker": "w"}, 0),
        ({"status": "pending"}, 3),
    ]
    for filters, n in wanted:
        assert len(queue.jobs(**filters).items) == n
    stats = queue.run(queue.core.control.stats(StatsQuery(window_s=60)))
    assert stats.submitted == 3


def test_an_index_that_cannot_be_built_keeps_no_other_away(settings: Settings, mongo: Mongo) -> None:
    twice = [{"task": "add", "idempotency_key": "same", "status": "pending"} for _ in range(2)]
    mongo[settings.database_name]["jobs"].insert_many(twice)
    opened(settings)
    assert names(mongo, settings) == ALL - {"key"}
    mongo[settings.database_name]["jobs"].delete_one({})
    wait_until(lambda: opened(settings) or names(mongo, settings) == ALL)
