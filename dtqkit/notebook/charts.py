"""Plots of what the queue has done: from its own history, as matplotlib axes that can be drawn on further."""
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownVariableType=false
# (matplotlib leaves most keyword arguments open, and a table's cells have no types)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dtqkit.model.jobs import PRIORITIES

if TYPE_CHECKING:
    from dtqkit.client.queue import TaskQueue

#: High, medium and low; readable on white and on black, and apart for most who see colours otherwise.
COLOURS: Final = {"high": "#d4553a", "medium": "#c9962b", "low": "#4a86c5"}
_SIZE: Final = (7.0, 2.8)
#: Waiting jobs that `depths` asks for, at most.
_MOST: Final = 5_000


class Plots:
    """Each takes `since` (an age such as `15m`, or a time) and axes of yours, and returns the axes."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    def waits(self, since: str | None = None, ax: Axes | None = None) -> Axes:
        """How long attempts waited until their first line ran: the share that waited at most so long, by priority, in
        seconds. What never ran has no wait.
        """
        rows = self._queue.history(since=since)
        rows = rows[rows["wait_s"].notna()]  # what never began has no wait
        ax = _axes(ax, "wait in the queue (s)", "share of attempts")
        for priority, part in _by_priority(rows):
            waits = np.sort(part["wait_s"].to_numpy(dtype=float))
            share = np.arange(1, len(waits) + 1) / len(waits)
            label = f"{priority} (95 % within {np.quantile(waits, 0.95):.2g} s)"
            ax.step(np.append(0.0, waits), np.append(0.0, share), where="post", color=COLOURS[priority], label=label)
        ax.set_ylim(0, 1.02)
        ax.set_xlim(left=0)
        return _finished(ax, rows.empty)

    def throughput(self, since: str | None = None, ax: Axes | None = None) -> Axes:
        """Attempts that ended in each second (or minute, or hour, when it is long): completed ones and others."""
        rows = self._queue.history(since=since)
        rows = rows[rows["ended_at"].notna()]
        ax = _axes(ax, "time", "attempts")
        if not rows.empty:
            ended = pd.to_datetime(rows["ended_at"], utc=True)
            step = _step(ended.max() - ended.min())
            ax.set_ylabel(f"attempts per {_STEPS[step]}")
            bins = ended.dt.floor(step)
            good = rows["ending"] == "completed"
            every = pd.date_range(bins.min(), bins.max(), freq=step)
            completed = bins[good].value_counts().reindex(every, fill_value=0)
            others = bins[~good].value_counts().reindex(every, fill_value=0)
            bar: dict[str, Any] = {"width": pd.Timedelta(f"1{step}") * 0.9, "align": "edge"}
            ax.bar(cast("Any", every), completed, color="#3a9d6b", label="completed", **bar)
            if others.any():
                label = "failed or lost"
                ax.bar(cast("Any", every), others, bottom=completed, color="#d4351c", label=label, **bar)
            _dates(ax)
        return _finished(ax, rows.empty)

    def depths(self, since: str | None = None, ax: Axes | None = None) -> Axes:
        """How many jobs waited in each lane, and when: from the times at which each attempt became ready and started,
        or, if it never ran, ended.
        """
        rows = self._queue.history(since=since)
        ax = _axes(ax, "time", "jobs waiting")
        waiting = self._waiting(since)
        nothing = rows.empty and waiting.empty
        for priority in PRIORITIES:
            started = rows[rows["priority"] == priority]
            still = waiting[waiting["priority"] == priority]
            came = pd.concat([started["queued_at"], still["queued_at"]])
            if came.empty:
                continue
            # While it runs, the record knows of its claim only.
            gone = started.reindex(columns=["started_at", "ended_at", "claimed_at"]).bfill(axis=1)["started_at"]
            # A start is never before its queueing, whatever two clocks say: no depth below zero.
            left = pd.concat([pd.to_datetime(gone, utc=True), pd.to_datetime(started["queued_at"], utc=True)], axis=1)
            times = pd.to_datetime(pd.concat([came, left.max(axis=1)]), utc=True)
            change = np.concatenate([np.ones(len(came)), -np.ones(len(started))])
            steps = pd.Series(change, index=pd.DatetimeIndex(times)).groupby(level=0).sum().sort_index().cumsum()
            ax.step(cast("Any", steps.index), steps, where="post", color=COLOURS[priority], label=priority)
        ax.set_ylim(bottom=0)
        if not nothing:
            _dates(ax)
        return _finished(ax, nothing)

    def _waiting(self, since: str | None) -> pd.DataFrame:
        """Jobs that wait now, which have no attempt yet."""
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(rows) < _MOST:
            page = self._queue.jobs(status="pending", since=since, limit=200, cursor=cursor)
            rows += [{"priority": job.priority, "queued_at": job.queued_at or job.created_at} for job in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        return pd.DataFrame(rows, columns=["priority", "queued_at"])


#: Widths of a bar, by pandas's names, and in words.
_STEPS: Final = {"s": "second", "min": "minute", "h": "hour", "D": "day"}


def _step(span: pd.Timedelta) -> str:
    """The width of bar that makes at most a hundred or so."""
    for step in _STEPS:
        if span / pd.Timedelta(f"1{step}") <= 120:
            return step
    return "D"


def _by_priority(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    parts = [(priority, rows[rows["priority"] == priority]) for priority in PRIORITIES]
    return [(priority, part) for priority, part in parts if not part.empty]


def _axes(ax: Axes | None, x: str, y: str) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=_SIZE, layout="constrained")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.3)
    return ax


def _dates(ax: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.set_xlabel("time (UTC)")


def _finished(ax: Axes, nothing: bool) -> Axes:
    if nothing:
        ax.text(0.5, 0.5, "nothing has run yet", transform=ax.transAxes, ha="center", va="center", alpha=0.6)
    else:
        ax.legend(frameon=False, fontsize="small")
    return ax
