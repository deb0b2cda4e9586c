"""Simulation against closed forms, at seeds that the test does not choose.

A 99.9 % interval misses the truth once in a thousand, and there are some 80 of them here: a plain test would cry wolf
in 8 % of its runs. A miss is therefore not a failure but a question: it is asked again with another seed and four times
the replications, where a real bias shows more clearly and an unlucky draw does not come back. Both must miss to fail
(about 1e-6 a case), and no more than two cases of a seed are taken for luck (three: 1 seed in 100,000).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import dtqkit.capacity as cap
from tests.capacity.seeds import seeds

DAY = 86_400.0
LEVEL = 0.999
HALF_WIDTH = 0.05
REPLICATIONS = 30
ONE = {"low": 1.0}
THREE = {"high": 0.25, "medium": 0.375, "low": 0.375}
#: `make soak` asks for more.
SEEDS = seeds(int(os.environ.get("DTQ_THEORY_SEEDS", "1")))

Measured = tuple[str, cap.Estimate, float]


@dataclass(frozen=True)
class Case:
    name: str
    system: cap.System
    work: cap.Workload
    exact: Callable[[cap.Result], list[Measured]]
    jobs: int = 12_000
    """Of one replication, all classes together."""


def at_rate(
    rate: float, service: cap.Distribution, mix: dict[str, float] | None = None, fails: float = 0.0
) -> cap.Workload:
    """Jobs of one lane, unless `mix` is given, at `rate` jobs/s."""
    return cap.Workload(rate * DAY, service, mix=mix or ONE, failure_probability=fails)


def shared(servers: int, **more: object) -> cap.System:
    return cap.System(lanes={"shared": servers}, **more)  # pyright: ignore[reportArgumentType]


def mean_of(queue: cap.Queue) -> Callable[[cap.Result], list[Measured]]:
    return lambda result: [("mean wait", result.estimate("wait", level=LEVEL), queue.wait_mean)]


def mean_and_tail(queue: cap.Queue, q: float = 0.95) -> Callable[[cap.Result], list[Measured]]:
    return lambda result: [
        ("mean wait", result.estimate("wait", level=LEVEL), queue.wait_mean),
        (f"p{100 * q:g} wait", result.estimate("wait", q=q, level=LEVEL), queue.wait_quantile(q)),
    ]


def each_class(queue: cap.Classes) -> Callable[[cap.Result], list[Measured]]:
    return lambda result: [
        (f"mean wait {p}", result.estimate("wait", priority=p, level=LEVEL), exact)
        for p, exact in zip(THREE, queue.wait_mean, strict=True)
    ]


def sojourn_with_retries(
    p: float, attempts: int, queue: cap.Queue, backoff_s: float
) -> Callable[[cap.Result], list[Measured]]:
    """A Jackson network: before its servers each attempt waits as in M/M/c at the rate of all attempts."""
    runs = (1 - p**attempts) / (1 - p)
    delays = sum(p**k * backoff_s / 2 for k in range(1, attempts))
    return lambda result: [
        ("mean wait of an attempt", result.estimate("wait", level=LEVEL), queue.wait_mean),
        ("mean sojourn", result.estimate("sojourn", level=LEVEL), runs * queue.sojourn_mean + delays),
    ]


def with_crashes(queue: cap.Queue) -> Callable[[cap.Result], list[Measured]]:
    return lambda result: [("mean sojourn", result.estimate("sojourn", level=LEVEL), queue.sojourn_mean)]


CASES = [
    Case("M/M/1 at 0.6", shared(1), at_rate(0.6, cap.Exponential(1)), mean_and_tail(cap.mmc(0.6, 1, 1)), jobs=20_000),
    Case("M/M/1 at 0.8", shared(1), at_rate(0.8, cap.Exponential(1)), mean_of(cap.mmc(0.8, 1, 1)), jobs=70_000),
    Case("M/M/3", shared(3), at_rate(2.0, cap.Exponential(1)), mean_and_tail(cap.mmc(2.0, 1, 3)), jobs=34_000),
    Case("M/M/8 as two workers of four slots", shared(2, slots_per_worker=4),
         at_rate(6.0, cap.Exponential(1)), mean_of(cap.mmc(6.0, 1, 8)), jobs=70_000),
    Case("M/D/1", shared(1), at_rate(0.7, cap.Deterministic(1)), mean_and_tail(cap.mdc(0.7, 1, 1)), jobs=18_000),
    Case("M/D/4", shared(4), at_rate(3.0, cap.Deterministic(1)), mean_and_tail(cap.mdc(3.0, 1, 4)), jobs=28_000),
    Case("M/G/1, lognormal", shared(1), at_rate(0.5, cap.Lognormal(1, 1.5)),
         mean_of(cap.mg1(0.5, 1, 1.5)), jobs=36_000),
    Case("M/G/1, gamma, with its tail", shared(1), at_rate(0.6, cap.Gamma(1, 0.5)),
         mean_and_tail(cap.mg1(0.6, 1, 0.5))),
    Case("M/G/1, hyperexponential", shared(1), at_rate(0.5, cap.HyperExponential(1, 2)),
         mean_of(cap.mg1(0.5, 1, 2)), jobs=32_000),
    Case("M/G/1, uniform 1 to 60 s", shared(1), at_rate(0.02, cap.Uniform(1, 60)),
         mean_of(cap.mg1(0.02, 30.5, cap.Uniform(1, 60).scv))),
    Case("priority M/M/1", shared(1), at_rate(0.6, cap.Exponential(1), THREE),
         each_class(cap.priority_mmc([0.15, 0.225, 0.225], 1, 1)), jobs=20_000),
    Case("priority M/M/3", shared(3), at_rate(1.9, cap.Exponential(1), THREE),
         each_class(cap.priority_mmc([0.475, 0.7125, 0.7125], 1, 3)), jobs=40_000),
    Case("priority M/G/1 with a service time for each", shared(1),
         cap.Workload(0.4 * DAY,
                      {"high": cap.Deterministic(0.5), "medium": cap.Exponential(1), "low": cap.Gamma(2, 0.5)},
                      mix=THREE),
         each_class(cap.priority_mg1([0.1, 0.15, 0.15], [0.5, 1, 2], [0.25, 2, 6])), jobs=20_000),
    Case("dedicated lanes that do not help", cap.System(lanes={"high": 1, "medium": 2, "low": 1}, helping=False),
         at_rate(1.8, cap.Exponential(1), {"high": 0.3, "medium": 0.4, "low": 0.3}),
         each_class(cap.dedicated_mmc([0.54, 0.72, 0.54], 1, [1, 2, 1])), jobs=50_000),
    Case("retries, three attempts with backoff", shared(2, retry=cap.Retry(3, backoff_s=10, factor=1)),
         at_rate(1.0, cap.Exponential(1), fails=0.2),
         sojourn_with_retries(0.2, 3, cap.mmc(1.24, 1, 2), 10), jobs=22_000),
    Case("crashes", shared(1, crashes=cap.Crashes(20, 1, detection_s=0, max_losses=1000)),
         at_rate(0.5, cap.Deterministic(1)), with_crashes(cap.md1_with_crashes(0.5, 1, 20, 1))),
    # So long that the pause of some seconds after a second loss, which the formula does not know, is nothing.
    Case("crashes that cut a fifth of all attempts short",
         shared(1, crashes=cap.Crashes(4_000, 200, detection_s=0, max_losses=1000)),
         at_rate(0.0005, cap.Deterministic(1_000)), with_crashes(cap.md1_with_crashes(0.0005, 1_000, 4_000, 200)),
         jobs=4_000),
]  # fmt: skip


def study(case: Case, seed: int, replications: int) -> list[Measured]:
    """If the interval is too wide, the simulation is repeated with twice the length. The decision depends on the width
    alone, so it does not favour agreement."""
    found: list[Measured] = []
    for attempt in range(3):
        horizon_s = 2**attempt * case.jobs / case.work.arrival_rate
        found = case.exact(cap.simulate(case.system, case.work, horizon_s, replications, seed + 100 * attempt))
        if all(estimate.relative_half_width <= HALF_WIDTH for _, estimate, _ in found):
            return found
    pytest.fail(f"{case.name} is known no better than {found}")


def misses(case: Case, seed: int, replications: int) -> list[str]:
    """The cases whose exact value lies outside the interval."""
    return [
        f"{case.name}, seed {seed}: {name} {estimate} and exactly {exact:.6g}"
        for name, estimate, exact in study(case, seed, replications)
        if exact not in estimate
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed{SEEDS.index(seed)}")
def test_the_exact_value_lies_within_the_simulated_interval(seed: int) -> None:
    print(f"seed {seed} (DTQ_TEST_SEED={SEEDS[0]} repeats all of them)")
    own = {case.name: seed + number for number, case in enumerate(CASES)}
    first = {case.name: said for case in CASES if (said := misses(case, own[case.name], REPLICATIONS))}
    for said in first.values():
        print("asked again:", *said)
    assert len(first) <= 2, first
    again = [
        said for case in CASES if case.name in first for said in misses(case, own[case.name] + 500, 4 * REPLICATIONS)
    ]
    assert not again, (first, again)
