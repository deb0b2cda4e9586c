"""How much memory a simulation takes, estimated before it starts: one that does not fit is refused, not killed."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from dtqkit.capacity import load, machine
from dtqkit.capacity.formatting import duration
from dtqkit.capacity.replication import GRID
from dtqkit.capacity.system import System
from dtqkit.capacity.workload import Workload
from dtqkit.model.starting import SimulationFailed

# Bytes: peak resident memory, measured at 200,000 to 3,000,000 jobs on Python 3.11 and rounded up.
#: While a replication runs, per job, by engine.
JOB_BYTES: Final = {"fast": 470, "reference": 700}
#: Draws per job, for each failure that it may have.
FAILURE_BYTES: Final = 80
#: The same for each crash.
LOSS_BYTES: Final = 35
#: Per attempt after a job's first.
ATTEMPT_BYTES: Final = 500
#: Per arrival that is drawn, before thinning by the profile.
ARRIVAL_BYTES: Final = 48
SLOT_BYTES: Final = 250
#: Per process: each imports numpy, scipy and pandas.
PROCESS_BYTES: Final = 160 << 20
#: Of a finished replication: per job, per attempt, and for the grid.
KEPT_JOB_BYTES: Final = 10
KEPT_ATTEMPT_BYTES: Final = 9
KEPT_GRID_BYTES: Final = GRID * 60
#: Per job, while an estimate is computed.
ESTIMATE_BYTES: Final = 24

#: Upper bound of jobs, so that sums stay finite.
MOST_JOBS: Final = 1e200

#: The share of the available memory that may be used; the rest is for what is not counted.
SHARE: Final = 0.9


class Need(msgspec.Struct, frozen=True):
    """Memory that a simulation takes, in bytes."""

    #: Number of jobs of one replication.
    jobs: float
    #: While one replication runs.
    running: float
    #: Per finished replication, in the process that called `simulate`.
    kept: float
    #: Part of `running`: the system's slots.
    slots: float
    #: Part of `jobs`: the backlog at the start.
    waiting: int

    def at_a_time(self, replications: int, available: float, *, processes: bool) -> int:
        """How many replications may run at the same time; 0: none."""
        left = available * SHARE - replications * self.kept - self.jobs * ESTIMATE_BYTES
        return max(0, int(left // (self.running + (PROCESS_BYTES if processes else 0))))

    def total(self, replications: int) -> float:
        return self.running + replications * self.kept + self.jobs * ESTIMATE_BYTES


def need_of(
    system: System, work: Workload, horizon_s: float, *, engine: str = "fast", backlog: Mapping[str, int] | None = None
) -> Need:
    if work.trace is None:
        mean = work.arrival_rate * horizon_s
        arrivals = mean + 5 * math.sqrt(mean)
    else:
        arrivals = len(work.trace.arrivals_s)
    waiting = sum((backlog or {}).values())
    jobs = min(arrivals + waiting, MOST_JOBS)
    attempts = max(1.0, load.attempts_per_job(system, work))
    per_job = JOB_BYTES[engine] + ATTEMPT_BYTES * (attempts - 1)
    if work.failure_probability:
        per_job += FAILURE_BYTES * (system.retry.max_attempts - 1)
    if system.crashes:
        per_job += LOSS_BYTES * system.crashes.max_losses
    drawn = jobs * work.peak * ARRIVAL_BYTES if work.profile else 0.0
    slots = system.most_workers * system.slots_per_worker * SLOT_BYTES
    kept = jobs * (KEPT_JOB_BYTES + KEPT_ATTEMPT_BYTES * attempts) + KEPT_GRID_BYTES
    return Need(jobs, max(jobs * per_job, drawn) + slots, kept, slots, waiting)


def afford(
    need: Need, work: Workload, replications: int, *, processes: bool = False, horizon_s: float | None = None
) -> int:
    """How many replications may run at the same time, each in its own process (`processes`) or one after another here.

    Raises SimulationFailed if memory does not suffice for one. The error says what would fit; it proposes a shorter
    horizon if `horizon_s` is given.
    """
    available = machine.available_memory()
    at_a_time = need.at_a_time(replications, available, processes=processes)
    if at_a_time or need.at_a_time(replications, available, processes=False):
        return max(1, at_a_time)
    raise SimulationFailed(
        f"{replications:,} replications of {_count(need.jobs)} jobs each would take about "
        f"{_size(need.total(replications))} of memory, but {_size(available * SHARE)} are available: nothing was "
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
    """Rounded down to two digits."""
    if number < 10:
        return math.floor(number)
    unit = 10 ** (math.floor(math.log10(number)) - 1)
    return math.floor(number / unit) * unit
