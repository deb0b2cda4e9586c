"""Pictures of results and plans. Every function returns matplotlib axes; text follows the style in force, so that
`plt.style.context("dark_background")` works, and the colours are legible on light and on dark."""
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (matplotlib leaves most keyword arguments open, and a table's cells have no types)

import math
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import dates, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.simulate import simulate
from dtqkit.capacity.system import System
from dtqkit.capacity.theory import Queue, mgc
from dtqkit.capacity.workload import Workload

if TYPE_CHECKING:
    from dtqkit.capacity.plan import Plan
    from dtqkit.capacity.results import Result

BLUE, ORANGE, GREEN, RED, PURPLE = "#3b82d6", "#e08a1e", "#2fa36b", "#e0524d", "#9a6fd0"
SIZE = (7.0, 4.2)


def _axes(ax: Axes | None, title: str, x: str, y: str) -> Axes:
    chosen = ax if ax is not None else plt.subplots(figsize=SIZE, layout="constrained")[1]
    chosen.set_title(title, fontsize=11)
    chosen.set_xlabel(x)
    chosen.set_ylabel(y)
    chosen.grid(alpha=0.25)
    chosen.spines[["top", "right"]].set_visible(False)
    return chosen


def _plain(value: float, _position: int | None) -> str:
    return f"{value:,.4g}"


def _wait_scale(axes: Axes) -> None:
    """Even up to 1 s, by powers of ten beyond: waits of idle and of overloaded workers in one picture."""
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))


def _bars(ax: Axes, x: Sequence[float], table: pd.DataFrame, label: str, color: str) -> None:
    middle = table["estimate"].to_numpy(dtype=np.float64)
    low, high = (table[name].to_numpy(dtype=np.float64) for name in ("low", "high"))
    ax.errorbar(x, middle, yerr=[middle - low, high - middle], fmt="o", ms=4, capsize=3, color=color, label=label)


