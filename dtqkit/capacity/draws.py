"""The random inputs of one replication.

A number is drawn by its purpose, job and number of earlier failures, not by the order of requests. So both engines can
be compared job for job, and two systems with the same seed get the same jobs (common random numbers).
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.workload import DAY_S, Workload, uniform_index
from dtqkit.model.jobs import PRIORITIES

#: Random streams, one per purpose.
ARRIVALS, LANES, SERVICE, FAILURE, JITTER, LOSS_JITTER, CRASH = range(7)


class FixedDraw:
    """A random generator for `backoff_s` that returns a number drawn before."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def _arrivals(work: Workload, horizon_s: float, rng: np.random.Generator) -> Floats:
    """Arrival times (s) of a Poisson process up to the horizon; with a profile by thinning (Lewis and Shedler 1979)."""
    rate = work.arrival_rate * work.peak
    times: list[Floats] = []
    last = 0.0
    while last < horizon_s:
        n = max(16, int((horizon_s - last) * rate * 1.02 + 4 * (horizon_s * rate) ** 0.5))
        times.append(last + np.cumsum(rng.exponential(1 / rate, n)))
        last = float(times[-1][-1])
    drawn = np.concatenate(times)
    if work.profile is not None:
        drawn = drawn[rng.random(len(drawn)) * work.peak < work.profile.at(drawn)]
    return drawn[drawn < horizon_s]


class Draws:
    """All random numbers of one replication. Each purpose, attempt and worker has its own stream."""

    def __init__(
        self,
        work: Workload,
        *,
        horizon_s: float = DAY_S,
        seed: int = 0,
        replication: int = 0,
        backlog: Mapping[str, int] | None = None,
    ) -> None:
        self.work, self._key = work, (seed, replication)
        self.horizon_s = horizon_s
        drawn = _arrivals(work, horizon_s, self._rng(ARRIVALS)) if work.trace is None else work.trace.arrivals_s
        waiting = np.repeat(np.arange(3, dtype=np.int8), [(backlog or {}).get(p, 0) for p in PRIORITIES])
        self.backlog = len(waiting)
        arrivals = np.concatenate([np.zeros(len(waiting)), drawn])
        #: Seconds between arrivals. SimPy adds them up, so `arrivals` is their cumulative sum, bit for bit.
        self.gaps: list[float] = np.diff(arrivals, prepend=0.0).tolist()
        self.arrivals: Floats = np.cumsum(self.gaps) if self.gaps else np.zeros(0)
        self.lanes: npt.NDArray[np.int8] = np.concatenate([waiting, self._lanes(len(drawn))])
        self.n = len(arrivals)
        self._service: list[list[float]] = []
        self._fails: list[list[bool]] = []
        self._jitter: dict[tuple[int, int], list[float]] = {}

    def _rng(self, *purpose: int) -> np.random.Generator:
        seed, replication = self._key
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(replication, *purpose))))

    def _lanes(self, n: int) -> npt.NDArray[np.int8]:
        trace = self.work.trace
        if trace is not None and trace.priorities is not None:
            return np.array([PRIORITIES.index(p) for p in trace.priorities], dtype=np.int8)
        return uniform_index(self.work.shares, self._rng(LANES).random(n))

    def service(self, failures: int) -> list[float]:
        """Run time (s) of each job's attempt after this many failures. A repeat after a crash takes as long again."""
        while len(self._service) <= failures:
            self._service.append(self._service_times(len(self._service)).tolist())
        return self._service[failures]

    def _service_times(self, failures: int) -> Floats:
        work, times = self.work, np.empty(self.n)
        for lane, priority in enumerate(PRIORITIES):
            mine = np.flatnonzero(self.lanes == lane)
            if len(mine):
                times[mine] = work.service_of(priority).sample(self._rng(SERVICE, failures, lane), len(mine))
        if failures == 0 and work.trace is not None and work.trace.service_s is not None:
            times[self.backlog :] = work.trace.service_s
        return times

    def fails(self, failures: int) -> list[bool]:
        """For each job: whether its attempt after this many failures fails too."""
        while len(self._fails) <= failures:
            drawn = self._rng(FAILURE, len(self._fails)).random(self.n)
            self._fails.append((drawn < self.work.failure_probability).tolist())
        return self._fails[failures]

    def jitter(self, purpose: int, count: int, job: int) -> FixedDraw:
        """The draw for a job's backoff after `count` failures (JITTER) or `count` crashes (LOSS_JITTER)."""
        key = (purpose, count)
        if key not in self._jitter:
            self._jitter[key] = self._rng(purpose, count).random(self.n).tolist()
        return FixedDraw(self._jitter[key][job])

    def crashes(self, worker: int, mtbf_s: float, mttr_s: float) -> Iterator[tuple[float, float]]:
        """How long this worker is up, then down (s), repeatedly."""
        rng = self._rng(CRASH, worker)
        while True:
            yield float(rng.exponential(mtbf_s)), float(rng.exponential(mttr_s))
