"""The report of the demo: what its jobs found, and their times and outcomes, all from the record."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from dtqkit.cli.show import first_line, say, table
from dtqkit.control import AttemptRow
from dtqkit.model.jobs import PRIORITIES, Job
from dtqkit.support.formatting import duration

#: Rows of each list.
TOP: Final = 8
#: The highest utilisation of a worker at which jobs do not wait long.
UTILISATION: Final = 0.8


class BatchReport:
    """The jobs of a batch, a row for each of their attempts, and its duration in seconds."""

    def __init__(self, jobs: Sequence[Job], attempts: Sequence[AttemptRow], batch_s: float, slots: int) -> None:
        self.jobs = jobs
        self.attempts = attempts
        self.batch_s = batch_s
        #: Jobs that one worker process runs at a time.
        self.slots = slots

    def results(self, task: str) -> Iterator[tuple[str, Any]]:
        """(path, result) of each completed job of `task`."""
        for job in self.jobs:
            if job.task == task and job.status == "completed":
                yield job.payload["path"], job.result

    @property
    def dead(self) -> list[Job]:
        return [job for job in self.jobs if job.status == "failed"]

    @property
    def lost(self) -> list[AttemptRow]:
        return [row for row in self.attempts if row.ending == "lost"]

    @property
    def workers(self) -> set[str]:
        """The worker processes that appear in the record; a restarted worker counts as another one."""
        return {row.worker for row in self.attempts}


def print_report(report: BatchReport) -> None:
    """Print the findings, then the times and outcomes."""
    print()
    _found(report)
    _lanes(report)
    _mishaps(report)
    _totals(report)


# -- findings


def _found(report: BatchReport) -> None:
    sizes = sorted(report.results("parse"), key=lambda item: -item[1]["lines"])[:TOP]
    table(
        ("module", "lines", "classes", "functions"),
        [(_module(path), *(f"{size[k]:,}" for k in ("lines", "classes", "functions"))) for path, size in sizes],
        title="Largest modules",
        right=("lines", "classes", "functions"),
    )
    imports = Counter(module for _, modules in report.results("index") for module in modules)
    table(
        ("module", "imported by"),
        [(module, _count(n, "file")) for module, n in imports.most_common(TOP)],
        title="Most imported modules",
        right=("imported by",),
    )
    findings: defaultdict[str, list[str]] = defaultdict(list)
    for path, found in report.results("lint"):
        for finding in found:
            findings[finding["rule"]].append(f"{_module(path)}:{finding['line']} {finding['detail']}")
    if not findings:
        print("Lint\nnothing found\n")
        return
    table(
        ("finding", "times", "for example"),
        [(rule, f"{len(all_):,}", all_[0]) for rule, all_ in sorted(findings.items(), key=lambda item: -len(item[1]))],
        title="Lint",
        right=("times",),
    )


def _module(path: str) -> str:
    """`json/decoder.py` for a path that ends so: the folder distinguishes the packages."""
    parts = Path(path).parts
    place = max((i for i, part in enumerate(parts) if part.startswith("python3")), default=len(parts) - 2)
    return "/".join(parts[place + 1 :])


# -- times and outcomes


def _lanes(report: BatchReport) -> None:
    rows: list[tuple[str, ...]] = []
    for lane in PRIORITIES:
        jobs = [job for job in report.jobs if job.priority == lane]
        attempts = [row for row in report.attempts if row.priority == lane]
        waits = [row.wait_s for row in attempts if row.wait_s is not None]
        runs = [row.run_s for row in attempts if row.run_s is not None and row.ending == "completed"]
        times = [duration(percentile(values, q)) for values in (waits, runs) for q in (0.5, 0.95)]
        rows.append((lane, _tasks(jobs), f"{len(jobs):,}", f"{len(attempts):,}", *times))
    columns = ("lane", "tasks", "jobs", "attempts", "wait p50", "wait p95", "run p50", "run p95")
    table(columns, rows, title="Lanes (wait: until the task began)", right=columns[2:], spare=("attempts",))
    print(
        "worker 1 serves high first, worker 2 medium, worker 3 low, and each helps the\n"
        "others when its own lane is empty: high does not always wait least here\n"
    )


def _tasks(jobs: Iterable[Job]) -> str:
    return ", ".join(sorted({job.task for job in jobs}))


def _mishaps(report: BatchReport) -> None:
    for job in report.dead:
        error = f"{job.error.type}: {first_line(job.error.message)}" if job.error else "no error recorded"
        say(f"dead letter     {job.task} after {_count(len(job.attempts), 'attempt')}: {error}")
    lost = report.lost
    if lost:
        print(f"lost            {_count(len(lost), 'attempt')} of {', '.join(sorted({row.worker for row in lost}))}")
        print(f"                {_after_loss(report)}")


def _after_loss(report: BatchReport) -> str:
    """How the jobs that a lost worker held ended."""
    held = {row.job for row in report.lost}
    completed = sum(job.status == "completed" for job in report.jobs if job.id in held)
    again = max(_gaps(report), default=0.0)
    if len(held) == 1:
        return f"the job {'completed' if completed else 'failed'}, run again {duration(again)} after its first start"
    which = f"all {completed}" if completed == len(held) else f"{completed} of the {len(held)}"
    return f"{which} jobs completed, run again at most {duration(again)} after their first start"


def _gaps(report: BatchReport) -> Iterator[float]:
    """Seconds from the claim of each lost attempt to the claim of the next: not less than from the crash."""
    starts = {(row.job, row.number): row.claimed_at for row in report.attempts}
    for row in report.lost:
        if (following := starts.get((row.job, row.number + 1))) is not None:
            yield (following - row.claimed_at).total_seconds()


def _totals(report: BatchReport) -> None:
    completed = sum(job.status == "completed" for job in report.jobs)
    processes = _count(len(report.workers), "process", "es")
    print(f"workers         {processes} in the record: {', '.join(sorted(report.workers))}")
    print(
        f"batch           {completed:,} of {len(report.jobs):,} jobs completed, {len(report.attempts):,} attempts, "
        f"{report.batch_s:.1f} s, {len(report.jobs) / report.batch_s:,.0f} jobs/s"
    )
    print(f"ten times more  {forecast(report, 10)}")


def forecast(report: BatchReport, times: int) -> str:
    """How many workers `times` the batch's load needs, by the offered load λ·E[S] (Erlang) alone."""
    runs = [row.run_s for row in report.attempts if row.run_s is not None and row.ending != "lost"]
    mean_s = sum(runs) / len(runs)
    rate = times * len(report.jobs) / report.batch_s
    load = rate * mean_s
    workers = math.ceil(load / UTILISATION / report.slots)
    return (
        f"{rate:,.0f} jobs/s of {duration(mean_s)} are {load:.1f} Erlang: {_count(workers, 'worker')} at "
        f"{UTILISATION:.0%}{', each' if workers > 1 else ','} on a core of its own"
    )


def percentile(values: Iterable[float], q: float) -> float | None:
    """The smallest value that at least the share `q` of `values` do not exceed (nearest rank); None without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else None


def _count(n: int, noun: str, plural: str = "s") -> str:
    return f"{n:,} {noun}{'' if n == 1 else plural}"
