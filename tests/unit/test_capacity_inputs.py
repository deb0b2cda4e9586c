"""Bad input: an InvalidOption that names the input, what was given and what is allowed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dtqkit.capacity as cap
from dtqkit.model.errors import InvalidOption

WORK = cap.Workload(1000, cap.Exponential(1))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: cap.Workload(0, cap.Exponential(1)), r"jobs_per_day .* above 0, got 0"),
        (lambda: cap.Workload(-5, cap.Exponential(1)), r"jobs_per_day .* got -5"),
        (lambda: cap.Workload(float("nan"), cap.Exponential(1)), r"jobs_per_day .* got nan"),
        (lambda: cap.Workload(float("inf"), cap.Exponential(1)), r"jobs_per_day .* finite .* got inf"),
        (lambda: cap.Workload(10, cap.Exponential(-1)), r"Exponential mean .* got -1"),
        (lambda: cap.Workload(10, cap.Lognormal(1, scv=0)), r"Lognormal scv .* got 0"),
        (lambda: cap.Workload(10, "weibull"), r"service must be a distribution .*Lognormal.* got 'weibull'"),  # pyright: ignore
        (lambda: cap.Workload(10, cap.Exponential), r"service must be a distribution"),  # pyright: ignore
        (lambda: cap.Workload(10, {"high": cap.Exponential(1)}), r"'medium' is missing"),
        (lambda: cap.Workload(10, cap.Exponential(1), mix={"high": 0.5}), r"mix must add up to 1, got 0.5"),
        (lambda: cap.Workload(10, cap.Exponential(1), mix={"urgent": 1.0}), r"one of high, medium, low; got 'urgent'"),
        (lambda: cap.Workload(10, cap.Exponential(1), mix={"high": 1.5, "low": -0.5}), r"mix\['low'\] .* got -0.5"),
        (lambda: cap.Workload(10, cap.Exponential(1), failure_probability=1), r"failure_probability .* below 1, got 1"),
        (lambda: cap.distribution("weibull", 1), r"one of exponential, .*; got 'weibull'"),
        (lambda: cap.HyperExponential(1, 0.5), r"scv must be above 1, got 0.5"),
        (lambda: cap.Uniform(5, 2), r"high must be above low"),
        (lambda: cap.Empirical([]), r"at least one time"),
        (lambda: cap.Empirical([1.0, -1.0]), r"not negative"),
        (lambda: cap.HourOfDay([1, 2]), r"24 numbers"),
        (lambda: cap.HourOfDay([-1] * 24), r"not negative"),
        (lambda: cap.HourOfDay.swing(1.5), r"from 0 to 1 .*, got 1.5"),
        (lambda: cap.HourOfWeek([1] * 24), r"168 numbers"),
        (lambda: cap.Trace(np.array([2.0, 1.0])), r"ascending"),
        (lambda: cap.Trace(np.array([1.0, 2.0]), priorities=["high"]), r"2 names, one per job; got 1"),
        (lambda: cap.Trace(np.array([1.0]), priorities=["now"]), r"got 'now'"),
        (lambda: cap.Trace(np.array([1.0]), service_s=np.array([-1.0])), r"at least 0"),
        (lambda: cap.System(lanes={}), r"at least one worker"),
        (lambda: cap.System(lanes={"high": 0}), r"at least one worker"),
        (lambda: cap.System(lanes={"fast": 1}), r"one of high, medium, low, shared; got 'fast'"),
        (lambda: cap.System(lanes={"high": -1}), r"lanes\['high'\] .* at least 0, got -1"),
        (lambda: cap.System(slots_per_worker=0), r"slots_per_worker .* got 0"),
        (lambda: cap.System.default(0), r"workers .* at least 1, got 0"),
        (lambda: cap.System(autoscale=cap.Autoscale(max_workers=2)), r"at least the 3 fixed workers, got 2"),
        (lambda: cap.Retry(max_attempts=0), r"max_attempts .* got 0"),
        (lambda: cap.Retry(factor=0.5), r"factor must be at least 1, got 0.5"),
        (lambda: cap.Crashes(mtbf_s=0), r"mtbf_s .* got 0"),
        (lambda: cap.Crashes(mtbf_s=1, max_losses=1001), r"max_losses .* at most 1,000, got 1001"),
        (lambda: cap.Latency(claim_s=-1), r"claim_s .* got -1"),
        (lambda: cap.Autoscale(interval_s=0), r"interval_s .* got 0"),
        (lambda: cap.SLO("high", 0), r"wait_p95_s .* got 0"),
        (lambda: cap.SLO("vip", 1), r"high, medium, low, all; got 'vip'"),
        (lambda: cap.mmc(0, 1, 1), r"arrival_rate .* got 0"),
        (lambda: cap.mmc(1, -1, 1), r"mean_service_s .* got -1"),
        (lambda: cap.mmc(1, 1, 0), r"servers .* got 0"),
        (lambda: cap.mmc(1, 1, 1.5), r"servers must be a whole number .* got 1.5"),  # pyright: ignore
        (lambda: cap.mmc(0.5, 1, 1).wait_quantile(1), r"q must lie strictly between 0 and 1, got 1"),
        (lambda: cap.mmc(0.5, 1, 1).wait_tail(-1), r"t must .* got -1"),
        (lambda: cap.mg1(0.5, 1, -1), r"scv .* got -1"),
        (lambda: cap.priority_mmc([], 1, 1), r"at least one class"),
        (lambda: cap.priority_mg1([1, 1], [1], [1]), r"one entry per class, got 2, 1 and 1"),
        (lambda: cap.priority_mg1([0.1], [2], [1]), r"at least the squared mean 4"),
        (lambda: cap.dedicated_mmc([1, 1], 1, [1]), r"one entry per class \(2\), got 1"),
        (lambda: cap.required_servers(1, 1, max_utilisation=0), r"max_utilisation .* got 0"),
        (lambda: cap.simulate(cap.System(), WORK, horizon="1 fortnight"), r"horizon .* got '1 fortnight'"),
        (lambda: cap.simulate(cap.System(), WORK, horizon=0), r"horizon .* got 0"),
        (lambda: cap.simulate(cap.System(), WORK, replications=0), r"replications .* got 0"),
        (lambda: cap.simulate(cap.System(), WORK, engine="gpu"), r"one of fast, reference; got 'gpu'"),
        (lambda: cap.simulate(cap.System(), WORK, backlog={"vip": 1}), r"backlog .* got 'vip'"),
        (
            lambda: cap.simulate(cap.System(lanes={"high": 1}, helping=False), WORK),
            r"medium jobs and no worker of the system serves them",
        ),
        (lambda: cap.plan(WORK, max_utilisation=1.5), r"max_utilisation .* got 1.5"),
        (lambda: cap.plan(WORK, tiers=[]), r"at least one tier"),
        (lambda: cap.plan(cap.Workload(10, cap.Exponential(1), trace=cap.Trace(np.array([1.0])))), r"not a trace"),
        (lambda: cap.Footprint(retention_days=0), r"retention_days .* got 0"),
        (lambda: cap.interval([1.0, 2.0], level=2), r"level .* got 2"),
    ],
)
def test_a_wrong_input_is_named_with_what_was_given_and_what_is_allowed(wrong: Callable[[], object], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        wrong()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tier = 3 [", "must be TOML"),
        ("[[offer]]\nname = 'x'", "must be TOML with"),
        ("[[tier]]\nname = 'x'\ncolour = 1", "unknown colour"),
        ("[[tier]]\nname = 'x'\nstated_price = [1, 2]", "incomplete"),
    ],
)
def test_a_wrong_tiers_file_is_refused_with_its_name(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "offers.toml"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=f"offers.toml.*{says}"):
        cap.load_tiers(path)


def test_a_result_refuses_unknown_measures_and_groupings() -> None:
    result = cap.simulate(cap.System(), WORK, horizon="1h", replications=2)
    for wrong, says in (
        (lambda: result.ci("latency"), "one of wait, sojourn"),
        (lambda: result.ci("wait", by="task"), "one of priority; got 'task'"),
        (lambda: result.ci("depth", q=0.5), "wait, sojourn; got 'depth'"),
        (lambda: result.estimate("wait", priority="vip"), "got 'vip'"),
    ):
        with pytest.raises(InvalidOption, match=says):
            wrong()
