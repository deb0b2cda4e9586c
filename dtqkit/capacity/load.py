"""How much of the workers a workload takes, before anything is simulated."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from dtqkit.capacity.checks import PRIORITIES
from dtqkit.capacity.distributions import Distribution, weighed
from dtqkit.capacity.system import Crashes, System
from dtqkit.capacity.workload import Workload

#: Probability of one more loss below which it is left out.
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Demand:
    """What one job asks for in the mean, until it is completed or a dead letter."""

    attempts: float
    """Failed and lost ones included."""
    busy_s: float
    """Seconds of a slot for all of them, claim and settle included."""
    lost: float = 0.0
    """The share of jobs that lose their worker too often, and so are dead letters."""


def demand(system: System, work: Workload, priority: str) -> Demand:
    """Of a job of that priority. What a crash cuts short is work too, and is done again."""
    service, most = work.service_of(priority), system.retry.max_attempts
    overhead_s = system.latency.claim_s + system.latency.settle_s
    if system.crashes:
        return _restarting(service, overhead_s, system.crashes, work.failure_probability, most)
    attempts = work.attempts_per_job(most)
    return Demand(attempts, attempts * (service.mean + overhead_s))


def _restarting(service: Distribution, overhead_s: float, crashes: Crashes, fails: float, most: int) -> Demand:
    """An attempt of d seconds is cut short with probability q = 1 - exp(-d/mtbf), takes mtbf·q in the mean, and starts
    again with the same d (preemptive repeat; Gaver 1962). A failed one is followed by another of its own length.
    """
    times, weights = weighed(service)
    hit = -np.expm1(-(times + overhead_s) / crashes.mtbf_s)
    again = weights
    reached, busy_s = list[float](), list[float]()  # by losses in a row: probability of one more attempt, and its time
    for _ in range(crashes.max_losses):
        reached.append(float(again.sum()))
        again = again * hit
        busy_s.append(crashes.mtbf_s * float(again.sum()))
        if busy_s[-1] < _NEGLIGIBLE * crashes.mtbf_s:
            break
    losses = len(reached)
    left = np.array([*reached[1:], float(again.sum())])
    ends = np.array(reached) - left  # by losses before the attempt that is not cut short
    attempts_from, busy_from = np.cumsum(reached)[::-1], np.cumsum(busy_s)[::-1]  # by losses so far
    lost_from = left[::-1]
    starts = np.zeros(losses)
    starts[0] = 1.0
    attempts = seconds = lost = 0.0
    for _ in range(most):
        attempts += float(starts @ attempts_from)
        seconds += float(starts @ busy_from)
        lost += float(starts @ lost_from)
        starts = fails * np.convolve(starts, ends)[:losses]
        if starts.sum() < _NEGLIGIBLE:
            break
    return Demand(attempts, seconds, lost)


def lost_jobs(system: System, work: Workload) -> float:
    """The share of all jobs that are dead letters because they lost too many workers."""
    return _over_lanes(system, work, lambda each: each.lost)


def attempts_per_job(system: System, work: Workload) -> float:
    """Over all priorities; failed and lost ones included."""
    return _over_lanes(system, work, lambda each: each.attempts)


def _over_lanes(system: System, work: Workload, of: Callable[[Demand], float]) -> float:
    lanes = zip(PRIORITIES, work.shares, strict=True)
    return sum(share * of(demand(system, work, priority)) for priority, share in lanes if share)


def lane_loads(system: System, work: Workload) -> tuple[float, float, float]:
    """Erlang that each lane brings in the mean: attempts of all its jobs, with claim and settle."""
    high, medium, low = (
        work.arrival_rate * share * demand(system, work, p).busy_s if share else 0.0
        for p, share in zip(PRIORITIES, work.shares, strict=True)
    )
    return high, medium, low


def effective_servers(system: System, lanes: tuple[int, ...] = (0, 1, 2)) -> float:
    """Slots that can serve any of these lanes, less the time that crashed workers are away."""
    able = sum(bool(set(system.serves(home)) & set(lanes)) for home in system.homes)
    availability = system.crashes.availability if system.crashes else 1.0
    return able * system.slots_per_worker * availability


def utilisation(system: System, work: Workload, *, peak: bool = False) -> float:
    """ρ of the set of lanes that is worst off; 1 or more: some backlog grows. `peak`: in the busiest hour."""
    loads = lane_loads(system, work)
    worst = 0.0
    for size in (1, 2, 3):
        for lanes in combinations(range(3), size):
            load = sum(loads[lane] for lane in lanes)
            if not load:
                continue
            servers = effective_servers(system, lanes)
            if not servers:
                names = ", ".join(PRIORITIES[lane] for lane in lanes)
                raise ValueError(
                    f"the workload has {names} jobs and no worker of the system serves them "
                    f"(lanes {dict(system.lanes)!r}, helping {system.helping})"
                )
            worst = max(worst, load / servers)
    return worst * (work.peak if peak else 1.0)


def slope(system: System, work: Workload, *, peak: bool = False) -> float:
    """Jobs a second by which the backlog grows while the rate is that; 0 where the workers keep up.

    Each lane has the workers whose own it is first; what they have left helps the others, by priority.
    """
    busier = work.peak if peak else 1.0
    loads = [load * busier for load in lane_loads(system, work)]
    availability = system.crashes.availability if system.crashes else 1.0
    firsts = [system.serves(home)[0] for home in system.homes]
    own = [firsts.count(lane) * system.slots_per_worker * availability for lane in range(3)]
    served = [min(load, capacity) for load, capacity in zip(loads, own, strict=True)]
    sets = [lanes for size in (1, 2, 3) for lanes in combinations(range(3), size)]
    for lane in range(3):
        left = min(effective_servers(system, s) - sum(served[k] for k in s) for s in sets if lane in s)
        served[lane] += max(0.0, min(loads[lane] - served[lane], left))
    rates = [work.arrival_rate * busier * share for share in work.shares]
    return sum(
        rate * (1 - done / load) for rate, load, done in zip(rates, loads, served, strict=True) if load > done + 1e-12
    )
