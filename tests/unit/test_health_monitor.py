"""What a server logs of health: no alarm about workers that are only starting, and each trouble once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from dtqkit.control import Health
from dtqkit.web import health_monitor
from dtqkit.web.drain import Drain
from dtqkit.web.health_monitor import HealthMonitor

FINE = Health(status="ok", redis="up", mongodb="up")
NOBODY = Health(status="degraded", redis="up", mongodb="up", reasons=("no worker is alive: jobs wait",))
NO_REDIS = Health(status="degraded", redis="down", mongodb="up", reasons=("Redis does not answer: jobs wait",))


def logged(
    looks: Sequence[Health], start_s: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """The lines about health when these are what a server finds, look by look."""
    left = list(looks)

    async def main() -> None:
        async def ask(_: object) -> Health:
            if len(left) == 1:
                over.set()
            return left.pop(0) if len(left) > 1 else left[0]

        over = asyncio.Event()
        control: Any = SimpleNamespace(ask=ask)
        running = asyncio.create_task(HealthMonitor(control, Drain(0.0)).run())
        await asyncio.wait_for(over.wait(), 10)  # what was found last is logged in the same turn
        running.cancel()

    monkeypatch.setattr(health_monitor, "LOOK_S", 0.0)
    monkeypatch.setattr(health_monitor, "START_S", start_s)
    caplog.clear()
    asyncio.run(main())
    return [record.message for record in caplog.records if record.message.startswith("health: ")]


def test_workers_that_are_only_starting_are_no_alarm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert logged([NOBODY, NOBODY, FINE, FINE], 60.0, monkeypatch, caplog) == []


def test_missing_workers_are_logged_once_and_again_after_they_were_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    line = "health: no worker is alive: jobs wait"
    assert logged([NOBODY, NOBODY, FINE, NOBODY, FINE], 0.0, monkeypatch, caplog) == [line, line]


def test_an_unreachable_store_is_logged_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert logged([NO_REDIS, FINE], 60.0, monkeypatch, caplog) == ["health: Redis does not answer: jobs wait"]
