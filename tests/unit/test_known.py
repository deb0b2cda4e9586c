"""The catalogue as a server knows it, while MongoDB is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dtqkit import StoreUnavailable, UnknownTask
from dtqkit.direct import known
from dtqkit.direct.known import KnownTasks
from tests import sample


class Catalogue:
    """One task; away after the first look."""

    def __init__(self) -> None:
        self.catalogue = self
        self.looks = 0

    async def all(self) -> list[Any]:
        self.looks += 1
        if self.looks == 1:
            return [sample.add.info]
        await asyncio.sleep(0.2)
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
        with pytest.raises(UnknownTask):
            await tasks.check("nobody", {})
        return took, store.looks

    took, looks = asyncio.run(story())
    assert max(took) < 0.1
    assert looks == 2
