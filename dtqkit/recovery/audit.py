"""Repair what Redis lists: compared with the record by count, and, where that differs or now and then, by id."""

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
from dtqkit.transitions.places import missing

log = logging.getLogger("dtqkit.recovery")


class Repairs(msgspec.Struct):
    """What an audit did."""

    listed: int = 0
    rescored: int = 0
    pruned: int = 0
    cancelled: int = 0

    def said(self) -> str:
        """What was done, in words."""
        done = (
            (self.listed, "job that was missing is listed again", "jobs that were missing are listed again"),
            (self.rescored, "due time is corrected", "due times are corrected"),
            (self.pruned, "entry of no waiting job is dropped", "entries of no waiting job are dropped"),
            (self.cancelled, "cancel is carried out", "cancels are carried out"),
        )
        return ", ".join(counted(n, one, many) for n, one, many in done if n)


class Auditor:
    """Every method may be run at any time, by two leaders at once: an id that is listed twice is claimed once."""

    def __init__(self, broker: Broker, store: Store) -> None:
        self._broker = broker
        self._store = store
        #: Called after each piece of the work.
        self.moved: Callable[[], None] = lambda: None

    async def listed(self) -> int:
        """How many ids Redis lists."""
        return await self._broker.listed_count()

    async def rebuild(self, run_id: str) -> Repairs:
        """After Redis was emptied or restarted: list what is missing, then say that the lanes are complete."""
        nonce = secrets.token_hex(8)
        await self._broker.begin_epoch(nonce)
        repairs = await self.audit()
        if not await self._broker.finish_epoch(nonce, run_id):
            log.warning("Redis changed while the lanes were rebuilt: once more")
        return repairs

    async def audit(self) -> Repairs:
        """By id. Redis is read before the record, so that what it lists and the record does not know is no new job."""
        listed = await self._broker.listed(self.moved)
        now_ms = self._store.now().timestamp() * 1000
        repairs = Repairs()
        waiting: set[str] = set()
        async for docs in self._store.surveys.waiting():
            if to_cancel := [doc["_id"] for doc in docs if doc.get("cancel_requested")]:
                repairs.cancelled += await cancel_waiting(self._broker, self._store, to_cancel)
            wait = (doc for doc in docs if not doc.get("cancel_requested"))
            found = missing(wait, listed, now_ms, self._broker.inflight_s)
            waiting.update(found.members)
            repairs.listed += found.listed
            repairs.rescored += found.rescored
            await relist(self._broker, found.places)
            self.moved()
        repairs.pruned = await self._broker.prune(
            inflight={m: s for m, s in listed.inflight.items() if m not in waiting},
            scheduled={m: s for m, s in listed.scheduled.items() if m not in waiting},
        )
        if repairs != Repairs():
            log.warning("lane audit: %s", repairs.said())
        return repairs
