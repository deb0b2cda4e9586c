"""From the bus to the clients of the stream: coalesced, bounded, and corrected by snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from dtqkit.control import Control
from dtqkit.control.json_form import plain
from dtqkit.control.operations import DEPTHS, SNAPSHOT, WORKERS
from dtqkit.errors import StoreUnavailable
from dtqkit.events import Batch, Depths, Heartbeat, JobEvent, Line, ProgressEvent
from dtqkit.messages import BEAT_S, BeatMessage, EventsMessage, LineMessage

log = logging.getLogger("dtqkit.web")

#: Least time between two messages of events, between two snapshots, and between two looks at depths, in seconds.
EVENTS_S: Final = 0.1
SNAPSHOT_S: Final = 0.25
LOOK_S: Final = 1.0
#: Jobs in one message of events; when more have changed, everybody gets a snapshot instead.
MAX_CHANGED: Final = 2_000
#: Jobs whose last revision is remembered.
_REMEMBERED: Final = 20_000

_encoder = msgspec.json.Encoder()


class Listener(Protocol):
    """A client of the stream, as the hub sees it."""

    #: The jobs that it wants to hear of; None: all.
    watched: frozenset[str] | None

    def put(self, message: bytes) -> None:
        """Send, or queue."""
        ...

    def restart(self, snapshot: bytes) -> None:
        """Send a snapshot before what is queued."""
        ...

    def beat(self, message: bytes) -> None:
        """Send a beat before all else; leave it out when the client has not taken what came before."""
        ...

    def close_for_good(self) -> None: ...


class Hub:
    """One subscription for all clients of this process. `run()` sends; `heard()` collects."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._clients: set[Listener] = set()
        self._fresh: set[Listener] = set()
        self._jobs: dict[str, JobEvent] = {}
        self._progress: dict[str, ProgressEvent] = {}
        self._sent_rev: OrderedDict[str, int] = OrderedDict()
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()
        self._watched = asyncio.Event()
        self._up = False

    def __len__(self) -> int:
        return len(self._clients)

    # -- clients

    def join(self, client: Listener) -> None:
        """A client that has said hello: it gets a snapshot that is taken after this, then the events since."""
        self._clients.add(client)
        self.refresh(client)
        self._watched.set()

    def refresh(self, client: Listener) -> None:
        """The client has missed something: another snapshot."""
        self._fresh.add(client)
        self._wanted.set()

    def leave(self, client: Listener) -> None:
        self._clients.discard(client)
        self._fresh.discard(client)
        if not self._clients:
            self._watched.clear()

    def close(self) -> None:
        for client in list(self._clients):
            client.close_for_good()

    # -- events

    def heard(self, batch: Batch | Line) -> None:
        if isinstance(batch, Line):
            self._up = batch is Line.UP
            if self._up:
                for client in self._clients:
                    self.refresh(client)
            else:
                self._tell(lambda _: _encoder.encode(LineMessage(up=False)))
            return
        for event in batch.jobs:
            known = self._jobs.get(event.id)
            if event.rev > (known.rev if known else self._sent_rev.get(event.id, 0)):
                self._jobs[event.id] = event
        for news in batch.progress:
            known_news = self._progress.get(news.id)
            if known_news is None or news.token >= known_news.token:
                self._progress[news.id] = news
        if self._jobs or self._progress:
            self._news.set()

    # -- sending

    async def run(self) -> None:
        """Send for as long as this runs; whatever breaks a part of it, breaks it."""
        unsubscribe = self._control.subscribe(self.heard)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_events(), name="send events")
                group.create_task(self._send_snapshots(), name="send snapshots")
                group.create_task(self._look(), name="look at depths")
                group.create_task(self._beat(), name="beat")
        finally:
            unsubscribe()

    async def _send_events(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            started = time.process_time()
            self._flush()
            # A fan-out that takes much work is done less often, so that most of the time stays for everything else.
            await asyncio.sleep(max(EVENTS_S, 2 * (time.process_time() - started)))

    def _flush(self) -> None:
        jobs, self._jobs = self._jobs, {}
        progress, self._progress = self._progress, {}
        for event in jobs.values():
            self._sent_rev[event.id] = event.rev
            self._sent_rev.move_to_end(event.id)
        while len(self._sent_rev) > _REMEMBERED:
            self._sent_rev.popitem(last=False)
        if len(jobs) + len(progress) > MAX_CHANGED:
            for client in self._clients:
                self.refresh(client)
            return
        all_jobs = sorted(jobs.values(), key=lambda event: event.rev)
        whole = _encoder.encode(EventsMessage(jobs=tuple(all_jobs), progress=tuple(progress.values())))

        def message(client: Listener) -> bytes | None:
            watched = client.watched
            if watched is None:
                return whole
            mine = EventsMessage(
                jobs=tuple(event for event in all_jobs if event.id in watched),
                progress=tuple(news for news in progress.values() if news.id in watched),
            )
            return _encoder.encode(mine) if mine.jobs or mine.progress else None

        self._tell(message)

    def _tell(self, message: Callable[[Listener], bytes | None]) -> None:
        for client in list(self._clients):
            if (text := message(client)) is not None:
                client.put(text)

    async def _send_snapshots(self) -> None:
        """One look at the queue for all who came before it was begun."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            waiting, self._fresh = self._fresh, set()
            try:
                snapshot = await self._control.ask(SNAPSHOT)
            except StoreUnavailable as error:
                log.info("no snapshot: %s", error)
                self._fresh |= waiting & self._clients
                self._wanted.set()
                await asyncio.sleep(LOOK_S)
                continue
            text = _encoder.encode({"type": "snapshot", **plain(snapshot)})
            for client in waiting & self._clients:
                client.restart(text)
                if not self._up:
                    client.put(_encoder.encode(LineMessage(up=False)))
            await asyncio.sleep(SNAPSHOT_S)

    async def _beat(self) -> None:
        """Show every client that the path to it works: a socket that nobody closed may still be dead."""
        beat = _encoder.encode(BeatMessage())
        while True:
            await asyncio.sleep(BEAT_S)
            for client in list(self._clients):
                client.beat(beat)

    async def _look(self) -> None:
        """Depths and workers for as long as somebody watches, told when they have changed."""
        told: tuple[Depths | None, tuple[Heartbeat, ...] | None] = (None, None)
        while True:
            await self._watched.wait()
            depths, workers = told
            with contextlib.suppress(StoreUnavailable):  # `vitals` tells of it
                depths = await self._control.ask(DEPTHS)
            with contextlib.suppress(StoreUnavailable):  # Redis alone knows them; the depths are told without it
                workers = tuple(await self._control.ask(WORKERS))
            if (depths, workers) != told:
                told = (depths, workers)
                text = _encoder.encode(EventsMessage(depths=depths, workers=workers))
                self._tell(lambda _, text=text: text)
            await asyncio.sleep(LOOK_S)
