"""The formulas, against printed tables, against each other, and against integrals and chains solved by brute force."""

import doctest
import math
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import gammainc

import dtqkit.capacity as cap
from dtqkit.capacity import priority_theory, statistics, theory

EXACT = 1e-6
INVERTED = 1e-4


@pytest.mark.parametrize(
    ("queue", "wait", "delayed", "p95"),
    [
        (cap.mmc(0.8, 1, 1), 4.0, 0.8, math.log(0.8 / 0.05) / 0.2),
        (cap.mmc(10_000 / 86_400, 30.5, 5), 8.0402632, 0.3874899, 42.4882804),
        (cap.mmc(1.0, 1.0, 2), 1 / 3, 1 / 3, math.log((1 / 3) / 0.05)),
    ],
)
def test_erlang_c_gives_the_mean_the_probability_and_the_quantile(
    queue: cap.Queue, wait: float, delayed: float, p95: float
) -> None:
    assert queue.wait_mean == pytest.approx(wait, rel=EXACT)
    assert queue.wait_probability == pytest.approx(delayed, rel=EXACT)
    assert queue.wait_quantile(0.95) == pytest.approx(p95, rel=EXACT)


def test_cobhams_priorities_have_the_printed_waits_and_quantiles() -> None:
    queue = cap.priority_mmc([0.2, 0.3, 0.3], 1.0, 1)
    assert queue.wait_mean == pytest.approx((1, 2, 8), rel=EXACT)
    assert queue.wait_probability == pytest.approx((0.8, 0.8, 0.8), rel=EXACT)
    assert queue.wait_quantile(0.95) == pytest.approx((3.4657, 7.4183, 31.0137), rel=INVERTED)


def test_both_priority_formulas_agree_where_they_overlap() -> None:
    by_servers = cap.priority_mmc([0.2, 0.3, 0.3], 1.0, 1)
    by_moments = cap.priority_mg1([0.2, 0.3, 0.3], [1.0] * 3, [2.0] * 3)
    assert by_moments.wait_mean == pytest.approx(by_servers.wait_mean, rel=EXACT)
    assert by_moments.wait_quantile(0.99) == pytest.approx(by_servers.wait_quantile(0.99), rel=INVERTED)


def test_pollaczek_khinchine_gives_half_the_wait_for_constant_service() -> None:
    assert cap.mg1(0.8, 1, 0).wait_mean == pytest.approx(2.0, rel=EXACT)
    assert cap.mg1(0.8, 1, 3.5).wait_mean == pytest.approx(0.8 * 4.5 / 2 / 0.2, rel=EXACT)


@pytest.mark.parametrize("scv", [0.25, 0.999_999, 1.000_001, 3.0])
def test_a_tail_by_inversion_has_the_exact_mean_as_its_integral(scv: float) -> None:
    queue = cap.mg1(0.7, 1.0, scv)
    integral = quad(queue.wait_tail, 1e-9, 60 * queue.wait_mean, limit=400)[0]
    assert integral == pytest.approx(queue.wait_mean, rel=INVERTED)


@pytest.mark.parametrize(("servers", "rho"), [(1, 0.8), (2, 0.5), (5, 0.8), (10, 0.95), (30, 0.9)])
def test_constant_service_has_the_mean_of_crommelin_as_the_integral_of_franx_tail(servers: int, rho: float) -> None:
    queue = cap.mdc(rho * servers, 1.0, servers)
    points = list(range(1, 40))
    integral = quad(queue.wait_tail, 1e-12, 40 * max(1, queue.wait_mean), points=points, limit=1000)[0]
    assert integral == pytest.approx(queue.wait_mean, rel=EXACT)


def test_constant_service_with_one_server_is_pollaczek_khinchine_up_to_the_edge() -> None:
    for rho in (0.1, 0.5, 0.9, 0.99, 0.999):
        assert cap.mdc(rho, 1, 1).wait_mean == pytest.approx(rho / 2 / (1 - rho), rel=EXACT)
        assert cap.mdc(rho, 1, 1).wait_probability == pytest.approx(rho, rel=EXACT)


