"""Prometheus: counters and gauges from a look at the queue when they are asked for, histograms from the events.

The counters are those of the record: the same at every server, and they go on after a restart. A histogram is of what
one server process has received since it started; some may be missing; its label `server` keeps those of several apart.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from dtqkit._version import VERSION
from dtqkit.control import Control, Health, Total
from dtqkit.control.operations import DEPTHS, TOTALS, WORKERS
from dtqkit.control.pauses import PAUSES, PausesRequest
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import Batch, JobEvent, Line
from dtqkit.model.jobs import PRIORITIES

T = TypeVar("T")

#: Bounds of the histograms, in seconds.
BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
#: How long a look at the queue is used, in seconds.
FRESH_S: Final = 5.0
#: Tasks that get a label of their own; the others share one, so that memory stays bounded.
MAX_TASKS: Final = 200
OTHER: Final = "(other)"


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


class Metrics:
    """Of one server process."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._tasks: set[str] = set()
        self._looked_at = float("-inf")
        registry = self.registry = CollectorRegistry()
        self._counted = _Counted()
        registry.register(self._counted)
        self._server = f"{socket.gethostname()}:{os.getpid()}"
        self._waits = self._heard("dtqkit_heard_job_wait_seconds", "Time in the queue")
        self._runs = self._heard("dtqkit_heard_job_run_seconds", "Time that attempts ran")
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
        self._clients = Gauge("dtqkit_stream_clients", "Clients of the stream.", registry=registry)
        Gauge("dtqkit_info", "The server's version.", ("version",), registry=registry).labels(VERSION).set(1)

    def _heard(self, name: str, what: str) -> Histogram:
        text = f"{what}, of the ends that this server process has received since it started; some may be missing."
        return Histogram(name, text, ("task", "priority", "server"), buckets=BUCKETS, registry=self.registry)

    def receive(self, batch: Batch | Line) -> None:
        if isinstance(batch, Batch):
            for event in batch.jobs:
                self._note(event)

    def _note(self, event: JobEvent) -> None:
        task = event.task
        if task not in self._tasks:
            if len(self._tasks) >= MAX_TASKS:
                task = OTHER
            else:
                self._tasks.add(task)
        if event.wait_ms is not None:
            self._waits.labels(task, event.priority, self._server).observe(event.wait_ms / 1000)
        if event.run_ms is not None and event.status != "running":
            self._runs.labels(task, event.priority, self._server).observe(event.run_ms / 1000)

    async def text(self, health: Health, clients: int) -> bytes:
        """The exposition: counters as they are now, gauges that are at most FRESH_S old."""
        now = asyncio.get_running_loop().time()
        self._clients.set(clients)
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
