"""What to say of jobs that are not over in time: how they stand, and what keeps them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from dtqkit.events import Heartbeat
from dtqkit.jobs import STATUSES, WAITING, Job, Status
from dtqkit.wording import few

NO_WORKERS: Final = "no workers are running"


def said_late(jobs: Sequence[Job], timeout: float, workers: Sequence[Heartbeat] | None) -> str:
    """Of all jobs that were waited for; `workers` are the live ones, None when nobody could be asked."""
    if len(jobs) == 1:
        (job,) = jobs
        how = "it is" if workers is not None else "last known state:"
        said = f"job {job.id} ({job.task}) is not over after {timeout:g} s: {how} {job.status}"
    else:
        how = "" if workers is not None else "last known state: "
        said = f"not all are over after {timeout:g} s: {how}{counted([job.status for job in jobs])}"
    why = "" if workers is None else with_cure(why_waiting(jobs, workers))
    return f"{said}; {why}" if why else said


def counted(statuses: Sequence[Status]) -> str:
    """`4 jobs: 1 running, 3 completed`."""
    counts = Counter(statuses)
    shown = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{len(statuses)} job{'s' if len(statuses) > 1 else ''}: {shown}" if shown else "no jobs"


def why_waiting(jobs: Sequence[Job], workers: Sequence[Heartbeat]) -> str:
    """Why those of `jobs` that wait are not taken by any of these live workers; nothing when each may be."""
    waiting = [job for job in jobs if job.status in WAITING]
    if not waiting:
        return ""
    if not workers:
        return NO_WORKERS
    how_many = f"{len(workers)} live worker{'s' if len(workers) > 1 else ''}"
    known = [worker.tasks for worker in workers if worker.tasks is not None]
    if len(known) == len(workers):
        served = sorted({task for tasks in known for task in tasks})
        if missing := sorted({job.task for job in waiting} - set(served)):
            serve = "serve" if len(workers) > 1 else "serves"
            return f"no live worker knows task {few([*map(repr, missing)])} ({how_many} {serve}: {few(served)})"
    lanes = {lane for worker in workers for lane in worker.lanes}
    if idle := sorted({job.priority for job in waiting} - lanes):
        return f"no live worker serves lane {few([*map(repr, idle)])} ({how_many}: {few(sorted(lanes))})"
    return ""


def with_cure(why: str) -> str:
    """The same, and what to do where one thing helps."""
    return f"{why}: start one with `dtqkit worker package.module:queue`" if why == NO_WORKERS else why
