"""What an engine returns: what happened to each job and to each attempt."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.draws import Draws

Ints = npt.NDArray[np.int32]

OK, FAILED, LOST = 0, 1, 2
"""How an attempt ended."""

Row = tuple[int, float, float, float, int, int]
"""An attempt: job, ready, start, end, worker, outcome."""


@dataclass(frozen=True, eq=False)
class Log:
    """An entry a job, and an entry an attempt in the order in which they ended (then by job)."""

    arrival: Floats
    lane: npt.NDArray[np.int8]
    finished: Floats  #: when the job's outcome was recorded
    dead: npt.NDArray[np.bool_]  #: a dead letter
    job: Ints  #: of each attempt
    ready: Floats  #: when it entered its lane
    start: Floats
    end: Floats
    worker: Ints
    outcome: npt.NDArray[np.int8]
    workers: list[tuple[float, int]]  #: how many workers are switched on, from when

    @property
    def wait(self) -> Floats:
        """Of each attempt, from its lane to its first line (s)."""
        return self.start - self.ready

    def worker_seconds(self, horizon_s: float) -> float:
        """Switched-on workers times seconds, up to the horizon."""
        steps = [*[(min(at, horizon_s), n) for at, n in self.workers], (horizon_s, 0)]
        return sum(n * (later - at) for (at, n), (later, _) in pairwise(steps))


def build(
    draws: Draws,
    attempts: Floats,
    dead: Sequence[int],
    workers: list[tuple[float, int]],
    *,
    finished: Floats,
) -> Log:
    """The log of attempts that are given in any order: six columns, as in Row."""
    died = np.zeros(draws.n, dtype=np.bool_)
    died[list(dead)] = True
    in_order = np.lexsort((attempts[5] == OK, attempts[0], attempts[3]))  # the one that completes it is a job's last
    job, ready, start, end, worker, outcome = attempts[:, in_order]
    return Log(
        arrival=draws.arrivals,
        lane=draws.lanes,
        finished=finished,
        dead=died,
        job=job.astype(np.int32),
        ready=ready,
        start=start,
        end=end,
        worker=worker.astype(np.int32),
        outcome=outcome.astype(np.int8),
        workers=workers,
    )


def columns(rows: Sequence[Row]) -> Floats:
    """Rows as six columns."""
    return np.array(rows, dtype=np.float64).reshape(-1, 6).T


def completed(ready: Sequence[float] | Floats, start: Sequence[float], end: Floats, worker: Sequence[int]) -> Floats:
    """Six columns of attempts that completed, one for each job in turn."""
    rows = np.empty((6, len(ready)))
    rows[0] = np.arange(len(ready))
    rows[1], rows[2], rows[3], rows[4] = ready, start, end, worker
    rows[5] = OK
    return rows
