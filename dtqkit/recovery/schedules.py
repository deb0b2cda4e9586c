"""The leader's round of schedules: sleeps until the next one is due, or one has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from dtqkit.broker import Broker
from dtqkit.broker.broker import Tick
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.schedules import Schedule
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.support.once import Once
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.transitions.enqueue import Enqueuer
from dtqkit.transitions.tick import Ticker

log = logging.getLogger("dtqkit.recovery")

#: Schedules that are dealt with side by side.
AT_ONCE: Final = 20


class ScheduleRounds:
    """`run` may be called at any time: who is due is read from the record."""

    def __init__(self, settings: Settings, broker: Broker, store: Store, enqueued: Callable[[int], None]) -> None:
        """`enqueued` is called with the number of schedules that were dealt with."""
        self._store = store
        self._settings = settings
        self._enqueued = enqueued
        # Payloads were checked when their schedules were made, and are again by the worker that runs the job: the code
        # of this process may be older than either.
        self._enqueuer = Enqueuer(settings, broker, store, TaskRegistry())
        self._ticker = Ticker(settings, broker, store, self._enqueuer)
        #: When the next one is due, by MongoDB's clock; None: no one is.
        self._next: datetime | None = None
        self._look_at = 0.0
        self._hint = ""
        self._said = Once()
        #: Ids of those that cannot be read or dealt with, until the next round or change: they would always be the
        #: first that are due, and keep the others from their turn.
        self._aside: list[Any] = []
        #: Called after each schedule.
        self.progressed: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """A new leader looks at once."""
        self._look_at = 0.0

    def seen(self) -> None:
        """There is a schedule that will be due: look, if that is not known here."""
        if self._next is None:
            self._look_at = 0.0

    def due(self, tick: Tick) -> bool:
        """Whether one is due before the next tick, one has changed, or a whole round has passed."""
        if tick.schedules != self._hint:
            self._hint = tick.schedules
            self._look_at = 0.0
        if asyncio.get_running_loop().time() >= self._look_at:
            return True
        soon = self._store.now() + timedelta(seconds=self._settings.heartbeat_s / 2)
        return self._next is not None and self._next <= soon

    async def run(self) -> None:
        """Deal with those that are due, as long as there are any."""
        loop = asyncio.get_running_loop()
        if self._next is not None and loop.time() < self._look_at:
            await asyncio.sleep((self._next - self._store.now()).total_seconds())
        if loop.time() >= self._look_at:
            self._aside = []
        self._look_at = loop.time() + self._settings.round_s
        try:
            again = True
            while again:
                look = await self._store.schedules.look(self._aside)
                self._aside += look.unreadable
                self._next = look.next_due
                again = bool(look.due or look.unreadable)  # when they are due next, this look does not know
                if look.now is not None and look.due:
                    await self._fire(look.due, look.now)
            if self._next is None and not self._aside:  # there are none: a new one is announced, or seen by a scan
                self._look_at = float("inf")
        except BaseException:
            self._look_at = 0.0
            raise

    async def _fire(self, due: list[Schedule], now: datetime) -> None:
        at_once = asyncio.Semaphore(AT_ONCE)

        async def fire(schedule: Schedule) -> None:
            async with at_once:
                await self._ticker.fire(schedule, now)
                self.progressed()

        found = await asyncio.gather(*(fire(schedule) for schedule in due), return_exceptions=True)
        self._enqueued(len(due))
        # One that fails does not keep the others from their turn.
        away: BaseException | None = None
        for schedule, error in zip(due, found, strict=True):
            if isinstance(error, Exception) and not isinstance(error, StoreUnavailable):
                self._set_aside(schedule, error)
            elif error is not None:
                away = error
        if away is not None:
            raise away

    def _set_aside(self, schedule: Schedule, error: Exception) -> None:
        self._aside.append(schedule.name)
        if self._said.first(schedule.name, schedule.rev):
            log.error(
                "schedule %s is left out for now, and tried again later: %r", schedule.name, error, exc_info=error
            )

    async def close(self) -> None:
        """Wait for writes in progress."""
        await self._enqueuer.close()
