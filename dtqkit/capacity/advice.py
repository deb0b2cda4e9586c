"""Warnings about a system under a workload."""

from dataclasses import replace
from typing import Protocol

from dtqkit.capacity import load
from dtqkit.capacity.formatting import duration
from dtqkit.capacity.statistics import Estimate
from dtqkit.capacity.system import System
from dtqkit.capacity.theory import mgc
from dtqkit.capacity.workload import Workload
from dtqkit.support.formatting import counted


class Findings(Protocol):
    """What `of_result` reads of a simulation's result."""

    @property
    def system(self) -> System: ...
    @property
    def work(self) -> Workload: ...
    @property
    def stable(self) -> bool: ...
    @property
    def wait(self) -> Estimate: ...


def instability(system: System, work: Workload) -> str | None:
    """A warning if the workers cannot keep up with the mean rate: growth of the backlog, and time to drain a day's."""
    rho = load.utilisation(system, work)
    if rho < 1:
        return None
    slope = load.slope(system, work)
    backlog = slope * 86_400
    drained = backlog / (work.arrival_rate / rho)
    workers = counted(system.workers, "worker", "workers")
    return (
        f"unstable: the workload is {rho:.2f} times what {workers} can do. The backlog grows by "
        f"{slope * 3600:,.0f} jobs an hour. After one day {backlog:,.0f} jobs wait; without new jobs they would take "
        f"{duration(drained)} to drain. Waits are unbounded"
    )


def peak_hour(system: System, work: Workload) -> str | None:
    """A warning if the workers keep up with the mean rate, but not with the busiest hour."""
    mean, peak = load.utilisation(system, work), load.utilisation(system, work, peak=True)
    if mean >= 1 or peak < 1 or work.profile is None:
        return None
    hour = work.profile.peak_hour % 24
    growth = load.slope(system, work, peak=True) * 3600
    return (
        f"the busiest hour ({hour}:00) asks for {peak:.0%} of the workers, though the mean is {mean:.0%}: the backlog "
        f"then grows by {growth:,.0f} jobs an hour, which a formula for the mean rate does not show"
    )


def general(system: System, work: Workload) -> list[str]:
    """All warnings that need no simulation."""
    found = [text for text in (instability(system, work), peak_hour(system, work)) if text]
    retries = work.attempts_per_job(system.retry.max_attempts)
    if retries > 1.001:
        found.append(
            f"retries multiply the load by {retries:.3f} ({work.failure_probability:.1%} of the attempts fail, "
            f"at most {system.retry.max_attempts} attempts)"
        )
    if system.crashes:
        away = 1 - system.crashes.availability
        found.append(
            f"crashes take {away:.2%} of the workers' time. A crash is detected after "
            f"{duration(system.crashes.detection_s)}; then its jobs are re-queued and run again from their start"
        )
        if (lost := load.lost_jobs(system, work)) > 0.001:
            found.append(
                f"{lost:.1%} of the jobs lose {system.crashes.max_losses} workers and are dead letters: they run too "
                f"long for workers that crash once in {duration(system.crashes.mtbf_s)}"
            )
        undisturbed = sum(load.lane_loads(replace(system, crashes=None), work))
        if (more := sum(load.lane_loads(system, work)) / undisturbed - 1) > 0.02:
            found.append(
                f"crashes make the load {more:.1%} larger: a worker crashes once in "
                f"{duration(system.crashes.mtbf_s)}, and the jobs that it ran start again"
            )
    rho = load.utilisation(system, work)
    if 0.8 < rho < 1:
        found.append(f"utilisation is {rho:.0%}: slightly more or slightly longer jobs make waits many times as long")
    return found


def of_result(result: Findings) -> tuple[str, ...]:
    """All warnings about a simulation's result."""
    system, work = result.system, result.work
    if work.trace is not None:
        return ()
    found = general(system, work)
    if not result.stable:
        return tuple(found)
    if peak_hour(system, work):
        formula = mgc(work.arrival_rate, work.mean_service_s, work.scv, system.servers).wait_mean
        found.append(
            f"mean wait simulated {duration(result.wait.value)}; for the mean rate a formula says {duration(formula)}"
        )
    elif not work.is_terminating and result.wait.relative_half_width > 0.1:
        found.append(
            f"the mean wait is known only to ±{result.wait.relative_half_width:.0%}: "
            "use more replications or a longer horizon"
        )
    return tuple(found)
