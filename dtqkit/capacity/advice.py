"""What a person must be told before a number is believed."""

from dataclasses import replace
from typing import TYPE_CHECKING

from dtqkit.capacity import load
from dtqkit.capacity.system import System
from dtqkit.capacity.theory import mgc
from dtqkit.capacity.workload import Workload

if TYPE_CHECKING:
    from dtqkit.capacity.results import Result


def duration(seconds: float) -> str:
    """`40 ms`, `12 s`, `3.5 min`, `7.2 h`, `4.1 days`."""
    for limit, size, unit in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:,.3g} days"


def instability(system: System, work: Workload) -> str | None:
    """Said when the workers cannot keep up in the mean: slope of the backlog and the time to drain a day of it."""
    rho = load.utilisation(system, work)
    if rho < 1:
        return None
    slope = load.slope(system, work)
    backlog = slope * 86_400
    drained = backlog / (work.arrival_rate / rho)
    return (
        f"unstable: the workload is {rho:.2f} times what {system.workers} workers can do. The backlog grows by "
        f"{slope * 3600:,.0f} jobs an hour; after one day {backlog:,.0f} jobs wait, and need {duration(drained)} "
        "to drain with nothing new coming in. Waits grow without end"
    )


def peak_hour(system: System, work: Workload) -> str | None:
    """Said when the busiest hour is over what the workers can do and the mean looks fine."""
    mean, peak = load.utilisation(system, work), load.utilisation(system, work, peak=True)
    if mean >= 1 or peak < 1 or work.profile is None:
        return None
    hour = work.profile.peak_hour % 24
    growth = load.slope(system, work, peak=True) * 3600
    return (
        f"the busiest hour ({hour}:00) asks for {peak:.0%} of the workers, though the mean is {mean:.0%}: "
        f"the backlog then grows by {growth:,.0f} jobs an hour, and a formula for the mean rate does not see it"
    )


def general(system: System, work: Workload) -> list[str]:
    """Said for any workload and system that it applies to."""
    found = [text for text in (instability(system, work), peak_hour(system, work)) if text]
    retries = work.attempts_per_job(system.retry.max_attempts)
    if retries > 1.001:
        found.append(
            f"retries multiply the load by {retries:.3f} ({work.failure_probability:.1%} of the attempts fail, "
            f"{system.retry.max_attempts} attempts at most)"
        )
    if system.crashes:
        away = 1 - system.crashes.availability
        found.append(
            f"crashes take {away:.2%} of the workers' time; a job hit by one waits "
            f"{duration(system.crashes.detection_s)} more until it is noticed, and runs again from its start"
        )
        if (lost := load.lost_jobs(system, work)) > 0.001:
            found.append(
                f"{lost:.1%} of the jobs lose {system.crashes.max_losses} workers and are dead letters: they run too "
                f"long for workers that crash once in {duration(system.crashes.mtbf_s)}"
            )
        undisturbed = sum(load.lane_loads(replace(system, crashes=None), work))
        if (more := sum(load.lane_loads(system, work)) / undisturbed - 1) > 0.02:
            found.append(
                f"crashes make the load {more:.1%} larger: long jobs are cut short, once in "
                f"{duration(system.crashes.mtbf_s)} of a worker's time, and what they had done is done again"
            )
    rho = load.utilisation(system, work)
    if 0.8 < rho < 1:
        found.append(f"utilisation is {rho:.0%}: a little more load or longer jobs make waits many times as long")
    return found


def of_result(result: "Result") -> tuple[str, ...]:
    """All that applies to a simulation."""
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
            f"the mean wait is known to ±{result.wait.relative_half_width:.0%} only: "
            "take more replications or a longer horizon"
        )
    return tuple(found)
