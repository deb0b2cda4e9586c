"""One replication's inputs: all that is random, drawn before it is needed.

Both engines get the same draws, by job and by how often it failed, whatever order they ask in. So they can be compared
job for job, and two systems under the same seed see the same jobs (common random numbers).
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from dtqkit.capacity.checks import PRIORITIES
from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.workload import DAY_S, Workload, uniform_index

ARRIVALS, LANES, SERVICE, FAILURE, JITTER, LOSS_JITTER, CRASH = range(7)
"""Streams, one a purpose."""


class Given:
    """A generator that gives the one number that was drawn for it."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def _arrivals(work: Workload, horizon_s: float, rng: np.random.Generator) -> Floats:
    """Poisson; with a profile by thinning (Lewis and Shedler 1979)."""
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
    """All randomness of one replication, each purpose, attempt and worker with a stream of its own."""

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
        #: from one arrival to the next; adding them up gives `arrivals` to the last bit
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
        """Seconds that each job takes after it failed that often; if it loses its worker, it takes as long again."""
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
        """Whether each job that failed that often fails once more."""
        while len(self._fails) <= failures:
            drawn = self._rng(FAILURE, len(self._fails)).random(self.n)
            self._fails.append((drawn < self.work.failure_probability).tolist())
        return self._fails[failures]

    def jitter(self, purpose: int, count: int, job: int) -> Given:
        """What a job's backoff after that many failures (JITTER) or losses (LOSS_JITTER) is drawn with."""
        key = (purpose, count)
        if key not in self._jitter:
            self._jitter[key] = self._rng(purpose, count).random(self.n).tolist()
        return Given(self._jitter[key][job])

    def crashes(self, worker: int, mtbf_s: float, mttr_s: float) -> Iterator[tuple[float, float]]:
        """How long that worker is up, then down, again and again."""
        rng = self._rng(CRASH, worker)
        while True:
            yield float(rng.exponential(mtbf_s)), float(rng.exponential(mttr_s))
