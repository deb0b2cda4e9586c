"""Close the minutes: the leader does; see `store.minutes`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from dtqkit.model.errors import StoreUnavailable
from dtqkit.store import Store
from dtqkit.store.minutes import LAG_S, MINUTE, minute_of

log = logging.getLogger("dtqkit.recovery")

#: How often old minutes are deleted and closed ones counted again, and the pause after a count that took too long.
_HOURLY: Final = timedelta(hours=1)
_PAUSE: Final = timedelta(seconds=30)
#: How often minutes are closed while little happens: each time costs MongoDB about four operations.
_QUIET_EVERY: Final = timedelta(minutes=10)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class MinuteRounds:
    """`run` may be called at any time: there is work once a minute, or once in ten."""

    def __init__(self, store: Store, retention_days: float) -> None:
        self._store = store
        self._retention = timedelta(days=retention_days)
        self._next = _LONG_AGO
        self._next_recount = _LONG_AGO
        self._next_expiry = _LONG_AGO
        self._postponed = False

    def due(self) -> bool:
        now = self._store.now()
        return now >= min(self._next, self._next_recount, self._next_expiry)

    async def run(self) -> None:
        """One piece of work. If MongoDB does not answer in time, it is retried later."""
        now = self._store.now()
        try:
            if now >= self._next and not await self._store.minutes.close(now):
                later = _QUIET_EVERY if self._store.minutes.quiet else MINUTE
                self._next = minute_of(now - timedelta(seconds=LAG_S)) + later + timedelta(seconds=LAG_S)
            if now >= self._next_recount and not await self._store.recount.run(now, now - self._retention):
                self._next_recount = now + _HOURLY
            if now >= self._next_expiry and not await self._store.minutes.expire(now - self._retention):
                self._next_expiry = now + _HOURLY
            self._postponed = False
        except StoreUnavailable as error:
            if not self._postponed:
                log.warning("counts of the last minutes are delayed: %s", error)
            self._postponed = True
            self._next = max(self._next, now + _PAUSE)
            self._next_recount = max(self._next_recount, now + _PAUSE)
            self._next_expiry = max(self._next_expiry, now + _PAUSE)
