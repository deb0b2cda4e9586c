"""One process leads: it holds a lock in Redis, and while it does, it runs the rounds. Two at once do no harm."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from typing import Final

from dtqkit.broker import Broker
from dtqkit.broker.broker import Tick
from dtqkit.errors import StoreUnavailable
from dtqkit.recovery.reap import Reaper
from dtqkit.recovery.silence import Silence
from dtqkit.settings import Settings
from dtqkit.store import Store

log = logging.getLogger("dtqkit.recovery")

#: Beats between two answers after which silence is judged anew.
_GAP_BEATS: Final = 1.5


class Leader:
    """A candidate until the lock is free, then the leader until it stops or loses the lock."""

    def __init__(self, settings: Settings, broker: Broker, store: Store, *, candidate: str, rng: random.Random) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store
        self._candidate = f"{candidate}-{secrets.token_hex(4)}"
        self._reaper = Reaper(broker, store, rng)
        self._silence = Silence(settings.silence_s, _GAP_BEATS * settings.heartbeat_s)
        self._vacant = asyncio.Event()
        self._mongodb_back_at = float("-inf")
        self._next_round = 0.0
        self.leads = False

    def heard(self, led: bool, scores: dict[str, str]) -> None:
        """What a beat of a worker in this process brought back: even a candidate watches, so as to be ready."""
        self._silence.observe(scores, asyncio.get_running_loop().time())
        if not led:
            self._vacant.set()

    async def run(self) -> None:
        """For ever; a store that is away is waited for."""
        try:
            while True:
                if not self.leads:
                    await self._vacant.wait()
                    self._vacant.clear()
                await self._tick()
                if self.leads:
                    await asyncio.sleep(self._settings.heartbeat_s / 2)
        finally:
            if self.leads:
                await self._resign()

    async def _resign(self) -> None:
        try:
            await self._broker.resign(self._candidate)
        except StoreUnavailable:
            pass  # the lock ends by itself

    async def _lead(self) -> Tick:
        tick = await self._broker.lead(self._candidate, self._settings.lock_s)
        if tick.leads:
            self._silence.observe(tick.scores, asyncio.get_running_loop().time())
        return tick

    async def _tick(self) -> None:
        try:
            tick = await self._lead()
        except StoreUnavailable as error:
            if self.leads:
                log.warning("cannot lead: %s", error)
            self.leads = False
            return
        if tick.leads != self.leads:
            log.info("%s %s", self._candidate, "leads" if tick.leads else "does not lead any more")
        self.leads = tick.leads
        if self.leads:
            await self._rounds()

    async def _rounds(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            for worker, score in self._silence.silent(now).items():
                await self._bury(worker, score)
            if now >= self._next_round and now >= self._mongodb_back_at:
                await self._reaper.law()
                self._next_round = now + self._settings.round_s
        except StoreUnavailable as error:
            log.warning("a round of recovery is put off: %s", error)
            # Workers could not renew either: they get the time to do so first.
            self._mongodb_back_at = asyncio.get_running_loop().time() + self._settings.round_s

    async def _bury(self, worker: str, score: str) -> None:
        async def still_silent() -> bool:
            tick = await self._lead()
            return tick.leads and self._silence.still(worker, score)

        docs = await self._store.jobs.running_of(worker)
        if docs:
            await self._reaper.of_silent(docs, still_silent)
        else:
            await self._broker.forget(worker, score)
