"""The changes of a queue for the clients of the stream: a message for each, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import msgspec

from dtqkit.control import Control
from dtqkit.control.changes import ChangeFeed
from dtqkit.control.json_form import plain
from dtqkit.model.events import Depths, Heartbeat, JobEvent, ProgressEvent, Snapshot
from dtqkit.model.messages import BEAT_S, BeatMessage, EventsMessage, LineMessage

#: Least time between two messages of events, in seconds.
EVENTS_S: Final = 0.1
#: Jobs in one message of events; when more have changed, everybody gets a snapshot instead.
MAX_CHANGED: Final = 2_000

_encoder = msgspec.json.Encoder()


class Listener(Protocol):
    """A client of the stream, as the hub sees it."""

    #: The jobs that it subscribes to; None: all.
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
    """The sink of one ChangeFeed for all clients of this process."""

    def __init__(self, control: Control) -> None:
        self._clients: set[Listener] = set()
        self._feed = ChangeFeed(control, self, pause_s=EVENTS_S, most=MAX_CHANGED)
        self._sent: tuple[Depths | None, Sequence[Heartbeat] | None] = (None, None)

    def __len__(self) -> int:
        return len(self._clients)

    async def run(self) -> None:
        """Send until cancelled; an error in one part ends all of it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed.run(), name="follow changes")
            group.create_task(self._beat(), name="beat")

    # -- clients

    def join(self, client: Listener) -> None:
        """A client that has said hello: it gets a snapshot that is taken after this, then the events since."""
        self._clients.add(client)
        self.refresh(client)
        self._feed.watch(True)

    def refresh(self, client: Listener) -> None:
        """The client has missed something: another snapshot."""
        self._feed.refresh(client)

    def leave(self, client: Listener) -> None:
        self._clients.discard(client)
        if not self._clients:
            self._feed.watch(False)

    def close(self) -> None:
        for client in list(self._clients):
            client.close_for_good()

    # -- as a sink

    def readers(self) -> Iterable[Listener]:
        return self._clients

    def changed(self, jobs: Sequence[JobEvent], progress: Sequence[ProgressEvent]) -> None:
        whole = _encoder.encode(EventsMessage(jobs=tuple(jobs), progress=tuple(progress)))

        def message(client: Listener) -> bytes | None:
            watched = client.watched
            if watched is None:
                return whole
            mine = EventsMessage(
                jobs=tuple(event for event in jobs if event.id in watched),
                progress=tuple(report for report in progress if report.id in watched),
            )
            return _encoder.encode(mine) if mine.jobs or mine.progress else None

        self._notify(message)

    def begin(self, snapshot: Snapshot, readers: set[Listener], *, up: bool) -> None:
        text = _encoder.encode({"type": "snapshot", **plain(snapshot)})
        for client in readers & self._clients:
            client.restart(text)
            if not up:
                client.put(_encoder.encode(LineMessage(up=False)))

    def looked(self, depths: Depths | None, workers: Sequence[Heartbeat] | None) -> None:
        depths = self._sent[0] if depths is None else depths
        workers = self._sent[1] if workers is None else workers
        if (depths, workers) != self._sent:
            self._sent = (depths, workers)
            found = None if workers is None else tuple(workers)
            text = _encoder.encode(EventsMessage(depths=depths, workers=found))
            self._notify(lambda _: text)

    def down(self) -> None:
        self._notify(lambda _: _encoder.encode(LineMessage(up=False)))

    def _notify(self, message: Callable[[Listener], bytes | None]) -> None:
        for client in list(self._clients):
            if (text := message(client)) is not None:
                client.put(text)

    async def _beat(self) -> None:
        """Send each client a heartbeat: a socket that was not closed may still be dead."""
        beat = _encoder.encode(BeatMessage())
        while True:
            await asyncio.sleep(BEAT_S)
            for client in list(self._clients):
                client.beat(beat)
