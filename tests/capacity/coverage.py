"""Do 95 % intervals cover the truth 95 times in a hundred? `python -m tests.capacity.coverage [EXPERIMENTS]`

Each experiment is a study as a user would run it (replications, warm-up deleted) with a seed of its own; the truth is
known from theory. The naive interval over pooled jobs is shown beside it.
"""

import sys
from dataclasses import dataclass

import numpy as np

import dtqkit.capacity as cap
from tests.capacity.seeds import base_seed

RATE, SERVICE_S, SERVERS = 1.6, 1.0, 2
REPLICATIONS, HORIZON = 20, "3h"


@dataclass(frozen=True)
class Coverage:
    experiments: int
    mean: float  #: share of the 95 % intervals of the mean wait that contain the true value
    p95: float  #: the same for its 95 % quantile
    naive: float  #: the same for intervals that treat all jobs as independent

    def __str__(self) -> str:
        return (
            f"{self.experiments} experiments of {REPLICATIONS} replications: 95 % intervals cover the mean wait in "
            f"{self.mean:.1%}, its p95 in {self.p95:.1%}; intervals over pooled jobs in {self.naive:.1%}"
        )


def experiment(experiments: int, seed: int, horizon: str = HORIZON) -> Coverage:
    exact = cap.mmc(RATE, SERVICE_S, SERVERS)
    truth, truth_p95 = exact.wait_mean, exact.wait_quantile(0.95)
    work = cap.Workload(RATE * 86_400, cap.Exponential(SERVICE_S), mix={"low": 1.0})
    mean = p95 = naive = 0
    for number in range(experiments):
        result = cap.simulate(cap.System(lanes={"shared": SERVERS}), work, horizon, REPLICATIONS, seed + number)
        mean += truth in result.wait
        p95 += truth_p95 in result.estimate("wait", q=0.95)
        pooled = np.concatenate([rep.wait for rep in result.replications]).astype(np.float64)
        naive += abs(pooled.mean() - truth) <= 1.96 * pooled.std() / len(pooled) ** 0.5
    return Coverage(experiments, mean / experiments, p95 / experiments, naive / experiments)


def main() -> int:
    experiments = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = base_seed()
    coverage = experiment(experiments, seed)
    print(f"seed {seed}: {coverage}")
    return 0 if all(0.90 <= part <= 0.99 for part in (coverage.mean, coverage.p95)) else 1


if __name__ == "__main__":
    sys.exit(main())
