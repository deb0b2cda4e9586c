"""What the last minutes looked like, from the record, and what they mean for what waits."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from dtqkit.control import Forecast, Stats, TaskStats
from dtqkit.events import Depths
from dtqkit.forecast import forecast, percentile
from dtqkit.jobs import PRIORITIES, Priority
from dtqkit.store import Store

#: Newest jobs of a lane and status that are looked at. When more have ended in the window, the rates are those of the
#: latest ones, and the counts are extended from them.
SAMPLE: Final = 5_000


class _Ends(msgspec.Struct):
    """Ends of one lane and status: by task, times in ms from the begin of the window."""

    tasks: list[dict[str, Any]]

    @property
    def ends_ms(self) -> list[float]:
        return sorted(end for task in self.tasks for end in task["ends"])

    @property
    def count(self) -> int:
        return sum(len(task["ends"]) for task in self.tasks)


async def stats(store: Store, depths: Depths, window_s: float) -> Stats:
    """Throughput, waits and runs of what ended in the last `window_s` seconds; a forecast for each lane."""
    since = store.now() - timedelta(seconds=window_s)
    lanes: list[Priority] = list(PRIORITIES)
    completed, failed = await asyncio.gather(
        _all(store, "completed", lanes, since), _all(store, "failed", lanes, since)
    )
    factors: dict[Priority, float] = {lane: _factor(completed[lane], window_s) for lane in lanes}
    n_completed = sum(round(completed[lane].count * factors[lane]) for lane in lanes)
    n_failed = sum(failed[lane].count for lane in lanes)
    return Stats(
        window_s=window_s,
        completed=n_completed,
        failed=n_failed,
        throughput_per_s=(n_completed + n_failed) / window_s,
        tasks=_by_task(completed, failed, factors),
        forecast=tuple(_forecast(lane, depths, completed[lane], failed[lane], window_s) for lane in lanes),
    )


async def _all(store: Store, status: str, lanes: list[Priority], since: datetime) -> dict[Priority, _Ends]:
    found = await asyncio.gather(*(store.jobs.ended(status, lane, since, SAMPLE) for lane in lanes))
    return {lane: _Ends(tasks) for lane, tasks in zip(lanes, found, strict=True)}


def _factor(ends: _Ends, window_s: float) -> float:
    """By how much more have ended than were looked at; 1 when all were."""
    if ends.count < SAMPLE:
        return 1.0
    seen_s = window_s - ends.ends_ms[0] / 1000
    return window_s / max(seen_s, 0.001)


def _by_task(
    completed: dict[Priority, _Ends], failed: dict[Priority, _Ends], factors: dict[Priority, float]
) -> tuple[TaskStats, ...]:
    counts: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    waits: defaultdict[str, list[float]] = defaultdict(list)
    runs: defaultdict[str, list[float]] = defaultdict(list)
    for lane, ends in completed.items():
        for task in ends.tasks:
            counts[task["_id"]][0] += len(task["ends"]) * factors[lane]
            waits[task["_id"]] += [max(0.0, wait) / 1000 for wait in task["waits"] if wait is not None]
            runs[task["_id"]] += [run / 1000 for run in task["runs"] if run is not None]
    for ends in failed.values():
        for task in ends.tasks:
            counts[task["_id"]][1] += len(task["ends"])
            runs[task["_id"]] += [run / 1000 for run in task["runs"] if run is not None]
    return tuple(_task_stats(name, counts[name], sorted(waits[name]), sorted(runs[name])) for name in sorted(counts))


def _task_stats(name: str, counts: list[float], waits: list[float], runs: list[float]) -> TaskStats:
    return TaskStats(
        task=name,
        completed=round(counts[0]),
        failed=round(counts[1]),
        wait_p50_s=percentile(waits, 0.5),
        wait_p95_s=percentile(waits, 0.95),
        run_p50_s=percentile(runs, 0.5),
        run_p95_s=percentile(runs, 0.95),
    )


def _forecast(lane: Priority, depths: Depths, completed: _Ends, failed: _Ends, window_s: float) -> Forecast:
    """By the rate since the lane was first seen busy in the window: an idle time before says nothing of its speed."""
    ends_ms = sorted(completed.ends_ms + failed.ends_ms)
    starts = [
        task["first_start"] for ends in (completed, failed) for task in ends.tasks if task["first_start"] is not None
    ]
    begin_s = max(0.0, min(starts, default=0.0) / 1000)
    if completed.count >= SAMPLE:
        begin_s = max(begin_s, ends_ms[0] / 1000)
    return forecast(lane, getattr(depths, lane), [end / 1000 - begin_s for end in ends_ms], window_s - begin_s)
