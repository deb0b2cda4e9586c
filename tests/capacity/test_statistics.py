"""Intervals, warm-up, and warnings about systems that do not keep up."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import dtqkit.capacity as cap
from dtqkit.capacity import fast, load
from dtqkit.capacity.advice import general
from dtqkit.capacity.distributions import weighed
from dtqkit.capacity.draws import Draws
from dtqkit.capacity.simulation_log import LOST
from tests.capacity.coverage import experiment
from tests.capacity.seeds import base_seed

SHARED = cap.System(lanes={"shared": 5})
TENK = cap.Workload(10_000, cap.Exponential(30.5), mix={"low": 1.0})


def test_an_interval_is_students_t_over_one_number_a_replication() -> None:
    estimate = cap.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * math.sqrt(2.5 / 5)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3.0, 3.0 - half, 3.0 + half), rel=1e-6)
    assert 3.0 + 0.99 * half in estimate
    assert 3.0 + 1.01 * half not in estimate


def test_one_replication_has_an_interval_without_bounds() -> None:
    assert (cap.interval([4.0]).low, cap.interval([4.0]).high) == (-math.inf, math.inf)


def test_mser5_cuts_off_a_start_that_is_not_like_the_rest() -> None:
    rng = np.random.default_rng(base_seed())
    settled = rng.normal(10, 1, 2000)
    assert 180 <= cap.mser5(np.concatenate([np.linspace(-60, 9, 200), settled])) <= 300
    assert cap.mser5(np.ones(20)) == 0


def test_intervals_cover_the_truth_and_pooled_jobs_do_not() -> None:
    seed = base_seed()
    found = experiment(20, seed, horizon="1h")
    print(f"seed {seed}: {found}")
    assert found.mean >= 0.7  # binomial(20, .95): fewer once in 30,000 runs; `make soak` asks 200 times, and for longer
    assert found.naive <= 0.6


def test_the_stop_rule_adds_replications_until_the_interval_is_narrow() -> None:
    loose = cap.simulate(SHARED, TENK, "4h", 10, relative_half_width=0.9)
    tight = cap.simulate(SHARED, TENK, "4h", 10, relative_half_width=0.2)
    assert len(loose.replications) == 10
    assert len(tight.replications) > 10
    assert tight.wait.relative_half_width <= 0.2


def test_an_executor_and_the_number_of_its_threads_change_nothing() -> None:
    here = cap.simulate(SHARED, TENK, "2h", 6, seed=3)
    with ThreadPoolExecutor(2) as executor:
        there = cap.simulate(SHARED, TENK, "2h", 6, seed=3, executor=executor)
    assert here.ci("wait", q=0.95).equals(there.ci("wait", q=0.95))


def test_both_engines_give_the_same_result() -> None:
    fast, reference = (cap.simulate(SHARED, TENK, "2h", 4, engine=engine) for engine in ("fast", "reference"))
    assert fast.ci("sojourn").equals(reference.ci("sojourn"))
    assert fast.utilisation == reference.utilisation


def test_little_holds_between_depth_and_wait() -> None:
    result = cap.simulate(SHARED, TENK, "1d", 20)
    by_little = (
        result.by_replication("wait", warm_up_s=0) * np.array([len(r.wait) for r in result.replications]) / 86_400
    )
    assert result.by_replication("depth", warm_up_s=0) == pytest.approx(by_little, rel=0.02)


def test_an_unstable_system_has_an_infinite_wait_a_slope_and_a_time_to_drain() -> None:
    work = cap.Workload(10_000, cap.Exponential(30.5))
    result = cap.simulate(cap.System(lanes={"shared": 3}), work, "1d", 4)
    assert not result.stable
    assert result.wait.value == result.sojourn.value == result.ci("wait", q=0.95).loc["all", "high"] == math.inf
    grown = np.mean([rep.depth[:, -1].sum() for rep in result.replications]) / 86_400
    assert result.backlog_slope == pytest.approx(grown, rel=0.15)
    assert result.drain_s == pytest.approx(grown * 86_400 * 30.5 / 3, rel=0.15)
    by_priority = result.ci("wait", by="priority")["estimate"]
    assert math.isfinite(by_priority["high"])
    assert by_priority["low"] == math.inf
    assert result.warnings[0].startswith("unstable")


def test_a_peak_hour_that_does_not_fit_is_warned_about_though_the_mean_does() -> None:
    work = cap.Workload(10_000, cap.Exponential(30.5), mix={"low": 1.0}, profile=cap.HourOfDay.swing(0.6))
    result = cap.simulate(SHARED, work, "1d", 30, seed=base_seed())
    assert result.stable
    assert result.warm_up_s == 0
    assert 500 < result.wait.value < 950  # 702 s, where the formula for the mean rate says 8 s
    assert any("busiest hour (12:00) asks for 113%" in warning for warning in result.warnings)
    assert any("a formula says 8.04 s" in warning for warning in result.warnings)


def test_a_day_with_a_profile_starts_with_the_backlog() -> None:
    work = cap.Workload(1000, cap.Deterministic(10), profile=cap.HourOfDay.swing(0.5))
    result = cap.simulate(cap.System(lanes={"shared": 1}), work, "1d", 3, backlog={"low": 200})
    assert result.depth_over_time()["mean"].iloc[0] == pytest.approx(199)
    assert result.depth_over_time()["p50"].iloc[24] < 40


def test_retries_and_crashes_are_warned_about_with_their_cost() -> None:
    work = cap.Workload(5000, cap.Exponential(30), failure_probability=0.2)
    result = cap.simulate(cap.System.default(5), work, "6h", 3)
    assert any("retries multiply the load by 1.240" in warning for warning in result.warnings)
    crashing = cap.System(lanes={"shared": 5}, crashes=cap.Crashes(mtbf_s=900, mttr_s=100))
    assert any("crashes take 10.00%" in warning for warning in cap.simulate(crashing, work, "6h", 3).warnings)


def test_a_comparison_under_common_random_numbers_sees_what_two_intervals_cannot() -> None:
    table = cap.compare(SHARED, SHARED.with_workers(shared=6), TENK, "6h", 10)
    row = table.to_dict(orient="index")["wait mean all (s)"]
    assert row["high"] < 0
    assert row["difference"] == pytest.approx(row["second"] - row["first"])
    own = cap.simulate(SHARED, TENK, "6h", 10).wait
    assert row["high"] - row["low"] < 2 * (own.high - own.low)


def test_results_are_shown_as_text_and_html_without_a_picture() -> None:
    result = cap.simulate(cap.System.default(3), cap.Workload(2000, cap.Lognormal(20)), "3h", 3)
    assert "wait high, p95" in str(result)
    assert "<table>" in result._repr_html_()
    assert result.ci("wait", q=0.5, by="priority").attrs["unit"] == "s"


def test_a_backlog_grows_by_what_its_own_lane_lacks() -> None:
    services = {"high": cap.Exponential(1), "medium": cap.Exponential(1), "low": cap.Exponential(100)}
    mix = {"high": 0.9, "low": 0.1}
    strict = cap.System(lanes={"high": 2, "low": 1}, helping=False)
    assert load.slope(strict, cap.Workload(0.2 * 86_400, services, mix=mix)) == pytest.approx(0.02 - 1 / 100)
    shared = cap.System(lanes={"shared": 9})
    assert load.slope(shared, cap.Workload(86_400, services, mix=mix)) == pytest.approx(0.1 - (9 - 0.9) / 100)
    helped = cap.System(lanes={"high": 2, "low": 1})
    assert load.slope(helped, cap.Workload(0.2 * 86_400, services, mix=mix)) == 0


@pytest.mark.parametrize(
    ("service", "max_losses", "fails"),
    [
        (cap.Deterministic(2.0), 3, 0.0),
        (cap.Lognormal(1.0, 2.0), 3, 0.3),
        (cap.Lognormal(1.0, 2.0), 1, 0.3),
        (cap.Exponential(3.0), 10, 0.2),
    ],
)
def test_what_crashes_cut_short_is_part_of_the_load(service: cap.Distribution, max_losses: int, fails: float) -> None:
    crashes = cap.Crashes(mtbf_s=4.0, mttr_s=0.5, detection_s=0, max_losses=max_losses)
    system = cap.System(lanes={"shared": 40}, crashes=crashes, retry=cap.Retry(3, backoff_s=0))
    work = cap.Workload(864_000, service, mix={"low": 1.0}, failure_probability=fails)
    log = fast.run(system, Draws(work, horizon_s=3_000, seed=base_seed()))
    jobs = len(log.arrival)
    assert jobs > 29_000
    expected = load.demand(system, work, "low")
    assert len(log.job) / jobs == pytest.approx(expected.attempts, rel=0.03)
    assert float((log.end - log.start).sum()) / jobs == pytest.approx(expected.busy_s, rel=0.06)
    assert load.demand(replace(system, crashes=None), work, "low").busy_s < 0.9 * expected.busy_s or max_losses == 1


FAMILIES = [
    cap.Exponential(30),
    cap.Deterministic(30),
    cap.Lognormal(30, 4),
    cap.Gamma(30, 0.3),
    cap.Gamma(30, 5),
    cap.HyperExponential(30, 20),
    cap.Uniform(1, 60),
    cap.Scaled(cap.Lognormal(10, 2), 3),
    cap.Empirical([1.0, 2.0, 500.0]),
]


@pytest.mark.parametrize("service", FAMILIES, ids=repr)
def test_the_weighed_times_of_a_distribution_are_those_that_it_draws(service: cap.Distribution) -> None:
    times, weights = weighed(service)
    assert weights.sum() == pytest.approx(1)
    assert weights @ times == pytest.approx(service.mean, rel=1e-3)
    assert weights @ times**2 == pytest.approx((1 + service.scv) * service.mean**2, rel=0.02)
    drawn = service.sample(np.random.default_rng(base_seed()), 400_000)
    for limit in np.quantile(drawn, [0.1, 0.5, 0.9, 0.99]):
        below = weights[times <= limit].sum(), (drawn <= limit).mean()
        assert below[0] == pytest.approx(below[1], abs=0.006)


def test_rare_and_very_long_jobs_are_part_of_the_load() -> None:
    crashes = cap.Crashes(mtbf_s=21_600, mttr_s=60, max_losses=3)
    system = cap.System(lanes={"shared": 1}, crashes=crashes)
    times = np.array([0.0] * 300_000 + [36_000.0])
    work = cap.Workload(86_400 / cap.Empirical(times).mean * 5, cap.Empirical(times), mix={"low": 1.0})
    hit = 1 - math.exp(-36_000 / 21_600)
    exact = 21_600 * hit * (1 + hit + hit**2) / 300_001
    assert load.demand(system, work, "low").busy_s == pytest.approx(exact)
    assert load.demand(system, work, "low").lost == pytest.approx(hit**3 / 300_001)
    assert load.utilisation(system, work) > 1


def test_jobs_too_long_for_workers_that_crash_are_warned_about() -> None:
    system = cap.System(lanes={"shared": 10}, crashes=cap.Crashes(mtbf_s=3_600, mttr_s=10))
    work = cap.Workload(50, cap.Deterministic(36_000), mix={"low": 1.0})
    assert load.lost_jobs(system, work) == pytest.approx((1 - math.exp(-10)) ** 3)
    assert any("100.0% of the jobs lose 3 workers and are dead letters" in text for text in general(system, work))
    short = cap.Workload(50, cap.Deterministic(15), mix={"low": 1.0})
    assert not any("dead letters" in text for text in general(system, short))


def test_losses_count_over_all_attempts_of_a_job() -> None:
    """With many failures and few losses allowed, a count that restarted with each failure would be wrong."""
    crashes = cap.Crashes(mtbf_s=3.0, mttr_s=0.2, detection_s=0, max_losses=2)
    system = cap.System(lanes={"shared": 60}, crashes=crashes, retry=cap.Retry(6, backoff_s=0))
    work = cap.Workload(864_000, cap.Deterministic(1.0), mix={"low": 1.0}, failure_probability=0.6)
    log = fast.run(system, Draws(work, horizon_s=3_000, seed=base_seed()))
    expected = load.demand(system, work, "low")
    assert len(log.job) / len(log.arrival) == pytest.approx(expected.attempts, rel=0.015)
    lost = np.bincount(log.job[log.outcome == LOST], minlength=len(log.arrival)) >= 2
    assert lost.mean() == pytest.approx(expected.lost, rel=0.05)


def test_jobs_too_long_for_workers_that_crash_are_not_called_stable() -> None:
    crashes = cap.Crashes(mtbf_s=21_600, mttr_s=60, max_losses=50)
    system = cap.System(lanes={"shared": 10}, crashes=crashes)
    long = cap.Workload(0.8 * 10 * 86_400 / 7_200, cap.Deterministic(7_200), mix={"low": 1.0})
    assert load.utilisation(replace(system, crashes=None), long) == pytest.approx(0.8)
    # Restarts alone: mtbf (e^(S/mtbf) - 1) / S.
    assert load.utilisation(system, long) == pytest.approx(0.8 * 1.1868 * 21_660 / 21_600, rel=1e-4)
    longer = cap.Workload(0.8 * 10 * 86_400 / 21_600, cap.Deterministic(21_600), mix={"low": 1.0})
    result = cap.simulate(system, longer, 86_400, replications=2)
    assert not result.stable
    assert result.wait.value == math.inf
    assert any("unstable" in text for text in result.warnings)


def test_work_repeated_after_crashes_is_warned_about() -> None:
    system = cap.System(lanes={"shared": 10}, crashes=cap.Crashes(mtbf_s=21_600, mttr_s=60))
    long, short = (cap.Workload(30 * 3600 / s * 4, cap.Deterministic(s)) for s in (7_200.0, 15.0))
    assert any("crashes make the load 16.0%" in text for text in general(system, long))
    assert not any("crashes make the load" in text for text in general(system, short))
