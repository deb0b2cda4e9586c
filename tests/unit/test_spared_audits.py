"""A leader audits by id unless its last scan has counted that there is nothing to compare."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from dtqkit.model.settings import Settings
from dtqkit.recovery.leader import Leader
from dtqkit.store.recovery_scan import Counts, RecoveryScan


class Scans:
    """One scan after another."""

    def __init__(self, *counts: Counts | None) -> None:
        self._counts = list(counts)

    async def look(self, _: int) -> RecoveryScan:
        return RecoveryScan(counts=self._counts.pop(0), noticed=None, overdue=[], to_stop=[])


def due_after(*counts: Counts | None) -> tuple[bool, bool]:
    """Whether audits of lanes and of dead letters are due once these scans are over."""

    async def scenario() -> tuple[bool, bool]:
        stub: Any = None
        leader: Any = Leader(Settings(), stub, stub, candidate="w-1", rng=random.Random(1))
        leader._store = type("Store", (), {"scans": Scans(*counts)})()

        async def listed() -> int:
            return 0

        async def ask_to_stop(_: object) -> None: ...

        leader._auditor.listed = listed
        leader._broker = type("Broker", (), {"ask_to_stop": staticmethod(ask_to_stop)})()
        tick = type("Tick", (), {"epoch": "1", "run_id": "1", "pauses": ""})()
        for _ in counts:
            await leader._scan_at(0.0, recount=False, tick=tick)
        return leader._lanes_due(tick), leader._dead_letters_due(tick)

    return asyncio.run(scenario())


NOTHING = Counts(0, 0, 0)


def test_audits_are_spared_while_nothing_waits_is_listed_or_has_failed() -> None:
    assert due_after(NOTHING) == (False, False)
    assert due_after(Counts(1, 0, 0)) == (True, False)
    assert due_after(Counts(0, 1, 1)) == (False, True)


def test_a_scan_that_could_not_count_spares_none_whatever_an_earlier_one_found() -> None:
    assert due_after(NOTHING, None) == (True, True)
