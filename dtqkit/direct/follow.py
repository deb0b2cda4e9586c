"""Follow the events of the bus: one subscription for all subscribers of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from dtqkit.broker import Broker
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import Batch, Line
from dtqkit.support.cancel import end

log = logging.getLogger("dtqkit.queue")

MAX_PAUSE_S: Final = 2.0

Callback = Callable[[Batch | Line], None]


class EventSubscription:
    """Subscribes to Redis while it has subscribers; reconnects after Redis was away."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._callbacks: list[Callback] = []
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        self._callbacks.append(callback)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="follow events")

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
            if not self._callbacks and self._task is not None:
                self._task.cancel()
                self._task = None

        return unsubscribe

    async def close(self) -> None:
        self._callbacks.clear()
        if self._task is not None:
            await end(self._task)
            self._task = None

    async def _run(self) -> None:
        pause_s = 0.0
        while True:
            try:
                async for batch in self._broker.listen():
                    pause_s = 0.0
                    self._notify(Line.UP if batch is None else batch)
            except StoreUnavailable as error:
                if not pause_s:
                    log.warning("events are not received: %s", error)
                    self._notify(Line.DOWN)
                pause_s = min(MAX_PAUSE_S, pause_s * 2 or 0.05)
                await asyncio.sleep(pause_s)

    def _notify(self, batch: Batch | Line) -> None:
        for callback in list(self._callbacks):
            try:
                callback(batch)
            except Exception:
                log.exception("a subscriber raised on an event")
