"""What a board is told while it is open: a snapshot, then news, gathered to at most five messages a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from dtqkit.control import Control
from dtqkit.control.operations import DEPTHS, SNAPSHOT, WORKERS
from dtqkit.errors import StoreUnavailable
from dtqkit.events import Batch, JobEvent, Line, ProgressEvent
from dtqkit.notebook.answers import built

log = logging.getLogger("dtqkit.notebook")

#: Seconds between two messages; between two looks at depths and workers; and between two snapshots that are kept for
#: a notebook that is saved.
TICK_S: Final = 0.2
LOOK_S: Final = 1.0
KEEP_S: Final = 5.0
#: Jobs that one message tells of; of more than that, the latest.
MOST: Final = 1000


class Feed:
    """Runs on the queue's private loop. `push` gets {snapshot} and {events}; `keep` a snapshot that can be saved."""

    def __init__(
        self, control: Control, push: Callable[[dict[str, Any]], None], keep: Callable[[dict[str, Any]], None]
    ) -> None:
        self._control = control
        self._push = push
        self._keep = keep
        self._news = asyncio.Event()
        self._events: dict[str, JobEvent] = {}
        self._progress: dict[str, ProgressEvent] = {}
        self._missed = True
        self._kept = True

    async def run(self) -> None:
        """Until it is cancelled."""
        unsubscribe = self._control.subscribe(self._heard)
        clock = asyncio.get_running_loop().time
        looked = kept = -KEEP_S
        try:
            while True:
                try:
                    if self._missed:
                        await self._begin()
                        looked = kept = clock()
                    elif clock() - looked >= LOOK_S:
                        looked = clock()
                        await self._look()
                    if not self._kept and clock() - kept >= KEEP_S:
                        kept = clock()
                        await self._save()
                except StoreUnavailable:
                    looked = clock()  # the board shows what it has; Line.UP or the next look puts it right
                self._tell()
                await self._wait()
        finally:
            unsubscribe()

    async def _wait(self) -> None:
        """One tick, or until there is news, whichever is later; then at the latest until the next look."""
        await asyncio.sleep(TICK_S)
        try:
            async with asyncio.timeout(LOOK_S):
                await self._news.wait()
        except TimeoutError:
            pass

    def _heard(self, batch: Batch | Line) -> None:
        if isinstance(batch, Line):
            self._missed |= batch is Line.UP
        else:
            for event in batch.jobs:
                known = self._events.get(event.id)
                if known is None or event.rev > known.rev:
                    self._events[event.id] = event
            for news in batch.progress:
                self._progress[news.id] = news
        self._news.set()

    async def _begin(self) -> None:
        snapshot = built(await self._control.ask(SNAPSHOT))
        self._missed = False
        self._push({"snapshot": snapshot})
        self._keep({"at": datetime.now(UTC).isoformat(), **snapshot})

    async def _save(self) -> None:
        self._keep({"at": datetime.now(UTC).isoformat(), **built(await self._control.ask(SNAPSHOT))})
        self._kept = True

    async def _look(self) -> None:
        depths, workers = await asyncio.gather(self._control.ask(DEPTHS), self._control.ask(WORKERS))
        self._push({"events": {"depths": built(depths), "workers": built(workers)}})

    def _tell(self) -> None:
        self._news.clear()
        if not self._events and not self._progress:
            return
        self._missed |= len(self._events) > MOST  # what is left out, a snapshot puts right
        events = list(self._events.values())[-MOST:]
        progress = list(self._progress.values())[-MOST:]
        self._events.clear()
        self._progress.clear()
        self._kept = False
        self._push({"events": {"jobs": msgspec.to_builtins(events), "progress": msgspec.to_builtins(progress)}})


async def feed(
    control: Control, push: Callable[[dict[str, Any]], None], keep: Callable[[dict[str, Any]], None]
) -> None:
    """Run a feed until it is cancelled; what breaks it is logged, since nobody else would hear of it."""
    try:
        await Feed(control, push, keep).run()
    except Exception:
        log.exception("the board is not told any more")
        raise
