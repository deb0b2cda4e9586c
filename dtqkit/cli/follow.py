"""`dtqkit jobs --follow`: a line for each change, as it comes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from datetime import UTC, datetime

from dtqkit.cli.show import STYLES, as_json, clock, duration, on_terminal
from dtqkit.events import Batch, JobEvent, Line, event_of
from dtqkit.queue import AsyncTaskQueue


async def follow_events(filters: Mapping[str, str | None], since: str | None, limit: int, *, json: bool) -> None:
    """Print the newest jobs, oldest first, then every event that fits, until a signal comes."""
    news: asyncio.Queue[Batch | Line] = asyncio.Queue()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncTaskQueue() as queue:
        page = await queue.jobs(**filters, since=since, limit=limit)
        unsubscribe = queue.control.subscribe(news.put_nowait)
        for job in reversed(page.items):
            _print(event_of(job), job.ended_at or job.started_at or job.claimed_at or job.created_at, json=json)
        printing = asyncio.create_task(_print_all(news, filters, json=json), name="print events")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({printing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unsubscribe()
            printing.cancel()
            stopping.cancel()
            await asyncio.gather(printing, stopping, return_exceptions=True)
        if not printing.cancelled() and (error := printing.exception()) is not None:
            raise error


async def _print_all(news: asyncio.Queue[Batch | Line], filters: Mapping[str, str | None], *, json: bool) -> None:
    while True:
        match await news.get():
            case Line():
                pass  # whoever listens logs that events are missed, and comes back by itself
            case Batch(jobs=events):
                for event in events:
                    if all(wanted is None or getattr(event, name) == wanted for name, wanted in filters.items()):
                        _print(event, datetime.now(UTC), json=json)


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

    line = Text.assemble(head, (f"{event.status:<9}", STYLES[event.status]), f"  {tail}")
    Console(highlight=False).print(line, soft_wrap=True)
