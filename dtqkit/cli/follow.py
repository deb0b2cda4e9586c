"""`dtqkit jobs --follow`: print a line when a job is submitted, retried or over. Starts are not published."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from dtqkit.cli.show import STYLES, as_json, clock, on_terminal
from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.control import JobFilters
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import Batch, JobEvent, Line, event_of
from dtqkit.support.cancel import end
from dtqkit.support.formatting import duration
from dtqkit.support.sanitize import escaped_line

#: How long the first listing waits for the subscription, in seconds.
SUBSCRIBE_S: Final = 3.0
#: Jobs whose last printed revision is remembered.
_REMEMBERED: Final = 10_000

#: The filters that can be applied to an event.
_OF_EVENTS: Final = ("status", "task", "priority", "worker")


async def follow_events(filters: JobFilters, *, json: bool) -> None:
    """Print the newest jobs, oldest first, then every event that fits, until a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncTaskQueue() as queue:
        following = asyncio.create_task(_Following(queue, filters, json=json).run(), name="print events")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(following, stopping)
        if not following.cancelled() and (error := following.exception()) is not None:
            raise error


class _Following:
    """Subscribes before it lists the jobs, so that no change is missed between the two.

    Lists them again after each reconnection, since events were missed. A change that comes both ways is printed once.
    """

    def __init__(self, queue: AsyncTaskQueue, filters: JobFilters, *, json: bool) -> None:
        self._queue = queue
        self._filters = filters
        self._wanted = {name: want for name in _OF_EVENTS if (want := filters.get(name)) is not None}
        self._json = json
        #: The last printed revision of each job.
        self._printed: dict[str, int] = {}

    async def run(self) -> None:
        changes: asyncio.Queue[Batch | Line] = asyncio.Queue()
        unsubscribe = self._queue.control.subscribe(changes.put_nowait)
        try:
            try:
                async with asyncio.timeout(SUBSCRIBE_S):
                    await changes.get()
            except TimeoutError:
                pass
            await self._list()  # also while Redis is unreachable: a log line reports that events are missed
            while True:
                match await changes.get():
                    case Line.UP:
                        with suppress(StoreUnavailable):  # events come all the same
                            await self._list()
                    case Line.DOWN:
                        pass
                    case Batch(jobs=events):
                        for event in events:
                            if all(getattr(event, name) == want for name, want in self._wanted.items()):
                                self._print(event, datetime.now(UTC))
        finally:
            unsubscribe()

    async def _list(self) -> None:
        page = await self._queue.jobs(**self._filters)
        for job in reversed(page.items):
            self._print(event_of(job), job.ended_at or job.started_at or job.claimed_at or job.created_at)

    def _print(self, event: JobEvent, when: datetime) -> None:
        if event.rev <= self._printed.get(event.id, 0):
            return
        self._printed.pop(event.id, None)
        self._printed[event.id] = event.rev
        if len(self._printed) > _REMEMBERED:
            del self._printed[next(iter(self._printed))]
        _print(event, when, json=self._json)


def _print(event: JobEvent, when: datetime, *, json: bool) -> None:
    if json:
        as_json(event)
        return
    run = duration(event.run_ms / 1000) if event.run_ms is not None else ""
    tail = "  ".join(part for part in (run, event.worker or "", event.error or "") if part)
    head = f"{clock(when)}  {event.id}  {event.task:<16} {event.priority:<6}  "
    if not on_terminal():
        print(f"{head}{event.status:<9}  {tail}".rstrip(), flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(
        escaped_line(head), (f"{event.status:<9}", STYLES.get(event.status, "")), escaped_line(f"  {tail}")
    )
    Console(highlight=False).print(line, soft_wrap=True)
