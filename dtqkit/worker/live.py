"""Show running jobs while they run: that they have begun, their progress, their log; through Redis, best effort."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from dtqkit.broker import Broker
from dtqkit.broker.broker import LIVE_S
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import ProgressEvent
from dtqkit.worker.attempt import RunningAttempt
from dtqkit.worker.claim import Claimed
from dtqkit.worker.settle import start_ms

log = logging.getLogger("dtqkit.worker")

INTERVAL_S: Final = 0.25
#: Lines of a log that are shown while it runs.
TAIL: Final = 50


class Live:
    """`running` gives the attempts that have begun. What ends sooner than a look comes is not shown."""

    def __init__(self, broker: Broker, running: Callable[[], Sequence[tuple[Claimed, RunningAttempt]]]) -> None:
        self._broker = broker
        self._running = running

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        #: When each running attempt was last shown.
        shown: dict[int, float] = {}
        while True:
            await asyncio.sleep(INTERVAL_S)
            now = loop.time()
            running = self._running()
            changed = [
                (id(attempt), _event(claimed, attempt))
                for claimed, attempt in running
                if attempt.attempt_log.dirty or now - shown.get(id(attempt), 0.0) > LIVE_S / 2
            ]
            shown = {id(attempt): shown[id(attempt)] for _, attempt in running if id(attempt) in shown}
            if not changed:
                continue
            shown |= dict.fromkeys((key for key, _ in changed), now)
            try:
                await self._broker.show([event for _, event in changed])
            except StoreUnavailable:
                log.debug("progress of %d jobs was not published: Redis is unreachable", len(changed))


def _event(claimed: Claimed, attempt: RunningAttempt) -> ProgressEvent:
    attempt_log = attempt.attempt_log
    attempt_log.dirty = False
    began_ms = start_ms(claimed, attempt.started)
    claimed_at = attempt.job.claimed_at  # naive, as a worker reads its claims
    return ProgressEvent(
        id=attempt.job.id,
        claim_number=attempt.job.claim_number,
        started_at=_aware(claimed_at, began_ms),
        progress=attempt_log.fraction,
        message=attempt_log.message,
        log=tuple(attempt_log.log()[-TAIL:]),
    )


def _aware(claimed_at: datetime | None, began_ms: int | None) -> datetime | None:
    if claimed_at is None or began_ms is None:
        return None
    return claimed_at.replace(tzinfo=UTC) + timedelta(milliseconds=began_ms)
