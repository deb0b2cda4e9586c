"""The forecast of when a lane is empty: right on average, and its interval has the stated coverage."""

import random

import pytest

from dtqkit.control.forecast import MIN_ENDS, dispersion, forecast, percentile


def test_an_empty_lane_is_empty_now() -> None:
    assert forecast("high", 0, [], 60).drain_s == 0.0


def test_too_few_finished_jobs_give_no_forecast() -> None:
    found = forecast("high", 10, [1.0] * (MIN_ENDS - 1), 60)
    assert (found.waiting, found.drain_s, found.low_s, found.high_s) == (10, None, None, None)


def test_what_waits_over_the_rate_within_its_interval() -> None:
    found = forecast("low", 300, [n * 0.1 for n in range(600)], 60)
    assert found.drain_s == pytest.approx(30.0)
    assert found.low_s is not None
    assert found.high_s is not None
    assert 20 < found.low_s < 30 < found.high_s < 45


def test_bursts_widen_the_interval() -> None:
    even = forecast("low", 100, [n * 0.6 for n in range(100)], 60)
    bursts = forecast("low", 100, sorted(6.0 * (n // 20) * 2 + 0.01 * (n % 20) for n in range(100)), 60)
    assert even.high_s is not None
    assert bursts.high_s is not None
    assert bursts.drain_s == pytest.approx(even.drain_s)
    assert bursts.high_s > 1.5 * even.high_s
    assert dispersion([n * 0.6 for n in range(100)], 60) == 1.0


def test_nine_of_ten_intervals_hold_the_truth_when_ends_are_random() -> None:
    rng = random.Random(7)
    held = 0
    rounds = 2_000
    for _ in range(rounds):
        ends: list[float] = []
        at = rng.expovariate(2.0)
        while at < 60:
            ends.append(at)
            at += rng.expovariate(2.0)
        found = forecast("medium", 150, ends, 60)
        truth = sum(rng.expovariate(2.0) for _ in range(150))
        assert found.low_s is not None
        assert found.high_s is not None
        held += found.low_s <= truth <= found.high_s
    # Dispersion is never taken for less than Poisson's, so the interval errs on the wide side.
    assert 0.88 < held / rounds < 0.97


def test_percentiles_are_interpolated() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.95) == 3.0
    assert percentile([0.0, 10.0], 0.5) == 5.0
    assert percentile([float(n) for n in range(101)], 0.95) == 95.0
