"""Repair what Redis lists: compare it with the record by count and, if counts differ or periodically, by id."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

import msgspec

from dtqkit.broker import Broker
from dtqkit.store import Store
from dtqkit.support.formatting import counted
from dtqkit.transitions.announce import relist
from dtqkit.transitions.cancel import cancel_waiting
from dtqkit.transitions.pause import list_released
from dtqkit.transitions.places import missing

log = logging.getLogger("dtqkit.recovery")


class Repairs(msgspec.Struct):
    """Numbers of repairs of an audit."""

    listed: int = 0
    rescored: int = 0
    pruned: int = 0
    cancelled: int = 0

    def summary(self) -> str:
        """One line for the log."""
        done = (
            (self.listed, "missing job listed", "missing jobs listed"),
            (self.rescored, "due time corrected", "due times corrected"),
            (self.pruned, "stale entry removed", "stale entries removed"),
            (self.cancelled, "job cancelled", "jobs cancelled"),
        )
        return ", ".join(counted(n, one, many) for n, one, many in done if n)


class Auditor:
    """Safe at any time and with two leaders at once: an id that is listed twice is claimed once."""

    def __init__(self, broker: Broker, store: Store) -> None:
        self._broker = broker
        self._store = store
        #: Called after each piece of the work.
        self.progressed: Callable[[], None] = lambda: None

    async def listed(self) -> int:
        """The number of ids that Redis lists."""
        return await self._broker.listed_count()

    async def rebuild(self, run_id: str) -> Repairs:
        """After Redis was emptied or restarted: list missing ids, then mark the lanes as complete."""
        nonce = secrets.token_hex(8)
        await self._broker.begin_epoch(nonce)
        repairs = await self.audit()
        if not await self._broker.finish_epoch(nonce, run_id):
            log.warning("Redis restarted or lost data while lanes were rebuilt; rebuilding again")
        return repairs

    async def audit(self) -> Repairs:
        """Compare by id. Redis is read before the record: so an id that the record does not know is not a new job."""
        await list_released(self._broker, self._store, await self._store.pauses.read())
        listed = await self._broker.listed(self.progressed)
        now_ms = self._store.now().timestamp() * 1000
        repairs = Repairs()
        waiting: set[str] = set()
        async for docs in self._store.scans.waiting():
            if to_cancel := [doc["_id"] for doc in docs if doc["drop"]]:
                repairs.cancelled += await cancel_waiting(self._broker, self._store, to_cancel)
            wait = (doc for doc in docs if not doc["drop"])
            found = missing(wait, listed, now_ms, self._broker.inflight_s)
            waiting.update(found.members)
            repairs.listed += found.listed
            repairs.rescored += found.rescored
            await relist(self._broker, found.places)
            self.progressed()
        repairs.pruned = await self._broker.prune(
            inflight={m: s for m, s in listed.inflight.items() if m not in waiting},
            scheduled={m: s for m, s in listed.scheduled.items() if m not in waiting},
            parked={m: s for m, s in listed.parked.items() if m not in waiting},
        )
        if repairs != Repairs():
            log.warning("lane audit repaired: %s", repairs.summary())
        return repairs
