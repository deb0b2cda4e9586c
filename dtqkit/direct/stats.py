"""What the last minutes looked like, from the record, and a forecast for the jobs that wait.

Counts are exact. Waits, runs and the forecast are those of the newest ends, as many as SAMPLE; where more have ended,
the answer says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from dtqkit.control import Forecast, Stats, TaskStats, Total, Totals
from dtqkit.control.forecast import MIN_ENDS, forecast, percentile
from dtqkit.direct.counts import Window, total, window
from dtqkit.model.events import Depths
from dtqkit.model.jobs import PRIORITIES, Priority
from dtqkit.store import Store
from dtqkit.store.fields import lane_of
from dtqkit.store.minutes import What, summed

#: Newest ends that are looked at.
SAMPLE: Final = 5_000
#: The same for one lane that has hardly any of those.
_LANE_SAMPLE: Final = 200


class Ends(msgspec.Struct):
    """The newest jobs that completed or failed in a window, by task and priority; times in ms from its begin."""

    groups: list[dict[str, Any]]

    @property
    def count(self) -> int:
        return sum(len(group["ends"]) for group in self.groups)

    def of(self, lane: Priority) -> Ends:
        return Ends([group for group in self.groups if lane_of(group["_id"]) == lane])

    @property
    def ends_ms(self) -> list[float]:
        return sorted(end for group in self.groups for end in group["ends"])

    @property
    def first_start_ms(self) -> float:
        starts = [group["first_start"] for group in self.groups if group["first_start"] is not None]
        return max(0.0, min(starts, default=0.0))

    def times_s(self, task: str, name: str) -> list[float]:
        """`waits` or `runs`, in ascending order; what never ran has none."""
        found = (t for group in self.groups if group["_id"].get("task") == task for t in group[name])
        return sorted(max(0.0, t) / 1000 for t in found if t is not None)


async def stats(store: Store, depths: Depths, window_s: float) -> Stats:
    """Counts, waits and runs of the last `window_s` seconds; a forecast for each lane."""
    seen = await window(store, window_s)
    ends = Ends(await store.jobs.ended(seen.since, SAMPLE))
    counts = summed(seen.counts)
    ended = counts["completed"] + counts["failed"]
    lanes = await asyncio.gather(*(_forecast(store, lane, depths, seen, ends) for lane in PRIORITIES))
    return Stats(
        at=seen.until,
        window_s=window_s,
        **counts,
        throughput_per_s=ended / window_s,
        tasks=tuple(_task_stats(task, seen, ends) for task in sorted({task for _, _, task in seen.counts})),
        sampled=ends.count if ends.count >= SAMPLE and ended > ends.count else None,
        forecast=tuple(lanes),
        minutes=seen.minutes,
    )


def _task_stats(name: str, seen: Window, ends: Ends) -> TaskStats:
    waits, runs = ends.times_s(name, "waits"), ends.times_s(name, "runs")
    return TaskStats(
        task=name,
        **summed(Counter({key: n for key, n in seen.counts.items() if key[2] == name})),
        wait_p50_s=percentile(waits, 0.5),
        wait_p95_s=percentile(waits, 0.95),
        run_p50_s=percentile(runs, 0.5),
        run_p95_s=percentile(runs, 0.95),
    )


async def _forecast(store: Store, lane: Priority, depths: Depths, seen: Window, ends: Ends) -> Forecast:
    """By the rate since the lane was first seen busy in the window: idle time before it does not count."""
    waiting: int = getattr(depths, lane)
    of_lane = ends.of(lane)
    all_looked_at = ends.count < SAMPLE
    if waiting and not all_looked_at and of_lane.count < MIN_ENDS:
        of_lane = Ends(await store.jobs.ended(seen.since, _LANE_SAMPLE, lane=lane))
        all_looked_at = of_lane.count < _LANE_SAMPLE
    ends_ms = of_lane.ends_ms
    begin_ms = of_lane.first_start_ms
    if not all_looked_at and ends_ms:
        begin_ms = max(begin_ms, ends_ms[0])
    span_s = (_ms(seen.until, seen.since) - begin_ms) / 1000
    return forecast(lane, waiting, [(end - begin_ms) / 1000 for end in ends_ms], span_s)


def _ms(until: datetime, since: datetime) -> float:
    return (until - since).total_seconds() * 1000


async def totals(store: Store) -> Totals:
    """Of each task and priority, since the record began."""
    at, counts = await total(store)
    rows: dict[tuple[str, Priority], Counter[What | Literal["duplicates"]]] = {}
    for (what, priority, task), n in counts.items():
        rows.setdefault((task, priority), Counter())[what] += n
    for (priority, task), n in (await store.unique.counts()).items():
        rows.setdefault((task, priority), Counter())["duplicates"] += n
    return Totals(
        at=at,
        totals=tuple(
            Total(
                task=task,
                priority=priority,
                submitted=row["submitted"],
                completed=row["completed"],
                failed=row["failed"],
                cancelled=row["cancelled"],
                duplicates=row["duplicates"],
            )
            for (task, priority), row in sorted(rows.items())
        ),
    )
