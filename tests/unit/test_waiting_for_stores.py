"""How long a worker that starts waits for stores that do not answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dtqkit import Settings, StoreUnavailable
from dtqkit.cli import worker as command
from dtqkit.model.errors import Reason
from dtqkit.tasks.hooks import Hooks


def start(monkeypatch: pytest.MonkeyPatch, *, owner: int | None, reason: Reason, refusals: int) -> int:
    """How often it tried until it worked; StoreUnavailable when it gave up before."""
    tries: list[int] = []

    async def work(*_: object, **__: object) -> None:
        tries.append(1)
        if len(tries) <= refusals:
            raise StoreUnavailable("MongoDB", "", "…", reason=reason)

    monkeypatch.setattr(command, "work", work)
    monkeypatch.setattr(command, "STORES_S", 0.05)
    monkeypatch.setattr(command, "RETRY_S", 0.01)
    queue: Any = SimpleNamespace(settings=Settings(), registry=(), hooks=Hooks())
    restarter: Any = SimpleNamespace(outdated=None, due=True)
    leaving: Any = SimpleNamespace(worker=None)
    place = command.Place(queue, "m:queue", "w", ("high",), owner)
    wait = command._work_when_stores_answer(place, asyncio.Event(), restarter, leaving)  # pyright: ignore[reportPrivateUsage]
    asyncio.run(wait)
    return len(tries)


@pytest.mark.parametrize("reason", ["away", "electing", "refused"])
def test_a_worker_of_a_supervisor_outlives_a_refusal_of_any_length(
    monkeypatch: pytest.MonkeyPatch, reason: Reason
) -> None:
    assert start(monkeypatch, owner=1, reason=reason, refusals=50) == 51
    with pytest.raises(StoreUnavailable):  # its host starts it again
        start(monkeypatch, owner=None, reason=reason, refusals=50)


@pytest.mark.parametrize("reason", ["not_allowed", "misconfigured", "unsupported"])
def test_an_error_that_needs_a_person_is_not_retried(monkeypatch: pytest.MonkeyPatch, reason: Reason) -> None:
    with pytest.raises(StoreUnavailable):
        start(monkeypatch, owner=1, reason=reason, refusals=50)
