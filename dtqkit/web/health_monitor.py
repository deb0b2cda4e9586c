"""The stores' health, looked up in the background, so that probes do not reach the stores."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from dtqkit.control import Control, Health
from dtqkit.control.operations import HEALTH
from dtqkit.web.drain import Drain

log = logging.getLogger("dtqkit.web")

#: Time between two looks, in seconds.
LOOK_S: Final = 3.0
#: How long after its start a server logs nothing about workers, which may be starting too.
START_S: Final = 20.0
#: Time between two lines about a store that does not answer.
REMIND_S: Final = 10.0

_UNKNOWN: Final = Health(status="down", redis="down", mongodb="down", reasons=("the stores have not been checked yet",))


class HealthMonitor:
    """Keeps the stores' health, and logs when it changes."""

    def __init__(self, control: Control, drain: Drain) -> None:
        self._control = control
        self._drain = drain
        self._health = _UNKNOWN
        self.first_up = asyncio.Event()

    @property
    def health(self) -> Health:
        """As it was last looked up; a stopping server says so, and load balancers send no more requests."""
        if self._drain.begun:
            return msgspec.structs.replace(self._health, status="stopping", reasons=("this server is stopping",))
        return self._health

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        reminded = float("-inf")
        quiet_until = loop.time() + START_S
        said: tuple[str, ...] = ()
        while True:
            before, self._health = self._health, await self._control.ask(HEALTH)
            if self._health.status != "down":
                self.first_up.set()
            missing = " and ".join(
                name
                for name, state in (("MongoDB", self._health.mongodb), ("Redis", self._health.redis))
                if state == "down"
            )
            if missing and (before.reasons != self._health.reasons or loop.time() - reminded > REMIND_S):
                log.warning("waiting for %s: trying again every %.0f s", missing, LOOK_S)
                reminded = loop.time()
            elif not missing and "down" in (before.mongodb, before.redis) and before is not _UNKNOWN:
                log.info("both stores answer again")
            early = self._health.status == "degraded" and loop.time() < quiet_until and not missing
            if self._health.reasons != said and not early:
                said = self._health.reasons
                if said:
                    log.warning("health: %s", "; ".join(said))
            await asyncio.sleep(LOOK_S)
