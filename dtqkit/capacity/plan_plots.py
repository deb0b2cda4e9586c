"""Plots of a plan: `plan.plot.frontier()` and others. Each returns matplotlib axes."""
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (matplotlib leaves most keyword arguments open, and a table's cells have no types)

import math
from datetime import date
from functools import cached_property
from typing import Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import dates, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtqkit.capacity.plot_style import BLUE, GREEN, ORANGE, PURPLE, RED, error_bars, new_axes, wait_scale
from dtqkit.capacity.scenario import SLO
from dtqkit.capacity.tiercheck import TierCheck


class Planned(Protocol):
    """What the plots read of a `Plan`."""

    @property
    def title(self) -> str: ...
    @property
    def slo(self) -> SLO: ...
    @property
    def checks(self) -> tuple[TierCheck, ...]: ...
    @cached_property
    def recommended_workers(self) -> int: ...
    def frontier(self) -> pd.DataFrame: ...
    def runway(self, start: date | None = ...) -> pd.DataFrame: ...
    def sensitivity(self) -> pd.DataFrame: ...


class PlanPlots:
    """Plots of one plan."""

    def __init__(self, plan: Planned) -> None:
        self._plan = plan

    def _finite(self) -> pd.DataFrame:
        table = self._plan.frontier()
        return table[np.isfinite(table["wait_p95_s"].to_numpy(dtype=np.float64))].rename(
            columns={"wait_p95_s": "estimate"}
        )

    def _objective(self, axes: Axes) -> None:
        slo = self._plan.slo
        axes.axhline(slo.wait_p95_s, color=RED, linestyle="--", linewidth=1, label=f"objective: {slo.wait_p95_s:g} s")

    def workers(self, ax: Axes | None = None) -> Axes:
        """p95 wait of the objective's priority by number of workers, with intervals and the objective."""
        slo = self._plan.slo
        axes = new_axes(ax, f"p95 wait of {slo.priority} jobs by workers", "workers", "p95 wait (s)")
        table = self._finite()
        error_bars(axes, table.index.tolist(), table, "simulated, 95 % interval", BLUE)
        axes.plot(table.index, table["estimate"], color=BLUE, alpha=0.4)
        self._objective(axes)
        n = self._plan.recommended_workers
        axes.axvline(n, color=GREEN, linestyle=":", label=f"recommended: {n}")
        wait_scale(axes)
        axes.legend(frameon=False)
        return axes

    def frontier(self, ax: Axes | None = None) -> Axes:
        """p95 wait against price. Each point is a number of workers; the tiers are marked."""
        slo = self._plan.slo
        axes = new_axes(ax, f"What a shorter wait costs ({slo.priority} jobs)", "$ a month", "p95 wait (s)")
        table = self._finite()
        priced = table[np.isfinite(table["usd_per_month"].to_numpy(dtype=np.float64))]
        error_bars(axes, priced["usd_per_month"].tolist(), priced, "numbers of workers", BLUE)
        for count, row in priced.iloc[:: max(1, len(priced) // 6)].iterrows():
            axes.annotate(
                f"{count}",
                (row["usd_per_month"], row["estimate"]),
                textcoords="offset points",
                xytext=(5, 5),
                fontsize=8,
            )
        self._objective(axes)
        wait_scale(axes)
        top = max([1.0, slo.wait_p95_s * 2, *table["high"].tolist()]) * 3
        axes.set_ylim(0, top)
        for c, color in zip(self._plan.checks, (ORANGE, PURPLE, GREEN) * len(self._plan.checks), strict=False):
            wait = c.scenario.wait_p95.value
            unbounded = math.isinf(wait)
            label = f"{c.tier.name}: {'unbounded' if unbounded else 'holds' if c.holds else 'does not hold'}"
            axes.plot(
                c.tier.price(),
                top * 0.8 if unbounded else wait,
                "^" if unbounded else "D",
                ms=8,
                color=color,
                label=label,
                clip_on=False,
            )
        axes.legend(frameon=False, fontsize=8)
        return axes

    def quotas(self, start: date | None = None, ax: Axes | None = None) -> Axes:
        """When each quota is used up: its bar ends on that day. Bars of quotas that suffice reach the edge."""
        axes = new_axes(ax, "How long the quotas last", "", "")
        first = start or date.today()  # noqa: DTZ011 - people plan by their local calendar
        table = self._plan.runway(first)
        edge = max([35.0, *((day - first).days * 1.15 for day in table["runs_out"] if day is not None)])
        labels: list[str] = []
        for place, row in enumerate(table.to_dict(orient="records")):
            ends = row["runs_out"] is not None
            days = max((row["runs_out"] - first).days, 0.25) if ends else edge
            axes.barh(
                place, days, left=float(dates.date2num(first)), color=RED if ends else GREEN, alpha=0.75, height=0.7
            )
            text = f"{row['share']:.0%} used" + (f", runs out {row['runs_out']:%d %b}" if ends else "")
            axes.annotate(
                text,
                (float(dates.date2num(first)) + days, place),
                xytext=(4 if ends else -4, 0),
                textcoords="offset points",
                va="center",
                ha="left" if ends else "right",
                fontsize=8,
            )
            labels.append(f"{row['tier']}: {row['quota']}")
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=7))
        axes.xaxis.set_major_formatter(dates.DateFormatter("%d %b %Y"))
        axes.tick_params(axis="x", rotation=20)
        axes.set_xlabel("date (from empty stores, at the workload's rate)")
        return axes

    def sensitivity(self, table: pd.DataFrame | None = None, ax: Axes | None = None) -> Axes:
        """A tornado chart: the objective's p95 wait with one input lower (blue) or higher (orange).

        `table` is the result of `plan.sensitivity()`; without it, it is simulated.
        """
        slo, n = self._plan.slo, self._plan.recommended_workers
        axes = new_axes(ax, f"What the wait depends on ({n} workers)", f"p95 wait of {slo.priority} jobs (s)", "")
        found = self._plan.sensitivity() if table is None else table
        found = found.assign(span=(found["high"] - found["low"]).abs()).sort_values("span")
        base = float(found["base"].iloc[0])
        ends = found[["low", "high"]].to_numpy(dtype=np.float64)
        edge = 1.15 * max(base, slo.wait_p95_s, float(ends[np.isfinite(ends)].max(initial=0.0)))
        for place, row in enumerate(found.to_dict(orient="records")):
            for value, color in ((float(row["low"]), BLUE), (float(row["high"]), ORANGE)):
                shown = min(value, edge)
                axes.barh(place, shown - base, left=base, color=color, alpha=0.8, height=0.6)
                if math.isinf(value):
                    axes.annotate(
                        "unbounded",
                        (edge, place),
                        xytext=(-4, 0),
                        textcoords="offset points",
                        ha="right",
                        va="center",
                        fontsize=8,
                    )
        axes.axvline(base, color=rcParams["text.color"], linewidth=1, label=f"as planned: {base:.3g} s")
        axes.axvline(slo.wait_p95_s, color=RED, linestyle="--", linewidth=1, label=f"objective: {slo.wait_p95_s:g} s")
        axes.set_yticks(range(len(found)), [str(name) for name in found.index], fontsize=9)
        axes.set_xlim(0, edge)
        axes.legend(frameon=False)
        return axes

    def overview(self) -> Figure:
        """Workers, frontier and quotas in one figure."""
        figure, axes = plt.subplots(1, 3, figsize=(19, 4.8), layout="constrained")
        self.workers(axes[0])
        self.frontier(axes[1])
        self.quotas(ax=axes[2])
        figure.suptitle(self._plan.title, fontsize=11)
        return figure
