"""Histograms of the ends whose events a server receives, the same at each of its processes.

Every process receives every event, so each counts a share of the jobs, and whichever is asked adds up the shares: a
process keeps its own in a file of a folder that all of them read. One that is started again goes on with its file.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import socket
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
from prometheus_client.core import HistogramMetricFamily, Metric

from dtqkit.model.events import JobEvent

#: Bounds of the histograms, in seconds.
BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
#: Tasks that get a label of their own; the others share one, so that memory stays bounded.
MAX_TASKS: Final = 200
OTHER: Final = "(other)"
#: How often a process writes its file, in seconds; it does so too when it is asked.
WRITE_S: Final = 1.0

What = Literal["wait", "run"]
_HELP: Final[dict[What, str]] = {"wait": "Time in the queue", "run": "Time that attempts ran"}


class Share(NamedTuple):
    """Which of a server's processes this is, and what it shares with the others: files, and some memory."""

    #: Of their files.
    folder: Path
    number: int
    processes: int
    #: A byte for each process, and the last one for their parent: 1 when it has ended, or is about to.
    ended: mmap.mmap | bytearray

    def end(self) -> bool:
        """Note that this process ends. Whether all others do too, so that none goes on with the sockets."""
        self.ended[self.number] = 1
        return 0 not in self.ended[:]

    def file(self, number: int) -> Path:
        return self.folder / f"{number}.msgpack"


class _Histogram(msgspec.Struct):
    """How many values lie up to each bound and above the one before, and their sum."""

    what: What
    task: str
    priority: str
    counts: list[int]
    sum_s: float = 0.0


class _State(msgspec.Struct):
    """What a process writes."""

    histograms: list[_Histogram] = []
    clients: int = 0


class Received:
    """What one process has received, and on request what all have."""

    def __init__(self, share: Share | None = None) -> None:
        self._share = share
        #: The server, for the label of that name: its process, or the parent of its processes.
        self.server: Final = f"{socket.gethostname()}:{os.getpid() if share is None else os.getppid()}"
        self._state = _State() if share is None else _read(share.file(share.number))
        self._state.clients = 0
        self._by_name = {(one.what, one.task, one.priority): one for one in self._state.histograms}
        self._tasks = {one.task for one in self._state.histograms}
        self._changed = True

    def note(self, event: JobEvent) -> None:
        share = self._share
        if share is not None and int(event.id[-6:], 16) % share.processes != share.number:
            return
        if event.wait_ms is not None:
            self._observe("wait", event, event.wait_ms / 1000)
        if event.run_ms is not None and event.status != "running":
            self._observe("run", event, event.run_ms / 1000)

    def _observe(self, what: What, event: JobEvent, seconds: float) -> None:
        task = event.task if event.task in self._tasks or len(self._tasks) < MAX_TASKS else OTHER
        self._tasks.add(task)
        name = what, task, event.priority
        if (found := self._by_name.get(name)) is None:
            found = self._by_name[name] = _Histogram(*name, [0] * (len(BUCKETS) + 1))
            self._state.histograms.append(found)
        found.counts[bisect_left(BUCKETS, seconds)] += 1
        found.sum_s += seconds
        self._changed = True

    async def keep(self, clients: Callable[[], int]) -> None:
        """Write this process's file for the others, until cancelled. `clients`: those of its stream."""
        while True:
            self._write(clients())
            await asyncio.sleep(WRITE_S)

    def _write(self, clients: int) -> None:
        if not self._changed and clients == self._state.clients:
            return
        self._state.clients = clients
        if (share := self._share) is not None:
            new = share.folder / f"{share.number}.new"
            with contextlib.suppress(OSError):  # the disk is full: what is there stands
                new.write_bytes(msgspec.msgpack.encode(self._state))
                new.replace(share.file(share.number))
        self._changed = False

    def clients(self, here: int) -> int:
        """Clients of the stream of all processes, `here` of them of this one."""
        self._write(here)
        return sum(state.clients for state in self._all())

    def _all(self) -> Iterator[_State]:
        """Its own is written first: no count that was given decreases when another process is asked."""
        self._write(self._state.clients)
        yield self._state
        if (share := self._share) is not None:
            yield from (_read(share.file(n)) for n in range(share.processes) if n != share.number)

    def collect(self) -> Iterable[Metric]:
        """As a collector of prometheus_client."""
        summed: dict[tuple[What, str, str], _Histogram] = {}
        for one in (histogram for state in self._all() for histogram in state.histograms):
            name = one.what, one.task, one.priority
            if (total := summed.get(name)) is None:
                total = summed[name] = _Histogram(*name, [0] * len(one.counts))
            total.counts = [a + b for a, b in zip(total.counts, one.counts, strict=True)]
            total.sum_s += one.sum_s
        for what, text in _HELP.items():
            family = HistogramMetricFamily(
                f"dtqkit_received_job_{what}_seconds",
                f"{text}, of the ends whose events this server (all its processes together) has received since it "
                "started; some may be missing. Every server receives every event: do not add up several servers.",
                labels=("task", "priority", "server"),
            )
            for one in summed.values():
                if one.what == what:
                    bounds = [*map(float, BUCKETS), float("inf")]
                    buckets = [(_text(le), n) for le, n in zip(bounds, accumulate(one.counts), strict=True)]
                    family.add_metric((one.task, one.priority, self.server), buckets, one.sum_s)
            yield family


def _text(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)


def _read(path: Path) -> _State:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=_State)
    except (OSError, msgspec.DecodeError):
        return _State()  # not written yet
