"""What is kept of one replication: waits and sojourns as drawn, depth and busy time on a grid."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.log import Log
from dtqkit.capacity.system import System

Small = npt.NDArray[np.float32]
"""Single precision (1 part in 10 million) is far below any interval, and 30 days of 100K jobs stay in memory."""
Lanes = npt.NDArray[np.int8]

GRID = 288
"""Intervals of the horizon: five minutes of a day."""


@dataclass(frozen=True, eq=False)
class Replication:
    index: int
    ready: Small  #: of each attempt, ascending
    wait: Small
    wait_lane: Lanes
    arrival: Small  #: of each job, ascending
    sojourn: Small
    lane: Lanes
    dead: npt.NDArray[np.bool_]
    depth: Small  #: (3, GRID + 1): waiting jobs by lane at the grid's times
    waited_s: Floats  #: (3, GRID + 1): job-seconds waited in each lane until then
    busy_s: Floats  #: (GRID + 1): slot-seconds used until then
    slots_s: Floats  #: (GRID + 1): slot-seconds that were there until then
    last_end_s: float  #: when the last job was done


def replication_of(log: Log, system: System, horizon_s: float, index: int) -> Replication:
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
    """Over all of `since`, the sum of what has passed by each time of the grid."""
    ordered = np.sort(since)
    before = np.searchsorted(ordered, grid, side="right")
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    return before * grid - sums[before]
