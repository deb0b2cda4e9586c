"""What a simulation found, with an interval on everything."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dtqkit.capacity import advice, checks, load
from dtqkit.capacity.checks import PRIORITIES
from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.html import table_html
from dtqkit.capacity.replication import GRID, Replication
from dtqkit.capacity.statistics import Estimate, interval, mser5
from dtqkit.capacity.system import System
from dtqkit.capacity.workload import Workload

if TYPE_CHECKING:
    from dtqkit.capacity.plots import ResultPlots

UNITS = {"wait": "s", "sojourn": "s", "depth": "jobs", "utilisation": "", "dead_letter_rate": ""}
ALL = "all"


@dataclass(frozen=True, eq=False)
class Result:
    """Replications of one system under one workload."""

    system: System
    work: Workload
    horizon_s: float
    seed: int
    replications: tuple[Replication, ...]

    # what it is about

    @cached_property
    def load(self) -> float:
        """ρ in the mean, as the workload and the system have it."""
        if self.work.trace is None:
            return load.utilisation(self.system, self.work)
        return max(float(rep.busy_s[-1] / rep.slots_s[-1]) for rep in self.replications)

    @property
    def stable(self) -> bool:
        """Whether the workers keep up in the mean. Of a trace: True, it ends."""
        return self.work.trace is not None or self.load < 1

    @property
    def backlog_slope(self) -> float:
        """Jobs a second by which the backlog grows; 0 if stable."""
        return 0.0 if self.stable else load.slope(self.system, self.work)

    @property
    def drain_s(self) -> float:
        """Seconds from the horizon until all that came by then was done, in the mean."""
        return max(0.0, float(np.mean([rep.last_end_s for rep in self.replications])) - self.horizon_s)

    @property
    def warnings(self) -> tuple[str, ...]:
        return advice.of_result(self)

    @cached_property
    def warm_up_s(self) -> float:
        """Left out at the start, by MSER-5 over the replications' mean course, if a steady state is asked for."""
        if self.work.is_terminating or not self.stable:
            return 0.0
        n = min(len(rep.wait) for rep in self.replications)
        if not n:
            return 0.0
        course = np.zeros(n)
        for rep in self.replications:  # one by one, which takes the memory of one
            course += rep.wait[:n]
        course /= len(self.replications)
        cut = mser5(course)
        return float(np.mean([rep.ready[cut] for rep in self.replications])) if cut else 0.0

    # what it says

    @property
    def wait(self) -> Estimate:
        """Mean wait in the queue (s), all priorities."""
        return self.estimate("wait")

    @property
    def sojourn(self) -> Estimate:
        """Mean time from submit to the job's outcome (s)."""
        return self.estimate("sojourn")

    @property
    def depth(self) -> Estimate:
        """Mean number of waiting jobs."""
        return self.estimate("depth")

    @property
    def utilisation(self) -> Estimate:
        """Used part of the slots' time, up to the horizon."""
        return self.estimate("utilisation")

    @property
    def dead_letter_rate(self) -> Estimate:
        """Part of the jobs that end as dead letters."""
        return self.estimate("dead_letter_rate")

    @property
    def plot(self) -> "ResultPlots":
        from dtqkit.capacity.plots import ResultPlots

        return ResultPlots(self)

    def estimate(self, measure: str, *, q: float | None = None, priority: str = ALL, level: float = 0.95) -> Estimate:
        """The mean over replications of the measure's mean, or its q-quantile (wait and sojourn)."""
        values = self.by_replication(measure, q=q, lane=priority)
        return interval(values, level=level, unit=UNITS[measure])

    def ci(
        self, measure: str = "wait", q: float | None = None, by: str | None = None, level: float = 0.95
    ) -> pd.DataFrame:
        """`estimate`, `low` and `high` of a measure's mean or quantile; `by="priority"` gives a row for each."""
        if by is not None:
            checks.one_of("by", by, ("priority",))
        used = [p for p, share in zip(PRIORITIES, self.work.shares, strict=True) if share]
        rows = [self.estimate(measure, q=q, priority=p, level=level) for p in (used if by else [ALL])]
        table = pd.DataFrame(
            [(row.value, row.low, row.high) for row in rows],
            columns=["estimate", "low", "high"],
            index=pd.Index(used if by else [ALL], name="priority"),
        )
        table.attrs.update(unit=UNITS[measure], level=level, seed=self.seed, replications=len(self.replications))
        return table

    def by_replication(
        self, measure: str, *, q: float | None = None, lane: str = ALL, warm_up_s: float | None = None
    ) -> Floats:
        """One number a replication; infinite for a wait, sojourn or depth that grows without end."""
        checks.one_of("measure", measure, UNITS)
        checks.one_of("priority", lane, (ALL, *PRIORITIES))
        if q is not None:
            checks.between_0_and_1("q", q)
            checks.one_of("measure (for a quantile)", measure, ("wait", "sojourn"))
        if measure in ("wait", "sojourn", "depth") and self.grows(lane):
            return np.full(len(self.replications), math.inf)
        warm = self.warm_up_s if warm_up_s is None else warm_up_s
        number = None if lane == ALL else PRIORITIES.index(lane)
        return np.array([_measure(rep, measure, q, number, warm, self.horizon_s) for rep in self.replications])

    def grows(self, lane: str = ALL) -> bool:
        """Whether this lane's backlog grows without end: in an unstable system, it took a part (5 % or more) of
        what the second half of the horizon added."""
        if self.stable:
            return False
        if lane == ALL:
            return True
        growth = np.mean([rep.depth[:, -1] - rep.depth[:, GRID // 2] for rep in self.replications], axis=0)
        return bool(growth[PRIORITIES.index(lane)] > 0.05 * max(growth.sum(), 1.0))

    def depth_over_time(self, levels: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> pd.DataFrame:
        """Waiting jobs by time (s, the index): the mean and quantiles over replications."""
        depths = np.array([rep.depth.sum(axis=0) for rep in self.replications], dtype=np.float64)
        columns = {"mean": depths.mean(axis=0)}
        columns |= {f"p{100 * level:g}": np.quantile(depths, level, axis=0) for level in levels}
        times = np.linspace(0, self.horizon_s, GRID + 1)
        return pd.DataFrame(columns, index=pd.Index(times, name="time_s"))

    # how it shows itself

    def rows(self) -> list[tuple[str, str, str]]:
        """What is finite: of an unstable system, the rest grows without end."""
        used = [p for p, share in zip(PRIORITIES, self.work.shares, strict=True) if share]
        found = [("waiting jobs, mean", self.depth, 4, "jobs")]
        for lane in used if len(used) > 1 else [ALL]:
            for name, q in (("mean", None), ("p50", 0.5), ("p95", 0.95)):
                found.append((f"wait {lane}, {name}", self.estimate("wait", q=q, priority=lane), 4, "s"))
        found.append(("sojourn, mean", self.sojourn, 4, "s"))
        found.append(("dead letters", self.dead_letter_rate, 3, "of jobs"))
        finite = [
            (name, value.text(digits), unit) for name, value, digits, unit in found if not math.isinf(value.value)
        ]
        return [("utilisation", f"{self.utilisation:.3f}", ""), *finite]

    @property
    def title(self) -> str:
        n = len(self.replications)
        return (
            f"{self.work.jobs_per_day:,.0f} jobs a day on {self.system.workers} workers, "
            f"{self.horizon_s / 3600:g} h × {n} replications, seed {self.seed}, 95 % intervals"
        )

    def __str__(self) -> str:
        lines = [f"{name:<20} {value:>28} {unit}".rstrip() for name, value, unit in self.rows()]
        return "\n".join([self.title, *lines, *(f"! {warning}" for warning in self.warnings)])

    def __repr__(self) -> str:
        return f"<Result: {self.title}>"

    def _repr_html_(self) -> str:
        return table_html(("", "estimate [low, high]", "unit"), self.rows(), title=self.title, notes=self.warnings)


def _measure(
    rep: Replication, measure: str, q: float | None, lane: int | None, warm_s: float, horizon_s: float
) -> float:
    if measure == "utilisation":
        first = min(GRID - 1, int(np.ceil(warm_s / horizon_s * GRID)))
        return float((rep.busy_s[-1] - rep.busy_s[first]) / (rep.slots_s[-1] - rep.slots_s[first]))
    if measure == "depth":
        first = min(GRID - 1, int(np.ceil(warm_s / horizon_s * GRID)))
        depth = (rep.waited_s[:, -1] - rep.waited_s[:, first]) / (horizon_s * (1 - first / GRID))
        return float(depth.sum() if lane is None else depth[lane])
    if measure == "wait":
        values, times, lanes = rep.wait, rep.ready, rep.wait_lane
    elif measure == "sojourn":
        values, times, lanes = rep.sojourn, rep.arrival, rep.lane
    else:
        values, times, lanes = rep.dead, rep.arrival, rep.lane
    chosen = values[np.searchsorted(times, warm_s) :]
    if lane is not None:
        chosen = chosen[lanes[np.searchsorted(times, warm_s) :] == lane]
    if not len(chosen):
        return math.nan
    return float(chosen.mean(dtype=np.float64) if q is None else np.quantile(chosen, q))
