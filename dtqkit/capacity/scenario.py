"""A number of workers under a workload: utilisation and simulated waits."""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from dtqkit.capacity import checks, load
from dtqkit.capacity.formatting import duration
from dtqkit.capacity.simulate import quiet, simulate
from dtqkit.capacity.statistics import Estimate
from dtqkit.capacity.system import System
from dtqkit.capacity.workload import Workload
from dtqkit.model.errors import InvalidOption
from dtqkit.model.jobs import PRIORITIES

#: The system with a given number of workers.
Layout: TypeAlias = Callable[[int], System]

#: Scenarios of a plan, by default.
SCENARIOS: Final = 15


@dataclass(frozen=True)
class SLO:
    """The objective: 95 % of this priority's jobs (or of "all" jobs) wait at most `wait_p95_s` seconds."""

    priority: str = "high"
    wait_p95_s: float = 5.0

    def __post_init__(self) -> None:
        checks.one_of("SLO priority", self.priority, (*PRIORITIES, "all"))
        checks.positive("SLO wait_p95_s", self.wait_p95_s)

    def __str__(self) -> str:
        who = "jobs" if self.priority == "all" else f"{self.priority} jobs"
        return f"95 % of {who} wait at most {duration(self.wait_p95_s)}"


class Scenario(msgspec.Struct, frozen=True):
    """A number of workers and its figures."""

    workers: int
    #: At the mean rate.
    utilisation: float
    #: In the busiest hour.
    peak_utilisation: float
    #: Of the objective's priority (s); infinite if unstable.
    wait_p95: Estimate
    #: Of each priority of the mix (s).
    waits_p95: Mapping[str, Estimate]

    def meets(self, slo: SLO) -> bool:
        """Whether the whole interval is within the objective."""
        return self.wait_p95.high <= slo.wait_p95_s


def examine(
    work: Workload, layout: Layout, workers: int, slo: SLO, *, replications: int, seed: int, executor: Executor | None
) -> Scenario:
    """Simulate a day, or the week of the profile. The wait is infinite if the workers do not carry the mean rate."""
    system = layout(workers)
    mean, peak = load.utilisation(system, work), load.utilisation(system, work, peak=True)
    if mean >= 1:
        unbounded = Estimate(math.inf, math.inf, math.inf, "s")
        return Scenario(workers, mean, peak, unbounded, dict.fromkeys(work.priorities, unbounded))
    result = simulate(
        system, work, work.cycle_s, replications=replications, seed=seed, executor=executor, progress=quiet
    )
    waits = {p: result.estimate("wait", q=0.95, priority=p) for p in work.priorities}
    asked = waits.get(slo.priority) or result.estimate("wait", q=0.95, priority=slo.priority)
    return Scenario(workers, mean, peak, asked, waits)


def fewest(work: Workload, layout: Layout, max_utilisation: float, *, peak: bool) -> int:
    """The smallest number of workers with a utilisation below 1 and within the limit, at the mean rate or in the `peak`
    hour. InvalidOption if no number is enough with this layout."""
    needed = sum(load.lane_loads(layout(1), work)) * work.peak / max_utilisation
    most = 100 + 20 * math.ceil(needed)
    reason = ""
    for workers in range(1, most + 1):
        try:
            rho = load.utilisation(layout(workers), work, peak=peak)
        except ValueError as error:  # too few workers: a lane has none
            reason = str(error)
            continue
        if rho < 1 and rho <= max_utilisation + 1e-9:
            return workers
        reason = f"{workers} workers are {rho:.0%} busy"
    raise InvalidOption(f"with this layout, up to {most:,} workers do not suffice: {reason}")


def counts(work: Workload, layout: Layout, max_utilisation: float, most: int) -> set[int]:
    """At most `most` numbers of workers, from what just carries the mean rate to above what the busiest hour needs."""
    first = fewest(work, layout, 1.0, peak=False)
    by_mean = fewest(work, layout, max_utilisation, peak=False)
    by_peak = fewest(work, layout, max_utilisation, peak=True)
    last = max(first + 4, math.ceil(1.25 * by_peak) + 1)
    chosen = {by_mean, by_peak}
    spaced = [round(first + (last - first) * i / max(1, most - 3)) for i in range(most - 2)]
    return chosen | set(spaced)
