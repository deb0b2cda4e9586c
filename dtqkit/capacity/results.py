"""The result of a simulation: estimates with confidence intervals, and warnings."""

import math
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import pandas as pd

from dtqkit.capacity import advice, checks, load
from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.html import table_html
from dtqkit.capacity.replication import GRID, Replication
from dtqkit.capacity.statistics import Estimate, interval, mser5
from dtqkit.capacity.system import System
from dtqkit.capacity.workload import Workload
from dtqkit.model.jobs import PRIORITIES

if TYPE_CHECKING:
    from dtqkit.capacity.result_plots import ResultPlots

#: The unit of each measure.
UNITS: Final = {"wait": "s", "sojourn": "s", "depth": "jobs", "utilisation": "", "dead_letter_rate": ""}
#: All priorities together.
ALL: Final = "all"


class Result(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Replications of one system under one workload. Times in seconds."""

    system: System
    work: Workload
    horizon_s: float
    seed: int
    replications: tuple[Replication, ...]

    # the system

    @cached_property
    def load(self) -> float:
        """Utilisation ρ at the mean rate, computed from the workload and the system. Of a trace: measured."""
        if self.work.trace is None:
            return load.utilisation(self.system, self.work)
        return max(float(rep.busy_s[-1] / rep.slots_s[-1]) for rep in self.replications)

    @property
    def stable(self) -> bool:
        """Whether the workers keep up with the mean rate. True for a trace, which ends."""
        return self.work.trace is not None or self.load < 1

    @property
    def backlog_slope(self) -> float:
        """Growth of the backlog in jobs/s; 0 if stable."""
        return 0.0 if self.stable else load.slope(self.system, self.work)

    @property
    def drain_s(self) -> float:
        """Seconds from the horizon until all jobs that arrived before it are finished (mean)."""
        return max(0.0, float(np.mean([rep.last_end_s for rep in self.replications])) - self.horizon_s)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the numbers are used: instability, a peak hour that does not fit, crashes."""
        return advice.of_result(self)

    @cached_property
    def warm_up_s(self) -> float:
        """Time left out at the start: MSER-5 on the waits averaged over replications. 0 for a profile or a trace."""
        if self.work.is_terminating or not self.stable:
            return 0.0
        n = min(len(rep.wait) for rep in self.replications)
        if not n:
            return 0.0
        waits = np.zeros(n)
        for rep in self.replications:  # one by one: needs the memory of one
            waits += rep.wait[:n]
        waits /= len(self.replications)
        cut = mser5(waits)
        return float(np.mean([rep.ready[cut] for rep in self.replications])) if cut else 0.0

    # estimates

    @property
    def wait(self) -> Estimate:
        """Mean wait in the queue (s), all priorities."""
        return self.estimate("wait")

    @property
    def sojourn(self) -> Estimate:
        """Mean time from the submit to the job's outcome (s)."""
        return self.estimate("sojourn")

    @property
    def depth(self) -> Estimate:
        """Mean number of waiting jobs."""
        return self.estimate("depth")

    @property
    def utilisation(self) -> Estimate:
        """Share of the slots' time that is used, up to the horizon."""
        return self.estimate("utilisation")

    @property
    def dead_letter_rate(self) -> Estimate:
        """Share of the jobs that end as dead letters."""
        return self.estimate("dead_letter_rate")

    @property
    def plot(self) -> "ResultPlots":
        """Plots of this result, such as `result.plot.depth()`. Needs matplotlib."""
        from dtqkit.capacity.result_plots import ResultPlots

        return ResultPlots(self)

    def estimate(self, measure: str, *, q: float | None = None, priority: str = ALL, level: float = 0.95) -> Estimate:
        """Mean over replications of a measure's mean, or of its q-quantile (wait and sojourn), with its interval.

        Measures: wait (s), sojourn (s), depth (jobs), utilisation, dead_letter_rate.
        """
        values = self.by_replication(measure, q=q, lane=priority)
        return interval(values, level=level, unit=UNITS[measure])

    def ci(
        self, measure: str = "wait", q: float | None = None, by: str | None = None, level: float = 0.95
    ) -> pd.DataFrame:
        """`estimate` as a table with `estimate`, `low` and `high`; `by="priority"` gives a row per priority."""
        if by is not None:
            checks.one_of("by", by, ("priority",))
        groups = self.work.priorities if by else (ALL,)
        rows = [self.estimate(measure, q=q, priority=group, level=level) for group in groups]
        table = pd.DataFrame(
            [(row.value, row.low, row.high) for row in rows],
            columns=["estimate", "low", "high"],
            index=pd.Index(groups, name="priority"),
        )
        table.attrs.update(unit=UNITS[measure], level=level, seed=self.seed, replications=len(self.replications))
        return table

    def by_replication(
        self, measure: str, *, q: float | None = None, lane: str = ALL, warm_up_s: float | None = None
    ) -> Floats:
        """One number per replication, shape (replications,); infinite for an unbounded wait, sojourn or depth."""
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
        """Whether this lane's backlog is unbounded: the system is unstable, and the lane got at least 5 % of the growth
        in the second half of the horizon."""
        if self.stable:
            return False
        if lane == ALL:
            return True
        growth = np.mean([rep.depth[:, -1] - rep.depth[:, GRID // 2] for rep in self.replications], axis=0)
        return bool(growth[PRIORITIES.index(lane)] > 0.05 * max(growth.sum(), 1.0))

    def depth_over_time(self, levels: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> pd.DataFrame:
        """Waiting jobs over time: index `time_s`, columns `mean` and quantiles over replications (`p5` …)."""
        depths = np.array([rep.depth.sum(axis=0) for rep in self.replications], dtype=np.float64)
        columns = {"mean": depths.mean(axis=0)}
        columns |= {f"p{100 * level:g}": np.quantile(depths, level, axis=0) for level in levels}
        times = np.linspace(0, self.horizon_s, GRID + 1)
        return pd.DataFrame(columns, index=pd.Index(times, name="time_s"))

    # as text and HTML

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, estimate and unit of each finite figure. The waits of an unbounded backlog are left out."""
        found = [("waiting jobs, mean", self.depth, 4, "jobs")]
        for lane in self.work.priorities if len(self.work.priorities) > 1 else (ALL,):
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
