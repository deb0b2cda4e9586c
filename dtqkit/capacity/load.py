"""How much of the workers a workload takes, before anything is simulated."""

from itertools import combinations

from dtqkit.capacity.checks import PRIORITIES
from dtqkit.capacity.system import System
from dtqkit.capacity.workload import Workload


def lane_loads(system: System, work: Workload) -> tuple[float, float, float]:
    """Erlang that each lane brings in the mean: attempts of all its jobs, with claim and settle."""
    attempts = work.attempts_per_job(system.retry.max_attempts)
    overhead_s = system.latency.claim_s + system.latency.settle_s

    def load(priority: str, share: float) -> float:
        if not share:
            return 0.0
        return work.arrival_rate * share * attempts * (work.service_of(priority).mean + overhead_s)

    high, medium, low = (load(p, share) for p, share in zip(PRIORITIES, work.shares, strict=True))
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
