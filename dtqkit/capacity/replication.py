"""What is kept of one replication: waits and sojourns of all jobs, depth and busy time on a grid of times."""

from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.simulation_log import SimulationLog
from dtqkit.capacity.system import System

#: Single precision (1 part in 10 million) is far below any interval's width and halves the memory.
Small: TypeAlias = npt.NDArray[np.float32]
Lanes: TypeAlias = npt.NDArray[np.int8]

#: The horizon is divided into this many intervals: 5 min each for a day.
GRID: Final = 288


class Replication(msgspec.Struct, frozen=True, eq=False):
    """Times in seconds."""

    index: int

    # per attempt, shape (attempts,), by `ready`
    ready: Small
    wait: Small
    wait_lane: Lanes

    # per job, shape (jobs,), by arrival
    arrival: Small
    sojourn: Small
    lane: Lanes
    dead: npt.NDArray[np.bool_]

    # at the times of the grid
    #: Waiting jobs by lane, shape (3, GRID + 1).
    depth: Small
    #: Job-seconds waited so far in each lane, shape (3, GRID + 1).
    waited_s: Floats
    #: Slot-seconds used so far, shape (GRID + 1,).
    busy_s: Floats
    #: Slot-seconds available so far, shape (GRID + 1,).
    slots_s: Floats

    #: When the last job was finished.
    last_end_s: float


def replication_of(log: SimulationLog, system: System, horizon_s: float, index: int) -> Replication:
    by_ready = np.argsort(log.ready, kind="stable")
    lanes = log.lane[log.job]
    grid = np.linspace(0, horizon_s, GRID + 1)
    claimed = log.start - system.latency.claim_s
    released = log.end + system.latency.settle_s
    times = np.array([at for at, _ in log.workers] + [np.inf])
    counts = np.array([n for _, n in log.workers], dtype=np.float64)
    present = np.clip(np.minimum(grid[:, None], times[None, 1:]) - times[None, :-1], 0, None)
    return Replication(
        index=index,
        ready=log.ready[by_ready].astype(np.float32),
        wait=(log.wait[by_ready]).astype(np.float32),
        wait_lane=lanes[by_ready],
        arrival=log.arrival.astype(np.float32),
        sojourn=(log.finished - log.arrival).astype(np.float32),
        lane=log.lane,
        dead=log.dead,
        depth=np.array(
            [_waiting(log.ready[lanes == k], claimed[lanes == k], grid) for k in range(3)], dtype=np.float32
        ),
        waited_s=np.array([_spent(log.ready[lanes == k], grid) - _spent(claimed[lanes == k], grid) for k in range(3)]),
        busy_s=_spent(claimed, grid) - _spent(released, grid),
        slots_s=present @ counts * system.slots_per_worker,
        last_end_s=float(log.finished.max(initial=0.0)),
    )


def _waiting(ready: Floats, claimed: Floats, grid: Floats) -> npt.NDArray[np.int64]:
    came = np.searchsorted(np.sort(ready), grid, side="right")
    return came - np.searchsorted(np.sort(claimed), grid, side="right")


def _spent(since: Floats, grid: Floats) -> Floats:
    """At each time t of the grid: the sum of t - s over all s of `since` before t."""
    ordered = np.sort(since)
    before = np.searchsorted(ordered, grid, side="right")
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    return before * grid - sums[before]
