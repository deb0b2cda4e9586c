"""The message about jobs that are not over in time: their states, and what they wait for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from dtqkit.model.events import Heartbeat
from dtqkit.model.jobs import STATUSES, WAITING, Job, Status
from dtqkit.model.pauses import Pauses, sentences
from dtqkit.support.formatting import counted as counted_words
from dtqkit.support.formatting import few

NOTHING_PAUSED: Final = Pauses()
NO_WORKERS: Final = "no workers are running"
_UNKNOWN: Final = "no live worker knows task "


def late_message(
    jobs: Sequence[Job],
    timeout: float,
    workers: Sequence[Heartbeat] | None,
    now: datetime | None = None,
    *,
    pauses: Pauses = NOTHING_PAUSED,
) -> str:
    """Of all jobs that were waited for; `workers` are the live ones, None when nobody could be asked."""
    if len(jobs) == 1:
        (job,) = jobs
        how = "it is" if workers is not None else "last known state:"
        text = (
            f"job {job.id} ({job.task}) is not over after {timeout:g} s: {how} {_stands(job, now or datetime.now(UTC))}"
        )
    else:
        how = "" if workers is not None else "last known state: "
        text = f"not all are over after {timeout:g} s: {how}{counted([job.status for job in jobs])}"
    return (
        text
        if workers is None
        else f"{text}; {with_cure(why_waiting(jobs, workers, pauses)) or _served(jobs, workers)}"
    )


def _stands(job: Job, now: datetime) -> str:
    """`pending since 11:32:09 UTC (6 s ago)`; of a running one, also where; of a later attempt, which."""
    if job.status == "scheduled" and job.due_at is not None:
        text = f"scheduled for {job.due_at:%H:%M:%S} UTC"
    elif job.status == "running":
        since = job.started_at or job.claimed_at or job.created_at
        text = f"running since {_since(since, now)} on {job.worker or 'a worker'}"
    else:
        text = f"{job.status} since {_since(job.queued_at or job.created_at, now)}"
    return f"{text}, {job.tally}" if job.attempt else text


def _since(at: datetime, now: datetime) -> str:
    ago_s = max(0.0, (now - at).total_seconds())  # by another machine's clock
    return f"{at:%H:%M:%S} UTC ({ago_s:.0f} s ago)"


def _served(jobs: Sequence[Job], workers: Sequence[Heartbeat]) -> str:
    """How many workers serve what is not over, and how busy they are."""
    left = [job for job in jobs if not job.is_over]
    live = {worker.id for worker in workers}
    running_on = [job.worker for job in left if job.status == "running"]
    lost = set(running_on) - live
    if lost:
        return f"{few(sorted(map(str, lost)))} sends no heartbeats: the leader re-queues what it ran"
    tasks = {job.task for job in left}
    # A heartbeat may be older than the job: a worker that runs one of them serves it, whatever its heartbeat says.
    serving = [w for w in workers if w.tasks is None or w.id in running_on or not tasks.isdisjoint(w.tasks)]
    load = max(sum(w.load for w in serving), len(running_on))
    verb, its = ("serves" if len(serving) == 1 else "serve"), ("its task" if len(tasks) == 1 else "these tasks")
    how_many = counted_words(len(serving), "live worker", "live workers")
    return f"{how_many} {verb} {its}, running {counted_words(load, 'job', 'jobs')}"


def counted(statuses: Sequence[Status]) -> str:
    """`4 jobs: 1 running, 3 completed`."""
    counts = Counter(statuses)
    known = dict.fromkeys((*STATUSES, *counts))  # a newer server may have more of them
    shown = ", ".join(f"{counts[status]} {status}" for status in known if counts[status])
    return f"{len(statuses)} job{'s' if len(statuses) > 1 else ''}: {shown}" if shown else "no jobs"


def why_waiting(jobs: Sequence[Job], workers: Sequence[Heartbeat], pauses: Pauses = NOTHING_PAUSED) -> str:
    """Why those of `jobs` that wait are not taken by any of these live workers; nothing when each may be."""
    waiting = [job for job in jobs if job.status in WAITING]
    paused = few(sentences(pauses, waiting)) if pauses else ""
    left = [job for job in waiting if pauses.of(job) is None] if pauses else waiting
    if not paused or not left:
        return paused or _why_not_taken(waiting, workers)
    return "; ".join(filter(None, (paused, _why_not_taken(left, workers))))


def _why_not_taken(waiting: Sequence[Job], workers: Sequence[Heartbeat]) -> str:
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
            return f"{_UNKNOWN}{few([*map(repr, missing)])} ({how_many} {serve}: {few(served)})"
    lanes = {lane for worker in workers for lane in worker.lanes}
    if idle := sorted({job.priority for job in waiting} - lanes):
        return f"no live worker serves lane {few([*map(repr, idle)])} ({how_many}: {few(sorted(lanes))})"
    return ""


def with_cure(why: str) -> str:
    """The same, and what to do where one thing helps."""
    if why == NO_WORKERS:
        return f"{why}: start one with `dtqkit worker package.module:queue`"
    if why.startswith(_UNKNOWN):
        return f"{why}; if you have just added it, restart the workers, or start them with --reload"
    return why
