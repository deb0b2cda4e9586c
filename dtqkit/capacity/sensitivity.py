"""How much the objective's wait depends on each input."""

import math
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final

import pandas as pd

from dtqkit.capacity import load
from dtqkit.capacity.distributions import Distribution, Lognormal, Scaled
from dtqkit.capacity.scenario import SLO, Layout, examine
from dtqkit.capacity.workload import Workload

#: A lognormal of a smaller scv is practically constant.
LEAST_SCV: Final = 0.05


def _services(work: Workload) -> dict[str, Distribution]:
    return {p: work.service_of(p) for p in work.priorities}


def _slower(work: Workload, factor: float) -> Workload:
    return replace(work, service={p: Scaled(service, factor) for p, service in _services(work).items()})


def _more_varied(work: Workload, factor: float) -> Workload:
    service = {p: Lognormal(s.mean, max(LEAST_SCV, s.scv * factor)) for p, s in _services(work).items()}
    return replace(work, service=service)


def sensitivity(
    work: Workload,
    layout: Layout,
    workers: int,
    slo: SLO,
    *,
    change: float = 0.2,
    replications: int = 10,
    seed: int = 1,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """p95 wait (s) of the objective's priority, with one input at a time changed by ±`change`.

    One row per input; columns `base` (unchanged), `low` and `high` (input lowered, raised). Infinite if the workers
    cannot keep up with the mean rate.
    """

    def p95(changed: Workload, count: int) -> float:
        if load.utilisation(layout(count), changed) >= 1:
            return math.inf
        found = examine(changed, layout, count, slo, replications=replications, seed=seed, executor=executor)
        return found.wait_p95.value

    less, more, n = 1 - change, 1 + change, workers
    rate, fails = work.jobs_per_day, work.failure_probability
    cases = {
        f"jobs a day ±{change:.0%}": (
            (work.scaled(jobs_per_day=rate * less), n),
            (work.scaled(jobs_per_day=rate * more), n),
        ),
        f"service time ±{change:.0%}": ((_slower(work, less), n), (_slower(work, more), n)),
        "scv halved, doubled": ((_more_varied(work, 0.5), n), (_more_varied(work, 2.0), n)),
        "failures: none, +5 points": (
            (replace(work, failure_probability=0.0), n),
            (replace(work, failure_probability=min(0.95, fails + 0.05)), n),
        ),
        "a worker more, one less": ((work, n + 1), (work, max(1, n - 1))),
    }
    base = p95(work, n)
    rows = {name: {"base": base, "low": p95(*low), "high": p95(*high)} for name, (low, high) in cases.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.attrs.update(unit="s", workers=workers, replications=replications, seed=seed)
    return table
