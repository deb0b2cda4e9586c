"""Plots that simulate what they show. Each function returns matplotlib axes."""
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (matplotlib leaves most keyword arguments open, and a table's cells have no types)

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dtqkit.capacity.plot_style import BLUE, GREEN, ORANGE, RED, error_bars, new_axes, wait_scale
from dtqkit.capacity.simulate import simulate
from dtqkit.capacity.system import System
from dtqkit.capacity.theory import mgc
from dtqkit.capacity.workload import Workload


def wait_curve(
    work: Workload, servers: int, simulated: Sequence[float] = (), *, replications: int = 10, ax: Axes | None = None
) -> Axes:
    """Mean wait against utilisation, by the formula of Allen and Cunneen.

    With simulated points and their intervals at the utilisations of `simulated`: first come first served, at a constant
    rate.
    """
    axes = new_axes(ax, f"Mean wait on {servers} servers", "utilisation ρ", "mean wait (s)")
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
        error_bars(
            axes, simulated, pd.DataFrame(rows, columns=["estimate", "low", "high"]), "simulated, 95 % interval", ORANGE
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return axes


def dedicated_shared(work: Workload, workers: int, *, replications: int = 10, ax: Axes | None = None) -> Axes:
    """p95 wait by priority for the same workers in three layouts: kept to their lanes, helping, shared by all."""
    axes = new_axes(ax, f"{workers} workers: kept to their lanes, helping, shared", "", "p95 wait (s), 95 % interval")
    own = System.default(workers)
    layouts = {
        "strict": System(lanes=own.lanes, helping=False),
        "helping (default)": own,
        "shared": System(lanes={"shared": workers}),
    }
    for place, ((name, system), color) in enumerate(zip(layouts.items(), (RED, BLUE, GREEN), strict=True)):
        table = simulate(system, work, work.cycle_s, replications=replications).ci("wait", q=0.95, by="priority")
        x = np.arange(len(table)) + 0.22 * (place - 1)
        unbounded = ~np.isfinite(table["estimate"].to_numpy(dtype=np.float64))
        error_bars(axes, x[~unbounded].tolist(), table[~unbounded], name, color)
        axes.set_xticks(range(len(table)), [str(p) for p in table.index])
        for at in x[unbounded]:
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
    wait_scale(axes)
    axes.margins(x=0.2)
    axes.legend(frameon=False)
    return axes
