"""Submit what is to follow on jobs that ended, where the process that ended them died before it could."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dtqkit.broker import Broker
from dtqkit.recovery.task import Progress
from dtqkit.store import Store
from dtqkit.transitions.followup import PIECE, submit_all


class FollowUpRounds:
    """One round each `every_s`."""

    def __init__(self, broker: Broker, store: Store, every_s: float) -> None:
        self._broker = broker
        self._store = store
        self._every_s = every_s
        self._next = 0.0
        #: Called after each piece of the work.
        self.progressed: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """A new leader does a round at once."""
        self._next = 0.0

    def due(self) -> bool:
        return asyncio.get_running_loop().time() >= self._next

    async def run(self) -> None:
        done = Progress("submitted %d jobs of on_failure and on_success that a crash had left")
        began = asyncio.get_running_loop().time()
        try:
            while docs := await self._store.followups.left(PIECE):
                done.add(await submit_all(self._broker, self._store, docs))
                self.progressed()
                if len(docs) < PIECE:
                    break
            self._next = began + self._every_s
        finally:
            done.end()
