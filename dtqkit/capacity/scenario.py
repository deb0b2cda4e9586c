"""So many workers under a workload: what they would make of it."""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from dtqkit.capacity import advice, checks, load
from dtqkit.capacity.checks import PRIORITIES
from dtqkit.capacity.simulate import quiet, simulate
from dtqkit.capacity.statistics import Estimate
from dtqkit.capacity.system import System
from dtqkit.capacity.workload import Workload

Layout = Callable[[int], System]
"""The system with so many workers."""

SCENARIOS = 15


@dataclass(frozen=True)
class SLO:
    """95 % of this priority's jobs (or of "all") start within so many seconds."""

    priority: str = "high"
    wait_p95_s: float = 5.0

    def __post_init__(self) -> None:
        checks.one_of("SLO priority", self.priority, (*PRIORITIES, "all"))
        checks.positive("SLO wait_p95_s", self.wait_p95_s)

    def __str__(self) -> str:
        who = "jobs" if self.priority == "all" else f"{self.priority} jobs"
        return f"95 % of {who} wait at most {advice.duration(self.wait_p95_s)}"


@dataclass(frozen=True)
class Scenario:
    """A number of workers and what was found for it."""

    workers: int
    utilisation: float  #: in the mean
    peak_utilisation: float  #: in the busiest hour
    wait_p95: Estimate  #: s, of the SLO's priority; infinite if unstable
    waits_p95: Mapping[str, Estimate]  #: s, of each priority of the mix

    def meets(self, slo: SLO) -> bool:
        """The whole interval is within the objective."""
        return self.wait_p95.high <= slo.wait_p95_s


def examine(
    work: Workload, layout: Layout, workers: int, slo: SLO, *, replications: int, seed: int, executor: Executor | None
) -> Scenario:
    """Simulates a day, or the week of its profile, unless the workers cannot keep up: then the wait has no end."""
    system = layout(workers)
    mean, peak = load.utilisation(system, work), load.utilisation(system, work, peak=True)
    used = [p for p, share in zip(PRIORITIES, work.shares, strict=True) if share]
    if mean >= 1:
        endless = Estimate(math.inf, math.inf, math.inf, "s")
        return Scenario(workers, mean, peak, endless, dict.fromkeys(used, endless))
    result = simulate(
        system, work, work.cycle_s, replications=replications, seed=seed, executor=executor, progress=quiet
    )
    waits = {p: result.estimate("wait", q=0.95, priority=p) for p in used}
    asked = waits.get(slo.priority) or result.estimate("wait", q=0.95, priority=slo.priority)
    return Scenario(workers, mean, peak, asked, waits)


def fewest(work: Workload, layout: Layout, max_utilisation: float, *, peak: bool) -> int:
    """Workers that keep utilisation within the limit (and below 1), in the mean or in the busiest hour."""
    needed = sum(load.lane_loads(layout(1), work)) * work.peak / max_utilisation
    most = 100 + 20 * math.ceil(needed)
    reason = ""
    for workers in range(1, most + 1):
        try:
            rho = load.utilisation(layout(workers), work, peak=peak)
        except ValueError as error:  # so few workers that a lane has none
            reason = str(error)
            continue
        if rho < 1 and rho <= max_utilisation + 1e-9:
            return workers
        reason = f"{workers} workers of it are {rho:.0%} busy"
    raise ValueError(f"with this layout, up to {most:,} workers do not suffice: {reason}")


def counts(work: Workload, layout: Layout, max_utilisation: float, most: int) -> set[int]:
    """At most `most` numbers of workers, from the first that keeps up in the mean to well above the busiest hour's."""
    first = fewest(work, layout, 1.0, peak=False)
    by_mean = fewest(work, layout, max_utilisation, peak=False)
    by_peak = fewest(work, layout, max_utilisation, peak=True)
    last = max(first + 4, math.ceil(1.25 * by_peak) + 1)
    chosen = {by_mean, by_peak}
    spaced = [round(first + (last - first) * i / max(1, most - 3)) for i in range(most - 2)]
    return chosen | set(spaced)
