"""Submit what is to follow on jobs that ended, where the process that ended them died before it could."""

from __future__ import annotations

from collections.abc import Callable

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.recovery.task import ProgressLog
from dtqkit.store import Store
from dtqkit.transitions.followup import PIECE, submit_all


class FollowUpRounds:
    """A round when there may be some: of a new leader, after a worker died, and when a scan has seen one."""

    def __init__(self, broker: Broker, store: Store) -> None:
        self._broker = broker
        self._store = store
        self._wanted = True
        #: Called after each piece of the work.
        self.progressed: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Do a round at once."""
        self._wanted = True

    def due(self) -> bool:
        return self._wanted

    async def run(self) -> None:
        done = ProgressLog("submitted %d jobs of on_failure and on_success that a crash had left")
        self._wanted = False
        before: set[ObjectId] = set()
        try:
            while docs := await self._store.followups.left(PIECE):
                ids = {doc["_id"] for doc in docs}
                if ids <= before:  # what another program has written there cannot be cleared
                    break
                before = ids
                done.add(await submit_all(self._broker, self._store, docs, again=True))
                self.progressed()
                if len(docs) < PIECE:
                    break
        except BaseException:
            self._wanted = True
            raise
        finally:
            done.end()
