"""What an engine returns: each job and each attempt of one replication."""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.draws import Draws

Ints: TypeAlias = npt.NDArray[np.int32]

#: How an attempt ended.
OK, FAILED, LOST = 0, 1, 2

#: An attempt: job, ready, start, end, worker, outcome.
Row: TypeAlias = tuple[int, float, float, float, int, int]


class SimulationLog(msgspec.Struct, frozen=True, eq=False):
    """Arrays with one entry per job, and arrays with one entry per attempt, by end time and then by job. Times in s."""

    # per job, shape (jobs,)
    arrival: Floats
    #: 0 high, 1 medium, 2 low
    lane: npt.NDArray[np.int8]
    #: When the job's outcome was recorded.
    finished: Floats
    #: Whether the job is a dead letter.
    dead: npt.NDArray[np.bool_]

    # per attempt, shape (attempts,)
    job: Ints
    #: When the job entered its lane.
    ready: Floats
    start: Floats
    end: Floats
    worker: Ints
    outcome: npt.NDArray[np.int8]

    #: (time, number of active workers from then on)
    workers: list[tuple[float, int]]

    @property
    def wait(self) -> Floats:
        """Of each attempt: seconds from entering the lane to the task's first line."""
        return self.start - self.ready


def build(
    draws: Draws,
    attempts: Floats,
    dead: Sequence[int],
    workers: list[tuple[float, int]],
    *,
    finished: Floats,
) -> SimulationLog:
    """The log of these attempts: an array of shape (6, attempts) with the columns of Row, in any order."""
    died = np.zeros(draws.n, dtype=np.bool_)
    died[list(dead)] = True
    in_order = np.lexsort((attempts[5] == OK, attempts[0], attempts[3]))  # a job's completed attempt is its last
    job, ready, start, end, worker, outcome = attempts[:, in_order]
    return SimulationLog(
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
    """Rows as an array of shape (6, attempts)."""
    return np.array(rows, dtype=np.float64).reshape(-1, 6).T


def completed(ready: Sequence[float] | Floats, start: Sequence[float], end: Floats, worker: Sequence[int]) -> Floats:
    """Completed attempts, one per job in the order of jobs, as an array of shape (6, jobs)."""
    rows = np.empty((6, len(ready)))
    rows[0] = np.arange(len(ready))
    rows[1], rows[2], rows[3], rows[4] = ready, start, end, worker
    rows[5] = OK
    return rows
