"""The plan: which tiers are enough, which limit is reached first and when, what would be enough and what it costs."""

import math
from dataclasses import replace
from datetime import date

import pytest

import dtqkit.capacity as cap

NOON = cap.HourOfDay.swing(1)


@pytest.fixture(scope="module")
def big() -> cap.Plan:
    work = cap.Workload(100_000, cap.Exponential(30.5))
    return cap.plan(work, workers=[45], replications=2)


@pytest.fixture(scope="module")
def small() -> cap.Plan:
    work = cap.Workload(10_000, cap.Lognormal(15), profile=NOON)
    return cap.plan(work, slo=cap.SLO("high", 30), workers=[4, 6, 8], replications=4)


def test_ten_workers_do_not_carry_100k_jobs_of_30_s_and_the_plan_says_so(big: cap.Plan) -> None:
    tier = big.checks[-1]
    assert (tier.tier.name, tier.tier.workers, tier.holds) == ("100K a day", 10, False)
    assert tier.max_service_s == pytest.approx(6.912)
    assert tier.scenario.wait_p95.value == math.inf
    assert tier.breaks_first == "workers, at once"
    assert big.required_workers("mean") == big.required_workers() == big.recommended_workers == 45
    assert any("'100K a day' does not hold: unstable: the workload is 3.53 times" in text for text in big.warnings)


def test_the_free_mongodb_lasts_three_days_of_each_month_at_100k_a_day(big: cap.Plan) -> None:
    quota = next(q for q in big.checks[0].quotas if q.name == "MongoDB operations")
    assert not quota.holds
    assert quota.days == pytest.approx(1e6 / (300_000 + 1440))
    runway = big.runway(date(2027, 1, 1)).set_index(["tier", "quota"])
    assert runway.loc[("present", "MongoDB operations"), "runs_out"] == date(2027, 1, 4)
    assert runway.loc[("100K a day", "MongoDB storage at 30 days"), "runs_out"] is None


def test_at_10k_a_day_the_free_operations_just_suffice() -> None:
    work, system = cap.Workload(10_000, cap.Lognormal(15)), cap.System.default(5)
    by_name = {q.name: q for q in cap.quotas(cap.default_tiers()[1], work, system)}
    assert by_name["MongoDB operations"].holds
    assert by_name["MongoDB operations"].share > 0.95
    failing = cap.Workload(11_000, cap.Lognormal(15), failure_probability=0.05)
    assert not {q.name: q for q in cap.quotas(cap.default_tiers()[1], failing, system)}["MongoDB operations"].holds


def test_the_plan_says_when_stopped_workers_fill_redis() -> None:
    quotas = cap.quotas(cap.default_tiers()[0], cap.Workload(100_000, cap.Lognormal(15)), cap.System.default(3))
    redis = next(q for q in quotas if q.name.startswith("Redis memory"))
    assert "fill it in 9 days" in redis.note


def test_the_busiest_hour_decides_how_many_workers_and_the_mean_does_not(small: cap.Plan) -> None:
    assert small.required_workers("mean") == 3
    assert small.required_workers("peak-hour") == 5
    assert small.checks[0].breaks_first == "workers, in the busiest hour"
    assert small.checks[1].holds


def test_the_simulated_number_meets_the_objective_with_its_whole_interval(small: cap.Plan) -> None:
    table, n = small.frontier(), small.required_workers("simulated")
    assert n is not None
    assert table["high"][n] <= 30
    assert (table["high"][table.index < n] > 30).all()


def test_prices_follow_the_cheapest_tier_whose_quotas_hold(small: cap.Plan, big: cap.Plan) -> None:
    assert small.price(5) == 21
    assert small.per_thousand(21) == pytest.approx(21 / 304.4)
    assert big.fitting(45)[0].name == "100K a day"
    assert big.price(45) == 50 + 57 + 150 + 45 * 25
    assert "45 workers" in big.advice
    assert "If the jobs double: 89 workers" in big.advice


def test_a_plan_without_a_tier_that_holds_says_so() -> None:
    tier = cap.default_tiers()[0]
    plan = cap.plan(cap.Workload(50_000, cap.Exponential(1)), tiers=[tier], workers=[3], replications=2)
    assert plan.price(3) == math.inf
    assert "The quotas of no tier hold" in plan.advice


def test_a_tiers_file_replaces_the_default_tiers(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tiers") / "own.toml"
    path.write_text(
        "[[tier]]\nname = 'own'\nworkers = 2\nworker_price = 3\nextra_worker_price = 4\napi_nodes = 1\napi_price = 5\n"
        "mongodb = 'own'\nmongodb_price = 6\nredis = 'own'\nredis_price = 7\nstated_price = [24, 24]\n"
    )
    (own,) = cap.load_tiers(path)
    assert own.price() == 24
    assert own.price(4) == 32


def test_the_stated_tiers_cost_what_was_stated() -> None:
    for tier in cap.TIERS:
        low, high = tier.stated_price
        assert low - 1 <= tier.price() <= high


def test_a_plan_makes_up_to_15_scenarios_around_what_is_needed() -> None:
    seen: list[tuple[int, int]] = []
    plan = cap.plan(
        cap.Workload(3_000, cap.Lognormal(60)), replications=2, progress=lambda done, total: seen.append((done, total))
    )
    assert len(plan.scenarios) == len(seen) <= 15
    assert seen[-1][0] == seen[-1][1]
    assert {plan.required_workers("mean"), plan.required_workers("peak-hour")} <= {s.workers for s in plan.scenarios}


def test_the_wait_depends_most_on_what_takes_most_capacity(small: cap.Plan) -> None:
    table = small.sensitivity(replications=3)
    assert (table["high"] >= table["low"]).all()
    assert table["high"]["jobs a day ±20%"] > table["base"].iloc[0]
    assert table["high"]["service time ±20%"] > table["base"].iloc[0]


def test_a_plan_is_shown_as_html_with_the_names_of_tiers_escaped(small: cap.Plan) -> None:
    assert "<table>" in small._repr_html_()
    assert "Take " in str(small)
    tier = replace(cap.default_tiers()[0], name="<b>free</b>")
    shown = cap.plan(small.work, tiers=[tier], workers=[4], replications=2)._repr_html_()
    assert "&lt;b&gt;free" in shown
    assert "<b>free" not in shown


def test_a_layout_that_never_suffices_is_an_error_that_says_why() -> None:
    work = cap.Workload(10_000, cap.Exponential(15))
    with pytest.raises(ValueError, match="no worker of the system serves"):
        cap.plan(work, layout=lambda n: cap.System(lanes={"high": n}, helping=False), replications=2)
    with pytest.raises(ValueError, match="do not suffice"):
        cap.plan(work, layout=lambda _: cap.System(lanes={"shared": 1}), replications=2)


def test_the_week_that_a_profile_describes_is_simulated_whole() -> None:
    """Busy on Friday only: a plan for Monday would have far too few workers."""
    weights = [0.1] * 168
    weights[4 * 24 + 12] = 20.0
    work = cap.Workload(2_000, cap.Exponential(15), profile=cap.HourOfWeek(weights))
    plan = cap.plan(work, workers=[3], replications=2)
    scenario = next(s for s in plan.scenarios if s.workers == 3)
    assert scenario.peak_utilisation > 1
    assert scenario.wait_p95.value > 60
