"""The catalogue as a server knows it, while MongoDB is away."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from dtqkit import StoreUnavailable, UnknownTask
from dtqkit.transitions import known
from dtqkit.transitions.known import KnownTasks
from tests import sample


class Growing:
    """A task more with each look, after the first one."""

    def __init__(self) -> None:
        self.catalogue = self
        self.looks = 0

    async def all(self) -> list[Any]:
        self.looks += 1
        await asyncio.sleep(0.01)  # a look that takes its time
        known = msgspec.structs.replace(sample.add.info, name=f"add{self.looks}")
        return [sample.add.info] if self.looks == 1 else [sample.add.info, known]


def test_a_task_that_was_published_just_now_is_not_refused() -> None:
    async def story() -> int:
        store: Any = Growing()
        tasks = KnownTasks(store)
        await tasks.check("add", {"a": 1})
        await tasks.check("add2", {"a": 1})  # at once: the last reading is a moment old
        await tasks.check("add3", {"a": 1})
        return store.looks

    assert asyncio.run(story()) == 3


def test_many_refusals_share_few_readings_of_the_catalogue() -> None:
    async def story() -> tuple[int, float]:
        store: Any = Growing()
        tasks = KnownTasks(store)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await tasks.check("add", {"a": 1})
        refused = await asyncio.gather(*(tasks.check("nobody", {}) for _ in range(500)), return_exceptions=True)
        assert {type(error) for error in refused} == {UnknownTask}
        asked_at = loop.time()
        for _ in range(1_000):  # a batch
            with pytest.raises(UnknownTask):
                await tasks.check("nobody", {}, asked_at)
        return store.looks, loop.time() - began

    looks, took = asyncio.run(story())
    assert looks <= 4
    assert took < 10


class Catalogue:
    """One task; away after the first look."""

    def __init__(self) -> None:
        self.catalogue = self
        self.looks = 0

    async def all(self) -> list[Any]:
        self.looks += 1
        if self.looks == 1:
            return [sample.add.info]
        await asyncio.sleep(0.2)  # a look that takes its time
        raise StoreUnavailable("MongoDB", "mongodb://m", "away")


def test_an_old_catalogue_serves_at_once_while_it_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "FRESH_S", 0.0)

    async def story() -> tuple[list[float], int]:
        store: Any = Catalogue()
        tasks = KnownTasks(store)
        loop, took = asyncio.get_running_loop(), list[float]()
        for _ in range(5):
            started = loop.time()
            payload, _ = await tasks.check("add", {"a": 1})
            took.append(loop.time() - started)
            assert payload == {"a": 1}
            await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):  # what cannot be read may be old: that refuses nothing
            await tasks.check("nobody", {})
        return took, store.looks

    took, looks = asyncio.run(story())
    assert max(took) < 0.1
    assert looks == 3
