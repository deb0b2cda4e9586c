"""Plots of a simulation's result: `result.plot.depth()` and others. Each returns matplotlib axes."""
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (matplotlib leaves most keyword arguments open, and a table's cells have no types)

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.plot_style import BLUE, GREEN, ORANGE, error_bars, new_axes, wait_scale
from dtqkit.capacity.replication import Replication
from dtqkit.capacity.theory import Queue


class Simulated(Protocol):
    """What the plots read of a `Result`."""

    @property
    def title(self) -> str: ...
    @cached_property
    def warm_up_s(self) -> float: ...
    @property
    def replications(self) -> tuple[Replication, ...]: ...
    def depth_over_time(self) -> pd.DataFrame: ...
    def ci(self, measure: str = ..., q: float | None = ..., by: str | None = ...) -> pd.DataFrame: ...


class ResultPlots:
    """Plots of one simulation's result."""

    def __init__(self, result: Simulated) -> None:
        self._result = result

    def depth(self, ax: Axes | None = None) -> Axes:
        """Waiting jobs over the horizon: median and mean of the replications, with bands of 50 % and 90 % of them."""
        axes = new_axes(ax, "Waiting jobs over time", "time (h)", "waiting jobs")
        table = self._result.depth_over_time()
        hours = table.index.to_numpy(dtype=np.float64) / 3600
        for low, high, alpha, label in (
            ("p5", "p95", 0.2, "90 % of the days"),
            ("p25", "p75", 0.35, "50 % of the days"),
        ):
            axes.fill_between(hours, table[low], table[high], color=BLUE, alpha=alpha, linewidth=0, label=label)
        axes.plot(hours, table["p50"], color=BLUE, label="median")
        axes.plot(hours, table["mean"], color=ORANGE, linewidth=1, label="mean")
        axes.set_xlim(0, float(hours[-1]))
        if hours[-1] == 24:
            axes.set_xticks(range(0, 25, 3))
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        return axes

    def tail(
        self, real: Floats | Sequence[float] | None = None, theory: Queue | None = None, ax: Axes | None = None
    ) -> Axes:
        """P(wait > t), simulated; also of measured waits (`real`, s) and of a formula (`theory`) if they are given."""
        axes = new_axes(ax, "Tail of the wait", "t (s)", "share of jobs that wait longer than t")
        result = self._result
        pooled = np.concatenate(
            [rep.wait[np.searchsorted(rep.ready, result.warm_up_s) :] for rep in result.replications]
        )
        self._step(axes, pooled.astype(np.float64), "simulated", BLUE)
        most = float(np.quantile(pooled, 0.9995)) or 1.0
        if theory is not None:
            t = np.linspace(0, most, 150)
            axes.plot(t, [theory.wait_tail(float(at)) for at in t], "--", color=ORANGE, label="theory")
        if real is not None:
            self._step(axes, np.asarray(real, dtype=np.float64), "measured", GREEN)
        axes.set_yscale("log")
        axes.set_ylim(1e-3, 1)
        axes.set_xlim(0, most)
        axes.legend(frameon=False)
        return axes

    @staticmethod
    def _step(axes: Axes, waits: Floats, label: str, color: str) -> None:
        ordered = np.sort(waits)
        chosen = len(ordered) - np.unique(np.geomspace(1, len(ordered), 600).astype(np.int64))[::-1]  # dense at the end
        axes.step(ordered[chosen], 1 - chosen / len(ordered), where="post", color=color, label=label)

    def waits(self, ax: Axes | None = None) -> Axes:
        """Mean and p95 wait by priority, with their intervals."""
        axes = new_axes(ax, "Wait by priority, 95 % intervals", "", "wait (s)")
        for shift, q, name, color in ((-0.1, None, "mean", BLUE), (0.1, 0.95, "p95", ORANGE)):
            table = self._result.ci("wait", q=q, by="priority")
            finite = np.isfinite(table["estimate"].to_numpy(dtype=np.float64))
            places = (np.arange(len(table)) + shift)[finite]
            error_bars(axes, places.tolist(), table[finite], name, color)
            axes.set_xticks(
                range(len(table)), [p if ok else f"{p}: unbounded" for p, ok in zip(table.index, finite, strict=True)]
            )
        axes.margins(x=0.3)
        wait_scale(axes)
        axes.legend(frameon=False)
        return axes

    def overview(self) -> Figure:
        """Depth, waits and tail in one figure."""
        figure, axes = plt.subplots(1, 3, figsize=(16, 4.4), layout="constrained")
        self.depth(axes[0])
        self.waits(axes[1])
        self.tail(ax=axes[2])
        figure.suptitle(self._result.title, fontsize=11)
        return figure
