"""The load that a workload puts on the workers, computed without simulation."""

from collections.abc import Callable
from itertools import combinations
from typing import Final

import msgspec
import numpy as np

from dtqkit.capacity.distributions import Distribution, weighed
from dtqkit.capacity.system import Crashes, System
from dtqkit.capacity.workload import Workload
from dtqkit.model.errors import InvalidOption
from dtqkit.model.jobs import PRIORITIES

#: Sums end where the probability of one more loss is below this.
_NEGLIGIBLE: Final = 1e-12


class Demand(msgspec.Struct, frozen=True):
    """Mean demand of one job, until it is completed or a dead letter."""

    #: Attempts, failed and lost ones included.
    attempts: float
    #: Seconds of a slot for all attempts, claim and settle included.
    busy_s: float
    #: Share of jobs that are dead letters because their workers crashed `max_losses` times.
    lost: float = 0.0


def demand(system: System, work: Workload, priority: str) -> Demand:
    """Of a job of this priority. The time before a crash counts as load; the attempt is then repeated in full."""
    service, most = work.service_of(priority), system.retry.max_attempts
    overhead_s = system.latency.claim_s + system.latency.settle_s
    if system.crashes:
        return _restarting(service, overhead_s, system.crashes, work.failure_probability, most)
    attempts = work.attempts_per_job(most)
    return Demand(attempts, attempts * (service.mean + overhead_s))


def _restarting(service: Distribution, overhead_s: float, crashes: Crashes, fails: float, most: int) -> Demand:
    """Demand with crashes: preemptive repeat with the same service time (Gaver 1962).

    An attempt of d seconds is cut short with probability q = 1 - exp(-d/mtbf), takes mtbf·q seconds in the mean, and
    is repeated with the same d. A failed attempt is followed by one with a new d.
    """
    times, weights = weighed(service)
    hit = -np.expm1(-(times + overhead_s) / crashes.mtbf_s)
    again = weights
    reached, busy_s = list[float](), list[float]()  # by losses in a row: P(one more attempt), and its mean time
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
    """Share of all jobs that are dead letters because their workers crashed `max_losses` times."""
    return _over_lanes(system, work, lambda each: each.lost)


def attempts_per_job(system: System, work: Workload) -> float:
    """Mean over all priorities; failed and lost attempts included."""
    return _over_lanes(system, work, lambda each: each.attempts)


def _over_lanes(system: System, work: Workload, of: Callable[[Demand], float]) -> float:
    return sum(work.mix[priority] * of(demand(system, work, priority)) for priority in work.priorities)


def lane_loads(system: System, work: Workload) -> tuple[float, float, float]:
    """Load (Erlang) of the high, medium and low lane at the mean rate: all attempts, claim and settle included."""
    high, medium, low = (
        work.arrival_rate * share * demand(system, work, p).busy_s if share else 0.0
        for p, share in zip(PRIORITIES, work.shares, strict=True)
    )
    return high, medium, low


def effective_servers(system: System, lanes: tuple[int, ...] = (0, 1, 2)) -> float:
    """Slots that serve at least one of these lanes, multiplied by the share of time that a worker is up."""
    able = sum(bool(set(system.serves(home)) & set(lanes)) for home in system.homes)
    availability = system.crashes.availability if system.crashes else 1.0
    return able * system.slots_per_worker * availability


def utilisation(system: System, work: Workload, *, peak: bool = False) -> float:
    """ρ: load divided by slots, of the most loaded set of lanes. At 1 or more, a backlog grows.

    `peak` takes the rate of the busiest hour. InvalidOption if no worker serves a lane that has jobs.
    """
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
                raise InvalidOption(
                    f"the workload has {names} jobs and no worker of the system serves them "
                    f"(lanes {dict(system.lanes)!r}, helping {system.helping})"
                )
            worst = max(worst, load / servers)
    return worst * (work.peak if peak else 1.0)


def slope(system: System, work: Workload, *, peak: bool = False) -> float:
    """Growth of the backlog in jobs/s at the mean rate (`peak`: in the busiest hour); 0 if the workers keep up.

    Each lane has its own workers first. Their spare capacity then serves the other lanes, by priority.
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
