"""Both engines give the same log, job for job, and agree with independent recursions."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dtqkit.capacity as cap
from dtqkit.capacity import fast, reference
from dtqkit.capacity.draws import Draws
from dtqkit.capacity.simulation_log import FAILED, LOST, SimulationLog

HOUR = 3600.0
BOTH = pytest.mark.parametrize("run", [fast.run, reference.run], ids=["fast", "reference"])
Run = Callable[[cap.System, Draws], SimulationLog]


def assert_same(ours: SimulationLog, theirs: SimulationLog) -> None:
    for name in ("arrival", "lane", "finished", "dead", "job", "ready", "start", "end", "worker", "outcome"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    assert ours.workers == theirs.workers


@st.composite
def systems(draw: st.DrawFn) -> cap.System:
    counts = draw(st.tuples(*[st.integers(0, 3)] * 3, st.integers(0, 3)))
    lanes: dict[str, int] = dict(zip(("high", "medium", "low", "shared"), counts, strict=True))
    if not sum(counts):
        lanes["shared"] = 1
    helping = draw(st.booleans()) or not (lanes["shared"] or all(counts[:3]))
    workers = sum(lanes.values())
    return cap.System(
        lanes=lanes,
        slots_per_worker=draw(st.integers(1, 3)),
        helping=helping,
        retry=cap.Retry(draw(st.integers(1, 4)), backoff_s=draw(st.sampled_from([0.0, 1.0, 30.0]))),
        crashes=draw(
            st.none()
            | st.builds(
                cap.Crashes,
                mtbf_s=st.sampled_from([100.0, 1000.0]),
                mttr_s=st.sampled_from([1.0, 60.0]),
                detection_s=st.sampled_from([0.0, 15.0]),
                max_losses=st.integers(1, 4),
            )
        ),
        latency=draw(st.sampled_from([cap.Latency(), cap.Latency(0.5, 0.25, 0.125), cap.Latency(0, 1, 0)])),
        autoscale=draw(
            st.none()
            | st.builds(
                cap.Autoscale,
                max_workers=st.integers(workers, workers + 4),
                threshold=st.integers(0, 10),
                interval_s=st.sampled_from([5.0, 30.0]),
                start_s=st.sampled_from([0.0, 10.0]),
            )
        ),
    )


#: whole seconds make many things happen at the same instant
services = st.sampled_from(
    [cap.Deterministic(4), cap.Empirical([1, 2, 2, 5]), cap.Empirical([0, 3]), cap.Exponential(3), cap.Lognormal(5, 4)]
)


@st.composite
def workloads(draw: st.DrawFn) -> cap.Workload:
    batches = draw(st.booleans())
    times = np.sort(np.array(draw(st.lists(st.integers(0, 200), min_size=1, max_size=150)), dtype=np.float64))
    return cap.Workload(
        jobs_per_day=draw(st.sampled_from([5_000, 20_000, 60_000])),
        service=draw(services),
        mix=draw(st.sampled_from([{"high": 0.2, "medium": 0.3, "low": 0.5}, {"low": 1.0}])),
        failure_probability=draw(st.sampled_from([0.0, 0.1, 0.5])),
        trace=cap.Trace(times) if batches else None,
    )


@settings(max_examples=250, deadline=None)
@given(systems(), workloads(), st.integers(0, 10_000), st.booleans())
def test_the_fast_engine_logs_what_the_reference_logs_on_any_system(
    system: cap.System, work: cap.Workload, seed: int, waiting: bool
) -> None:
    backlog = {"high": 3, "low": 10} if waiting else None
    draws = Draws(work, horizon_s=300, seed=seed, backlog=backlog)
    assert_same(fast.run(system, draws), reference.run(system, draws))


def test_a_whole_day_with_everything_on_is_the_same_job_for_job() -> None:
    work = cap.Workload(20_000, cap.Lognormal(20, 2), profile=cap.HourOfDay.swing(0.8), failure_probability=0.05)
    system = cap.System(
        lanes={"high": 2, "medium": 1, "low": 1, "shared": 1},
        slots_per_worker=1,
        crashes=cap.Crashes(mtbf_s=2 * HOUR, mttr_s=120, detection_s=15),
        latency=cap.Latency(0.02, 0.005, 0.01),
        autoscale=cap.Autoscale(max_workers=9, threshold=20),
    )
    draws = Draws(work, seed=4, backlog={"medium": 40})
    log = fast.run(system, draws)
    assert_same(log, reference.run(system, draws))
    assert (log.outcome == LOST).sum() > 10
    assert (log.outcome == FAILED).sum() > 500
    assert log.dead.sum() > 0
    assert len(log.workers) > 4


@BOTH
def test_one_server_follows_lindleys_recursion(run: Run) -> None:
    draws = Draws(cap.Workload(80_000, cap.Lognormal(0.9, 2), mix={"low": 1.0}), horizon_s=HOUR, seed=3)
    wait, waits = 0.0, [0.0]
    for gap, service in zip(draws.gaps[1:], draws.service(0), strict=False):
        wait = max(0.0, wait + service - gap)
        waits.append(wait)
    log = run(cap.System(lanes={"shared": 1}), draws)
    np.testing.assert_allclose(log.wait[np.argsort(log.job)], waits, atol=1e-8)
    assert max(waits) > 5


@BOTH
@pytest.mark.parametrize("servers", [2, 7])
def test_many_servers_follow_kiefer_and_wolfowitz(run: Run, servers: int) -> None:
    work = cap.Workload(60_000, cap.Lognormal(1.3 * servers, 1), mix={"medium": 1.0})
    draws = Draws(work, horizon_s=HOUR, seed=5)
    workload, waits = [0.0] * servers, list[float]()
    for gap, service in zip(draws.gaps, draws.service(0), strict=True):
        workload = sorted(max(0.0, left - gap) for left in workload)
        waits.append(workload[0])
        workload[0] += service
    log = run(cap.System(lanes={"shared": servers}), draws)
    np.testing.assert_allclose(log.wait[np.argsort(log.job)], waits, atol=1e-7)


@BOTH
def test_a_free_worker_takes_its_own_lane_first_and_then_helps_by_priority(run: Run) -> None:
    times, priorities = np.zeros(7), ["low", "low", "medium", "high", "low", "medium", "high"]
    work = cap.Workload(10, cap.Deterministic(1), trace=cap.Trace(times, priorities))
    log = run(cap.System(lanes={"low": 1}), Draws(work))
    assert log.job.tolist() == [0, 1, 4, 3, 6, 2, 5]


@BOTH
def test_a_strict_worker_leaves_the_other_lanes_alone(run: Run) -> None:
    work = cap.Workload(10, cap.Deterministic(10), trace=cap.Trace(np.zeros(4), ["high", "high", "high", "low"]))
    log = run(cap.System(lanes={"high": 1, "low": 1, "medium": 1}, helping=False), Draws(work))
    assert sorted(log.start.tolist()) == [0, 0, 10, 20]
    assert set(log.worker[log.lane[log.job] == 0].tolist()) == {0}


@BOTH
def test_a_failed_job_returns_to_the_end_of_its_lane_until_its_attempts_are_used_up(run: Run) -> None:
    work = cap.Workload(
        10, cap.Deterministic(5), mix={"low": 1.0}, failure_probability=0.999_999, trace=cap.Trace(np.zeros(3))
    )
    log = run(cap.System(lanes={"shared": 1}, retry=cap.Retry(max_attempts=2, backoff_s=0)), Draws(work))
    assert log.job.tolist() == [0, 1, 2, 0, 1, 2]
    assert log.dead.all()
    assert log.finished.tolist() == [20, 25, 30]


@BOTH
def test_a_crash_is_detected_late_and_its_job_runs_again_from_the_start(run: Run) -> None:
    work = cap.Workload(10, cap.Deterministic(100), mix={"low": 1.0}, trace=cap.Trace(np.zeros(1)))
    crashes = cap.Crashes(mtbf_s=60, mttr_s=1, detection_s=15, max_losses=1000)
    log = run(cap.System(lanes={"shared": 1}, crashes=crashes), Draws(work, seed=2))
    assert log.outcome.tolist() == [LOST] * (len(log.job) - 1) + [0]
    assert len(log.job) > 1
    assert log.ready[1] == log.end[0] + 15
    assert log.end[-1] == log.start[-1] + 100


@BOTH
def test_a_job_that_loses_its_worker_too_often_is_a_dead_letter(run: Run) -> None:
    work = cap.Workload(10, cap.Deterministic(1e5), mix={"low": 1.0}, trace=cap.Trace(np.zeros(1)))
    log = run(cap.System(lanes={"shared": 1}, crashes=cap.Crashes(mtbf_s=10, mttr_s=1)), Draws(work))
    assert log.dead.all()
    assert log.outcome.tolist() == [LOST] * 3


@BOTH
def test_autoscaling_adds_workers_for_a_backlog_and_takes_them_back(run: Run) -> None:
    work = cap.Workload(10, cap.Deterministic(10), mix={"low": 1.0}, trace=cap.Trace(np.append(np.zeros(60), 900.0)))
    system = cap.System(lanes={"shared": 1}, autoscale=cap.Autoscale(4, threshold=20, interval_s=30, start_s=10))
    log = run(system, Draws(work))
    counts = [n for _, n in log.workers]
    assert counts == [1, 2, 3, 4, 3, 2, 1]
    assert log.workers[1][0] == 40


@BOTH
def test_latency_is_waited_for_and_held_by_the_slot(run: Run) -> None:
    work = cap.Workload(10, cap.Deterministic(10), mix={"low": 1.0}, trace=cap.Trace(np.zeros(2)))
    log = run(cap.System(lanes={"shared": 1}, latency=cap.Latency(submit_s=1, claim_s=2, settle_s=4)), Draws(work))
    assert log.start.tolist() == [3, 19]
    assert log.wait.tolist() == [2, 18]
    assert log.finished.tolist() == [17, 33]


def test_two_systems_with_one_seed_get_the_same_jobs_in_whatever_order_they_ask() -> None:
    work = cap.Workload(5000, cap.Lognormal(3, 1), failure_probability=0.3)
    forwards, backwards = Draws(work, seed=9), Draws(work, seed=9)
    later = backwards.service(3), backwards.fails(2)
    assert forwards.service(0) == backwards.service(0)
    assert (forwards.service(3), forwards.fails(2)) == later
    assert Draws(work, seed=9, replication=1).service(0) != forwards.service(0)


def test_thinned_arrivals_follow_the_profile() -> None:
    draws = Draws(cap.Workload(200_000, cap.Exponential(1), profile=cap.HourOfDay.swing(0.9, peak_hour=6)), seed=1)
    by_hour = np.histogram(draws.arrivals, bins=24, range=(0, 86_400))[0] / 200_000 * 24
    np.testing.assert_allclose(by_hour, cap.HourOfDay.swing(0.9, peak_hour=6).weights, atol=0.06)


def test_the_heap_of_the_plain_path_is_what_the_full_engine_does() -> None:
    work = cap.Workload(50_000, cap.Empirical([1, 2, 3]), mix={"high": 1.0})
    system = cap.System.default(4)
    draws = Draws(work, horizon_s=HOUR, seed=2)
    assert fast.is_plain(system, draws)
    assert_same(fast.run_plain(system, draws), fast.Engine(system, draws).run())
