"""Show the progress and the log of running jobs while they run: a few times a second, through Redis, best effort."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from dtqkit.broker import Broker
from dtqkit.errors import StoreUnavailable
from dtqkit.events import ProgressEvent
from dtqkit.worker.attempt import Attempt

log = logging.getLogger("dtqkit.worker")

INTERVAL_S: Final = 0.25
#: Lines of a log that are shown while it runs.
TAIL: Final = 50


class Live:
    """`changed` gives the attempts that have something new to show."""

    def __init__(self, broker: Broker, changed: Callable[[], Sequence[Attempt]]) -> None:
        self._broker = broker
        self._changed = changed

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            attempts = self._changed()
            if not attempts:
                continue
            news: list[ProgressEvent] = []
            for attempt in attempts:
                trail = attempt.trail
                trail.dirty = False
                news.append(
                    ProgressEvent(
                        id=attempt.job.id,
                        token=attempt.job.token,
                        progress=trail.fraction,
                        message=trail.message,
                        log=tuple(trail.log()[-TAIL:]),
                    )
                )
            try:
                await self._broker.show(news)
            except StoreUnavailable:
                log.debug("the progress of %d jobs is not shown: Redis is away", len(news))
