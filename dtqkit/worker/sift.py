"""Take what must not start out of the lanes: jobs that are paused, and ids of jobs that are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dtqkit.broker import Broker
from dtqkit.broker.members import ids_of
from dtqkit.model.jobs import WAITING
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.transitions.pause import list_changed, park
from dtqkit.worker.pausing import KnownPauses

#: Ids that are sifted at a time.
SIFTED: Final = 500
#: Popped ids of one claim that are over from which on the lanes are sifted: somebody has cancelled many jobs.
_MANY: Final = 4


class Sifter:
    """One worker's. `due`: something in the lanes is in the way of what is behind it."""

    def __init__(self, broker: Broker, store: Store, pauses: KnownPauses) -> None:
        self._broker = broker
        self._store = store
        self._pauses = pauses
        self.due = False
        #: What the last sift has not put into the lanes, and is listed elsewhere.
        self.kept: set[str] = set()

    def dropped(self, count: int) -> None:
        """So many popped ids of one claim were over."""
        if count >= _MANY:
            self.due = True

    async def park(self, docs: Sequence[Document]) -> tuple[list[Document], set[str]]:
        """Of these waiting jobs, those that are not paused; and the members that are listed elsewhere now."""
        # Those that it looks by: others may be read meanwhile, and nothing is parked under a version for others.
        pauses, lanes = self._pauses.now, self._pauses.lanes
        held = await self._store.pauses.held(pauses, [doc["_id"] for doc in docs])
        paused = [doc for doc in docs if doc["_id"] in held and doc["priority"] in lanes]
        if not paused:
            return list(docs), set()
        self.due = True
        until_ms = [held[doc["_id"]] for doc in paused]
        kept = await park(self._broker, pauses.version, paused, until_ms)
        if kept is None:  # the pauses have changed since
            if await self._pauses.read_again():
                return list(docs), set()
            kept = await park(self._broker, None, paused, until_ms)
        else:
            await list_changed(self._broker, self._store, pauses, paused)
        return [doc for doc in docs if doc["_id"] not in held or doc["priority"] not in lanes], kept or set()

    async def sift(self, members: Sequence[str]) -> list[str]:
        """Park the paused ones of popped members. Returns those that go back to their lanes; the rest is over."""
        self.due = False
        docs = await self._store.jobs.status_of(ids_of(members))
        docs = [doc for doc in docs if doc["status"] in WAITING and not doc.get("cancel_requested")]
        self.kept = set()
        if self._pauses.now and docs:
            docs, self.kept = await self.park(docs)
        ids = {str(doc["_id"]) for doc in docs}
        left = [name for name in members if name.partition(":")[2] in ids]
        # Again, as long as it is worth it.
        self.due = 2 * len(left) < len(members)
        return left
