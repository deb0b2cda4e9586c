"""Prometheus: counters and gauges from a look at the queue when they are asked for, histograms from the events.

The counters are those of the record: the same at every server, and they go on after a restart. A histogram is of what
one server has received since it started (see `received`); its label `server` keeps those of several apart.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from dtqkit._version import VERSION
from dtqkit.control import Control, Health, Total
from dtqkit.control.operations import DEPTHS, TOTALS, WORKERS
from dtqkit.control.pauses import PAUSES, PausesRequest
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import Batch, Line
from dtqkit.model.jobs import PRIORITIES
from dtqkit.web.received import Received, Share

T = TypeVar("T")

#: How long a look at the queue is used, in seconds.
FRESH_S: Final = 5.0


class _Histograms(Collector):
    """Those of all processes of this server."""

    def __init__(self, received: Received) -> None:
        self._received = received

    def collect(self) -> Iterable[Metric]:
        return self._received.collect()


class _Counted(Collector):
    """Counters of the record, as they were last asked for."""

    totals: tuple[Total, ...] = ()

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "dtqkit_jobs",
            "Jobs that have reached a status, counted from the record; pending: all that were submitted. A job that "
            "failed and was requeued may end again.",
            labels=("task", "priority", "status"),
        )
        for one in self.totals:
            counts = {"completed": one.completed, "failed": one.failed, "cancelled": one.cancelled}
            for status, n in {"pending": one.submitted, **counts}.items():
                family.add_metric((one.task, one.priority, status), n)
        yield family
        duplicates = CounterMetricFamily(
            "dtqkit_duplicate_submits",
            "Submits that found a unique job instead of making one.",
            labels=("task", "priority"),
        )
        for one in self.totals:
            if one.duplicates:
                duplicates.add_metric((one.task, one.priority), one.duplicates)
        yield duplicates


class Metrics:
    """Of one server."""

    def __init__(self, control: Control, share: Share | None = None) -> None:
        """`share`: which of several processes this is."""
        self._control = control
        self.shared: Final = share is not None
        self.received: Final = Received(share)
        self._looked_at = float("-inf")
        registry = self.registry = CollectorRegistry()
        self._counted = _Counted()
        registry.register(self._counted)
        registry.register(_Histograms(self.received))
        self._depth = Gauge("dtqkit_lane_depth", "Jobs that wait in a lane.", ("priority",), registry=registry)
        self._scheduled = Gauge("dtqkit_scheduled", "Jobs that are not yet due.", registry=registry)
        self._running = Gauge("dtqkit_running", "Jobs that run.", registry=registry)
        self._oldest = Gauge("dtqkit_oldest_wait_seconds", "Age of the oldest job that waits.", registry=registry)
        self._workers = Gauge("dtqkit_workers", "Live workers.", ("status",), registry=registry)
        self._slots = Gauge("dtqkit_worker_slots", "Jobs that all workers can run at a time.", registry=registry)
        self._store = Gauge("dtqkit_store_up", "Whether a store answers.", ("store",), registry=registry)
        self._parts = Gauge(
            "dtqkit_health",
            "Whether each part is well: stores that take writes, a live worker, a leader of recovery, and a live "
            "worker for each lane in which jobs wait.",
            ("part",),
            registry=registry,
        )
        self._paused = Gauge(
            "dtqkit_paused_jobs", "Jobs that wait because of a pause, by pause.", ("pause",), registry=registry
        )
        self._clients = Gauge("dtqkit_stream_clients", "Clients of this server's stream.", registry=registry)
        Gauge("dtqkit_info", "The server's version.", ("version",), registry=registry).labels(VERSION).set(1)

    def receive(self, batch: Batch | Line) -> None:
        if isinstance(batch, Batch):
            for event in batch.jobs:
                self.received.note(event)

    async def text(self, health: Health, clients: int) -> bytes:
        """The exposition: counters as they are now, gauges that are at most FRESH_S old."""
        now = asyncio.get_running_loop().time()
        self._clients.set(self.received.clients(clients))
        self._store.labels("redis").set(health.redis == "up")
        self._store.labels("mongodb").set(health.mongodb == "up")
        parts = {
            "mongodb": health.mongodb == "up",
            "redis": health.redis == "up",
            "workers": bool(health.workers),
            "leader": health.redis == "up" and health.leader is not False,
            "lanes": health.unserved == (),
        }
        for part, well in parts.items():
            self._parts.labels(part).set(well)
        if (totals := await _unless_away(self._control.ask(TOTALS))) is not None:
            self._counted.totals = totals.totals
        else:  # another process may have given later ones: no count is better than one that decreases
            self._counted.totals = ()
        if now - self._looked_at > FRESH_S:
            self._looked_at = now
            await self._look()
        return generate_latest(self.registry)

    async def _look(self) -> None:
        if (depths := await _unless_away(self._control.ask(DEPTHS))) is not None:
            for priority in PRIORITIES:
                self._depth.labels(priority).set(getattr(depths, priority))
            self._scheduled.set(depths.scheduled)
            self._running.set(depths.running)
            self._oldest.set(depths.oldest_wait_s or 0.0)
        if (pauses := await _unless_away(self._control.ask(PAUSES, PausesRequest()))) is not None:
            self._paused.clear()
            for pause in pauses:
                self._paused.labels(str(pause)).set(math.nan if pause.waiting is None else pause.waiting)
        if (workers := await _unless_away(self._control.ask(WORKERS))) is not None:
            self._workers.clear()
            for worker in workers:
                self._workers.labels(worker.status).inc()
            self._slots.set(sum(worker.concurrency for worker in workers))


async def _unless_away(asked: Awaitable[T]) -> T | None:
    try:
        return await asked
    except StoreUnavailable:
        return None  # dtqkit_store_up says so; the last values stand
