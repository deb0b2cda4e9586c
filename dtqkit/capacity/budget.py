"""How much memory a simulation takes, known before it starts, so that it is refused and never killed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dtqkit.capacity import load, machine
from dtqkit.capacity.advice import duration
from dtqkit.capacity.replication import GRID
from dtqkit.capacity.system import System
from dtqkit.capacity.workload import Workload
from dtqkit.errors import SimulationFailed

# Bytes, measured at 200,000 to 3,000,000 jobs on Python 3.11 (peak resident memory), and some more.
A_JOB = {"fast": 470, "reference": 700}
A_FAILURE_LEVEL = 80  #: of each job, for each number of failures it may have: what is drawn for it
A_LOSS_LEVEL = 35
ANOTHER_ATTEMPT = 500
A_DRAWN_ARRIVAL = 48  #: before a profile thins them out
A_SLOT = 250
A_PROCESS = 160 << 20  #: numpy, scipy and pandas are imported in each
KEPT_OF_A_JOB, KEPT_OF_AN_ATTEMPT = 10, 9
KEPT_OF_A_GRID = GRID * 60
ESTIMATING = 24  #: bytes of each job, for one estimate at a time

BEYOND_ANY = 1e200  #: jobs

SHARE = 0.9
"""Of what is available: the rest is for all that is not counted."""


@dataclass(frozen=True)
class Need:
    """Bytes that a simulation takes."""

    jobs: float  #: of one replication
    running: float  #: by one replication while it runs
    kept: float  #: of one replication, in the process that asked for it
    slots: float  #: by the system's slots, a part of `running`
    waiting: int  #: jobs of the backlog, a part of `jobs`

    def at_a_time(self, replications: int, available: float, *, processes: bool) -> int:
        """How many replications may run at once; 0: not even one."""
        left = available * SHARE - replications * self.kept - self.jobs * ESTIMATING
        return max(0, int(left // (self.running + (A_PROCESS if processes else 0))))

    def total(self, replications: int) -> float:
        return self.running + replications * self.kept + self.jobs * ESTIMATING


def need_of(
    system: System, work: Workload, horizon_s: float, *, engine: str = "fast", backlog: Mapping[str, int] | None = None
) -> Need:
    if work.trace is None:
        mean = work.arrival_rate * horizon_s
        came = mean + 5 * math.sqrt(mean)
    else:
        came = len(work.trace.arrivals_s)
    waiting = sum((backlog or {}).values())
    jobs = min(came + waiting, BEYOND_ANY)
    attempts = max(1.0, load.attempts_per_job(system, work))
    a_job = A_JOB[engine] + ANOTHER_ATTEMPT * (attempts - 1)
    if work.failure_probability:
        a_job += A_FAILURE_LEVEL * (system.retry.max_attempts - 1)
    if system.crashes:
        a_job += A_LOSS_LEVEL * system.crashes.max_losses
    drawn = jobs * work.peak * A_DRAWN_ARRIVAL if work.profile else 0.0
    slots = system.most_workers * system.slots_per_worker * A_SLOT
    kept = jobs * (KEPT_OF_A_JOB + KEPT_OF_AN_ATTEMPT * attempts) + KEPT_OF_A_GRID
    return Need(jobs, max(jobs * a_job, drawn) + slots, kept, slots, waiting)


def afford(
    need: Need, work: Workload, replications: int, *, processes: bool = False, horizon_s: float | None = None
) -> int:
    """How many replications may run at once, in processes of their own or in this one.

    Raises SimulationFailed, with what would fit, if memory does not suffice for one; `horizon_s` if it can be shorter.
    """
    available = machine.available_memory()
    at_a_time = need.at_a_time(replications, available, processes=processes)
    if at_a_time or need.at_a_time(replications, available, processes=False):
        return max(1, at_a_time)
    raise SimulationFailed(
        f"{replications:,} replications of {_count(need.jobs)} jobs each would take about "
        f"{_size(need.total(replications))} of memory, and {_size(available * SHARE)} can be had here: nothing was "
        f"simulated. It fits with {_what_fits(need, work, replications, available * SHARE, horizon_s)}"
    )


def _what_fits(need: Need, work: Workload, replications: int, available: float, horizon_s: float | None) -> str:
    if need.slots > available / 2:
        return f"fewer workers: their slots alone take {_size(need.slots)}"
    if (left := available - need.total(0)) >= need.kept:
        return f"at most {_rounded(left / need.kept)} replications"
    share = 0.98 * (available - need.slots) / (need.total(replications) - need.slots)
    if need.waiting > need.jobs / 2:
        return f"a backlog of at most {_rounded(need.jobs * share)}"
    if work.trace is not None:
        return f"a part of the trace: at most {_rounded(need.jobs * share)} jobs"
    shorter = f"a horizon of at most {duration(_rounded_down(horizon_s * share))}, or " if horizon_s else ""
    return f"{shorter}at most {_rounded(work.jobs_per_day * share)} jobs a day"


def _size(size: float) -> str:
    return f"{_count(size / 2**30, 1)} GB" if size >= 2**30 else f"{size / 2**20:,.0f} MB"


def _count(number: float, digits: int = 0) -> str:
    return f"{number:,.{digits}f}" if number < 1e15 else f"{number:.0e}"


def _rounded(number: float) -> str:
    return _count(_rounded_down(number))


def _rounded_down(number: float) -> float:
    """To two digits."""
    if number < 10:
        return math.floor(number)
    unit = 10 ** (math.floor(math.log10(number)) - 1)
    return math.floor(number / unit) * unit
