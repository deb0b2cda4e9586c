"""A queue opens its stores at its first use: also when its waiter is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from dtqkit import Settings, StoreUnavailable
from dtqkit.control.operations import HEALTH
from dtqkit.direct.control import DirectControl
from dtqkit.tasks.registry import TaskRegistry
from tests.wait import wait_until_async

# pyright: reportPrivateUsage=false


class Opening:
    """Goes on until it is let go, and fails the first time."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.go = asyncio.Event()

    async def __call__(self, *_: object) -> None:
        self.begun += 1
        nth = self.begun
        try:
            await self.go.wait()
            if nth == 1:
                raise StoreUnavailable("MongoDB", "", "no server answers")
        finally:
            self.ended += 1


def test_an_opening_that_failed_after_its_waiter_was_cancelled_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        opening = Opening()
        queue = DirectControl(Settings(), TaskRegistry())
        monkeypatch.setattr(queue._parts.stores, "open", opening)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue._parts.open(), 0.01)
        opening.go.set()
        await wait_until_async(lambda: opening.ended == 1)
        await queue._parts.open()
        await queue._parts.open()
        assert opening.begun == 2
        await queue.close()

    asyncio.run(scenario())


def test_a_look_at_health_that_closing_ends_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is stopped before its stores have answered, for example."""

    async def scenario() -> None:
        opening = Opening()
        queue = DirectControl(Settings(redis_url="redis://127.0.0.1:9/0"), TaskRegistry())
        monkeypatch.setattr(queue._parts.stores, "open", opening)
        looking = asyncio.create_task(queue.ask(HEALTH))
        await wait_until_async(lambda: opening.begun == 1)
        await queue.close()
        await looking

    asyncio.run(scenario())
    assert "a check of a store failed" not in caplog.text


def test_closing_ends_an_opening_and_raises_to_its_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        opening = Opening()
        queue = DirectControl(Settings(), TaskRegistry())
        monkeypatch.setattr(queue._parts.stores, "open", opening)
        waiter = asyncio.create_task(queue._parts.open())
        await wait_until_async(lambda: opening.begun == 1)
        await queue.close()
        assert opening.ended == 1
        with pytest.raises(RuntimeError, match="this queue is closed"):
            await waiter

    asyncio.run(scenario())