@pytest.mark.parametrize(("servers", "rho"), [(1, 0.3), (2, 0.5), (5, 0.8), (40, 0.9), (8, 0.97)])
def test_constant_service_has_the_mean_of_crommelins_series(servers: int, rho: float) -> None:
    i = np.arange(1, 100_000, dtype=np.float64)
    load = rho * servers
    series = gammainc(i * servers, i * load) - gammainc(i * servers + 1, i * load) / rho
    assert cap.mdc(load, 1.0, servers).wait_mean == pytest.approx(float(series.sum()), rel=EXACT)


def test_the_quantiles_of_mdc_and_of_mg1_near_it_agree() -> None:
    assert cap.mg1(0.8, 1, 1e-7).wait_quantile(0.95) == pytest.approx(
        cap.mdc(0.8, 1, 1).wait_quantile(0.95), rel=INVERTED
    )


def sojourn_by_brute_force(rate: float, service_s: float, mtbf_s: float, mttr_s: float, phases: int) -> float:
    """Mean sojourn with a service of that many exponential phases; a crash sends it back to the first.

    Solved as a Markov chain of up to 23 jobs, which at these loads is all of it.
    """
    most, width = 24, phases + 1  # of n jobs: each phase, and down; of none: up, and down
    generator = np.zeros((most * width, most * width))

    def flow(before: int, after: int, each_s: float) -> None:
        generator[before, after] += each_s
        generator[before, before] -= each_s

    for n in range(most):
        up, down = n * width, n * width + phases
        for state in (*range(up, down if n else up + 1), down):
            if n + 1 < most:
                flow(state, state + width if n or state == down else width, rate)
        flow(down, up, 1 / mttr_s)
        for state in range(up, down if n else up + 1):
            flow(state, down, 1 / mtbf_s)
            if n:
                flow(state, state + 1 if state + 1 < down else up - width, phases / service_s)
    used = [state for state in range(most * width) if generator[state, state]]
    generator = generator[np.ix_(used, used)]
    generator[:, 0] = 1
    right = np.zeros(len(used))
    right[0] = 1
    p = np.linalg.solve(generator.T, right)
    return float(np.array(used) // width @ p) / rate


def test_a_server_that_crashes_agrees_with_chains_solved_by_brute_force() -> None:
    case = (0.3, 1.0, 5.0, 0.4)  # rate, service, mtbf, mttr
    nearer = [sojourn_by_brute_force(*case, phases) for phases in (3, 6, 12, 24, 48)]
    factor = 2  # the error is a series in 1/phases: Richardson
    while len(nearer) > 1:
        nearer = [(factor * b - a) / (factor - 1) for a, b in pairwise(nearer)]
        factor *= 2
    assert cap.md1_with_crashes(*case).sojourn_mean == pytest.approx(nearer[0], rel=EXACT)


def test_a_server_that_hardly_ever_crashes_is_a_plain_one() -> None:
    for mtbf in (1e8, 1e12, 1e300):
        waits = cap.md1_with_crashes(0.7, 1, mtbf, 1).wait_mean
        assert waits == pytest.approx(cap.mdc(0.7, 1, 1).wait_mean, rel=EXACT)


def test_crashes_beside_the_edge_of_the_series_agree() -> None:
    rare, rarer = (cap.md1_with_crashes(0.7, 1, mtbf, 1).wait_mean for mtbf in (0.999e4, 1.001e4))
    assert rare == pytest.approx(rarer, rel=1e-5)
    assert rare > rarer


def test_a_service_too_long_for_a_server_that_crashes_is_unstable() -> None:
    assert not cap.md1_with_crashes(1e-9, 1000, 1, 1).stable


def test_allen_cunneen_says_that_it_is_approximate_and_is_exact_for_exponential_service() -> None:
    queue = cap.mgc(4.0, 1.0, 1.0, 5)
    assert queue.approximate
    assert queue.wait_mean == pytest.approx(cap.mmc(4.0, 1.0, 5).wait_mean)
    assert queue.wait_quantile(0.95) == pytest.approx(cap.mmc(4.0, 1.0, 5).wait_quantile(0.95))


def test_allen_cunneen_is_within_19_percent_of_constant_service() -> None:
    for servers in (2, 5, 20):
        for rho in (0.7, 0.8, 0.9):
            exact, near = cap.mdc(rho * servers, 1, servers), cap.mgc(rho * servers, 1, 0, servers)
            assert abs(near.wait_mean / exact.wait_mean - 1) < 0.19


def test_dedicated_lanes_are_queues_of_their_own() -> None:
    lanes = cap.dedicated_mmc([0.5, 0.8], 1.0, [1, 2])
    assert lanes.wait_mean == (cap.mmc(0.5, 1, 1).wait_mean, cap.mmc(0.8, 1, 2).wait_mean)


def test_the_tier_of_ten_workers_needs_45_for_jobs_of_30_s() -> None:
    per_second = 100_000 / 86_400
    assert cap.required_servers(per_second, 30.5, max_utilisation=0.8) == 45
    assert cap.required_servers(per_second, 6.9, max_utilisation=0.8) == 10
    assert cap.required_servers(per_second, 7.0, max_utilisation=0.8) == 11


def test_required_servers_are_the_fewest_that_meet_the_wait() -> None:
    n = cap.required_servers(1.0, 10.0, wait_p95_s=5)
    assert cap.mmc(1.0, 10.0, n).wait_quantile(0.95) <= 5 < cap.mmc(1.0, 10.0, n - 1).wait_quantile(0.95)


@pytest.mark.parametrize(
    "queue",
    [cap.mmc(2, 1, 2), cap.mdc(3, 1, 2), cap.mg1(1.2, 1, 2), cap.mgc(2, 1, 2, 2), cap.md1_with_crashes(0.95, 1, 10, 1)],
)
def test_an_unstable_queue_has_infinite_waits_and_never_a_negative_one(queue: cap.Queue) -> None:
    assert not queue.stable
    assert queue.wait_mean == queue.wait_quantile(0.5) == queue.sojourn_mean == math.inf
    assert queue.wait_probability == queue.wait_tail(1e9) == 1.0


def test_in_an_unstable_priority_queue_only_the_lowest_classes_wait_forever() -> None:
    queue = cap.priority_mmc([0.3, 0.4, 0.5], 1.0, 1)
    assert queue.stable == (True, True, False)
    assert queue.wait_mean == pytest.approx((1 / 0.7, 1 / 0.7 / 0.3, math.inf))
    assert cap.priority_mg1([0.3, 0.4, 0.5], [1] * 3, [2] * 3).wait_mean == pytest.approx(queue.wait_mean)


@pytest.mark.parametrize("module", [theory, priority_theory, statistics], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_give_what_they_show(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted >= 1


@given(st.floats(0.01, 0.98), st.integers(1, 60), st.floats(0.001, 1000))
def test_waits_scale_with_the_unit_of_time(rho: float, servers: int, mean_s: float) -> None:
    unit, scaled = cap.mmc(rho * servers, 1.0, servers), cap.mmc(rho * servers / mean_s, mean_s, servers)
    assert scaled.wait_mean == pytest.approx(unit.wait_mean * mean_s, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 0.95), st.integers(1, 20))
def test_constant_service_waits_less_than_exponential_and_its_tail_falls(rho: float, servers: int) -> None:
    constant, exponential = cap.mdc(rho * servers, 1.0, servers), cap.mmc(rho * servers, 1.0, servers)
    # Of a service: below that, the sum of M/D/c has no digit left.
    assert constant.wait_mean <= exponential.wait_mean + 1e-12
    tail = [constant.wait_tail(x) for x in np.linspace(0.01, 5, 40)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(tail))