def wait_curve(
    work: Workload, servers: int, simulated: Sequence[float] = (), *, replications: int = 10, ax: Axes | None = None
) -> Axes:
    """Mean wait against utilisation, by Allen and Cunneen's formula; simulated points, with their intervals, at the
    utilisations of `simulated`, first come first served at a constant rate."""
    axes = _axes(ax, f"Mean wait on {servers} servers", "utilisation ρ", "mean wait (s)")
    rho = np.linspace(0.02, 0.97, 200)
    mean_s, scv = work.mean_service_s, work.scv
    axes.plot(
        rho,
        [mgc(r * servers / mean_s, mean_s, scv, servers).wait_mean for r in rho],
        color=BLUE,
        label=f"formula (M/G/{servers}, approximate)",
    )
    rows: list[tuple[float, float, float]] = []
    for r in simulated:
        steady = Workload(r * servers / mean_s * 86_400, work.service, mix=work.mix)
        found = simulate(System(lanes={"shared": servers}), steady, replications=replications).wait
        rows.append((found.value, found.low, found.high))
    if rows:
        _bars(
            axes, simulated, pd.DataFrame(rows, columns=["estimate", "low", "high"]), "simulated, 95 % interval", ORANGE
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return axes


def dedicated_shared(work: Workload, workers: int, *, replications: int = 10, ax: Axes | None = None) -> Axes:
    """p95 wait by priority for the same workers kept to their lanes, helping, or shared by all."""
    axes = _axes(ax, f"{workers} workers: kept to their lanes, helping, shared", "", "p95 wait (s), 95 % interval")
    own = System.default(workers)
    layouts = {
        "strict": System(lanes=own.lanes, helping=False),
        "helping (default)": own,
        "shared": System(lanes={"shared": workers}),
    }
    for place, ((name, system), color) in enumerate(zip(layouts.items(), (RED, BLUE, GREEN), strict=True)):
        table = simulate(system, work, work.cycle_s, replications=replications).ci("wait", q=0.95, by="priority")
        x = np.arange(len(table)) + 0.22 * (place - 1)
        endless = ~np.isfinite(table["estimate"].to_numpy(dtype=np.float64))
        _bars(axes, x[~endless].tolist(), table[~endless], name, color)
        axes.set_xticks(range(len(table)), [str(p) for p in table.index])
        for at in x[endless]:
            axes.text(
                float(at),
                0.97,
                "∞",
                color=color,
                ha="center",
                va="top",
                fontsize=14,
                transform=axes.get_xaxis_transform(),
            )
    _wait_scale(axes)
    axes.margins(x=0.2)
    axes.legend(frameon=False)
    return axes


class ResultPlots:
    """Plots of one simulation: `result.plot.depth()`, …"""

    def __init__(self, result: "Result") -> None:
        self._result = result

    def depth(self, ax: Axes | None = None) -> Axes:
        """Waiting jobs over the horizon: the median and where half and nine tenths of the replications lie."""
        axes = _axes(ax, "Waiting jobs over time", "time (h)", "waiting jobs")
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
        """P(wait > t): simulated, and beside it measured waits (s) and a formula's if they are given."""
        axes = _axes(ax, "Tail of the wait", "t (s)", "share of jobs that wait longer than t")
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
        """Mean and p95 of the wait by priority, with their intervals."""
        axes = _axes(ax, "Wait by priority, 95 % intervals", "", "wait (s)")
        for shift, q, name, color in ((-0.1, None, "mean", BLUE), (0.1, 0.95, "p95", ORANGE)):
            table = self._result.ci("wait", q=q, by="priority")
            finite = np.isfinite(table["estimate"].to_numpy(dtype=np.float64))
            places = (np.arange(len(table)) + shift)[finite]
            _bars(axes, places.tolist(), table[finite], name, color)
            axes.set_xticks(
                range(len(table)), [p if ok else f"{p}: without end" for p, ok in zip(table.index, finite, strict=True)]
            )
        axes.margins(x=0.3)
        _wait_scale(axes)
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


class PlanPlots:
    """Plots of a plan: `plan.plot.frontier()`, …"""

    def __init__(self, plan: "Plan") -> None:
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
        """p95 of the objective's priority by number of workers, with its interval and the objective."""
        slo = self._plan.slo
        axes = _axes(ax, f"p95 wait of {slo.priority} jobs by workers", "workers", "p95 wait (s)")
        table = self._finite()
        _bars(axes, table.index.tolist(), table, "simulated, 95 % interval", BLUE)
        axes.plot(table.index, table["estimate"], color=BLUE, alpha=0.4)
        self._objective(axes)
        n = self._plan.recommended_workers
        axes.axvline(n, color=GREEN, linestyle=":", label=f"recommended: {n}")
        _wait_scale(axes)
        axes.legend(frameon=False)
        return axes

    def frontier(self, ax: Axes | None = None) -> Axes:
        """Price against p95 wait; each point is a number of workers, the tiers as they are offered are marked."""
        slo = self._plan.slo
        axes = _axes(ax, f"What a shorter wait costs ({slo.priority} jobs)", "$ a month", "p95 wait (s)")
        table = self._finite()
        priced = table[np.isfinite(table["usd_per_month"].to_numpy(dtype=np.float64))]
        _bars(axes, priced["usd_per_month"].tolist(), priced, "numbers of workers", BLUE)
        for count, row in priced.iloc[:: max(1, len(priced) // 6)].iterrows():
            axes.annotate(
                f"{count}",
                (row["usd_per_month"], row["estimate"]),
                textcoords="offset points",
                xytext=(5, 5),
                fontsize=8,
            )
        self._objective(axes)
        _wait_scale(axes)
        top = max([1.0, slo.wait_p95_s * 2, *table["high"].tolist()]) * 3
        axes.set_ylim(0, top)
        for c, color in zip(self._plan.checks, (ORANGE, PURPLE, GREEN) * len(self._plan.checks), strict=False):
            wait = c.scenario.wait_p95.value
            endless = math.isinf(wait)
            label = f"{c.tier.name}: {'without end' if endless else 'holds' if c.holds else 'does not hold'}"
            axes.plot(
                c.tier.price(),
                top * 0.8 if endless else wait,
                "^" if endless else "D",
                ms=8,
                color=color,
                label=label,
                clip_on=False,
            )
        axes.legend(frameon=False, fontsize=8)
        return axes

    def quotas(self, start: date | None = None, ax: Axes | None = None) -> Axes:
        """When each quota runs out: bars end on that day; those that hold reach the edge."""
        axes = _axes(ax, "How long the quotas last", "", "")
        first = start or date.today()  # noqa: DTZ011 - a person plans by the local calendar
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
        """A tornado: the objective's p95 when one input is lower (blue) or higher (orange). Simulates, unless
        `plan.sensitivity()` is given."""
        slo, n = self._plan.slo, self._plan.recommended_workers
        axes = _axes(ax, f"What the wait hangs on ({n} workers)", f"p95 wait of {slo.priority} jobs (s)", "")
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
                        "without end",
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
