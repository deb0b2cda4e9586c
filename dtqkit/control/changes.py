"""The changes of a queue, for a board or a stream: coalesced, bounded, and corrected by snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final, Protocol

from dtqkit.control import Control
from dtqkit.control.operations import DEPTHS, SNAPSHOT, WORKERS
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import Batch, Depths, Heartbeat, JobEvent, Line, ProgressEvent, Snapshot

log = logging.getLogger("dtqkit.queue")

#: Least time between two snapshots, and between two looks at depths and workers, in seconds.
SNAPSHOT_S: Final = 0.25
LOOK_S: Final = 1.0
#: Jobs whose last revision is remembered.
_REMEMBERED: Final = 20_000


class Sink(Protocol):
    """Shows the changes to one reader or to many."""

    def readers(self) -> Iterable[Hashable]:
        """All readers, each of whom needs a snapshot when events were missed."""
        ...

    def changed(self, jobs: Sequence[JobEvent], progress: Sequence[ProgressEvent]) -> None:
        """What has changed since the last call, each job once, in the order of revisions."""
        ...

    def begin(self, snapshot: Snapshot, readers: set[Any], *, up: bool) -> None:
        """A snapshot for these readers; `up`: whether events come."""
        ...

    def looked(self, depths: Depths | None, workers: Sequence[Heartbeat] | None) -> None:
        """The present state; None where it is not known."""
        ...

    def down(self) -> None:
        """No events come until the next snapshot."""
        ...


class ChangeFeed:
    """One subscription. Of a job that changes often, the sink gets the last change, at most every `pause_s`.

    When more than `most` jobs have changed meanwhile, or events may have been missed, it gets a snapshot instead.
    """

    def __init__(self, control: Control, sink: Sink, *, pause_s: float, most: int) -> None:
        self._control = control
        self._sink = sink
        self._pause_s = pause_s
        self._most = most
        self._fresh: set[Hashable] = set()
        self._jobs: dict[str, JobEvent] = {}
        self._progress: dict[str, ProgressEvent] = {}
        self._sent_rev: OrderedDict[str, int] = OrderedDict()
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._watched = asyncio.Event()
        self._up = False

    # -- readers

    def refresh(self, reader: Hashable) -> None:
        """A reader that is new or has missed something: it gets a snapshot that is taken after this."""
        self._fresh.add(reader)
        self._wanted.set()

    def watch(self, watched: bool) -> None:
        """Look at depths and workers while there are readers."""
        if watched:
            self._watched.set()
        else:
            self._watched.clear()

    def _refresh_all(self) -> None:
        for reader in self._sink.readers():
            self.refresh(reader)

    # -- events

    def receive(self, batch: Batch | Line) -> None:
        if isinstance(batch, Line):
            self._up = batch is Line.UP
            if self._up:
                self._refresh_all()
            else:
                self._sink.down()
            return
        for event in batch.jobs:
            known = self._jobs.get(event.id)
            if event.rev > (known.rev if known else self._sent_rev.get(event.id, 0)):
                self._jobs[event.id] = event
        for report in batch.progress:
            known_report = self._progress.get(report.id)
            if known_report is None or report.claim_number >= known_report.claim_number:
                self._progress[report.id] = report
        if self._jobs or self._progress:
            self._changed.set()

    # -- to the sink

    async def run(self) -> None:
        """Run until cancelled; an error in one part ends all of it."""
        unsubscribe = self._control.subscribe(self.receive)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_changes(), name="send events")
                group.create_task(self._send_snapshots(), name="send snapshots")
                group.create_task(self._look(), name="look at depths")
        finally:
            unsubscribe()

    async def _send_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            started = time.process_time()
            self._flush()
            # At most a third of the CPU: the pause is twice the time that the last fan-out took.
            await asyncio.sleep(max(self._pause_s, 2 * (time.process_time() - started)))

    def _flush(self) -> None:
        jobs, self._jobs = self._jobs, {}
        progress, self._progress = self._progress, {}
        for event in jobs.values():
            self._sent_rev[event.id] = event.rev
            self._sent_rev.move_to_end(event.id)
        while len(self._sent_rev) > _REMEMBERED:
            self._sent_rev.popitem(last=False)
        if len(jobs) + len(progress) > self._most:
            self._refresh_all()
        else:
            self._sink.changed(sorted(jobs.values(), key=lambda event: event.rev), tuple(progress.values()))

    async def _send_snapshots(self) -> None:
        """One look at the queue for all readers that came before it began."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            waiting, self._fresh = self._fresh, set()
            try:
                snapshot = await self._control.ask(SNAPSHOT)
            except StoreUnavailable as error:
                log.info("no snapshot: %s", error)
                self._fresh |= waiting.intersection(self._sink.readers())
                self._wanted.set()
                await asyncio.sleep(LOOK_S)
                continue
            self._sink.begin(snapshot, waiting, up=self._up)
            await asyncio.sleep(SNAPSHOT_S)

    async def _look(self) -> None:
        """Depths and workers for as long as there are readers."""
        while True:
            await self._watched.wait()
            depths: Depths | None = None
            workers: tuple[Heartbeat, ...] | None = None
            with contextlib.suppress(StoreUnavailable):  # /health reports it
                depths = await self._control.ask(DEPTHS)
            with contextlib.suppress(StoreUnavailable):  # only Redis knows them; the depths are known without it
                workers = await self._control.ask(WORKERS)
            self._sink.looked(depths, workers)
            await asyncio.sleep(LOOK_S)
