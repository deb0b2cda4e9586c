"""`dtqkit plan`: the number of workers and the tier for a load, with waits and costs."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dtqkit.capacity.budget import need_of
from dtqkit.capacity.formatting import number
from dtqkit.capacity.plan import Plan
from dtqkit.capacity.plan import plan as make_plan
from dtqkit.capacity.scenario import SCENARIOS, SLO, Scenario
from dtqkit.capacity.statistics import Estimate
from dtqkit.capacity.system import Crashes, System
from dtqkit.capacity.tiercheck import TierCheck
from dtqkit.capacity.tiers import default_tiers, load_tiers
from dtqkit.cli import workload_options as given
from dtqkit.cli.textplot import bars
from dtqkit.support.formatting import counted, few


def plan(
    jobs_per_day: given.JobsPerDay,
    mean_service: given.MeanService = 15.0,
    scv: given.Scv = 1.0,
    service: given.Service = "lognormal",
    mix: given.Mix = "high=.1,medium=.3,low=.6",
    swing: given.Swing = 0.0,
    peak_hour: given.PeakHour = 12,
    failures: given.Failures = 0.0,
    mtbf_h: given.MtbfHours = None,
    slo: Annotated[
        str, typer.Option(metavar="PRIORITY=SECONDS", help="The objective: 95 % of these jobs wait at most so long.")
    ] = "high=5",
    max_utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, metavar="SHARE", help="Highest utilisation in the busiest hour.")
    ] = 0.8,
    tiers: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A TOML file of tiers, in the form of dtqkit/capacity/tiers.toml."),
    ] = None,
    replications: given.Replications = 10,
    seed: given.Seed = 1,
    json_: given.Json = False,
    png: given.Png = None,
) -> None:
    """Recommend a number of workers and a tier for a load: waits, costs, and which limit is reached first."""
    work = given.workload(jobs_per_day, mean_service, scv, service, mix, swing, peak_hour, failures)
    with given.wrong_use("--slo", "SLO "):
        objective = SLO(*given.named_number(slo))
    with given.wrong_use("--tiers"):
        offers = load_tiers(tiers) if tiers else default_tiers()
    crashes = Crashes(mtbf_s=mtbf_h * 3600) if mtbf_h is not None else None

    def layout(workers: int) -> System:
        return replace(System.default(workers), crashes=crashes)

    with (
        given.wrong_use(),
        given.processes(need_of(layout(1), work, work.cycle_s), work, replications, SCENARIOS) as executor,
        given.progress("scenarios") as progress,
    ):
        found = make_plan(
            work,
            offers,
            objective,
            max_utilisation,
            layout=layout,
            replications=replications,
            seed=seed,
            executor=executor,
            progress=progress,
        )
    if png:
        given.save(found.plot.overview(), png)
    if json_:
        typer.echo(json.dumps(as_json(found), indent=2))
    else:
        show(found, Console())


def as_json(found: Plan) -> dict[str, object]:
    """The tables as JSON. An unbounded wait is null."""
    tiers = found.table().reset_index().to_dict(orient="records")
    frontier = found.frontier().reset_index().to_dict(orient="records")
    return {
        "advice": found.advice,
        "recommended_workers": found.recommended_workers,
        "required_workers": {by: found.required_workers(by) for by in ("mean", "peak-hour", "simulated")},
        "usd_per_month": given.finite(found.price(found.recommended_workers)),
        "slo": str(found.slo),
        "replications": found.replications,
        "seed": found.seed,
        "tiers": [{str(key): given.finite(value) for key, value in row.items()} for row in tiers],
        "frontier": [{str(key): given.finite(value) for key, value in row.items()} for row in frontier],
        "warnings": list(found.warnings),
    }


def show(found: Plan, console: Console) -> None:
    console.print(f"[bold]{found.title}[/]")
    slots = found.layout(1).slots_per_worker
    console.print(
        f"A worker is {slots} slot here: it runs {slots} job at a time. A process that runs n jobs at a time "
        "(DTQ_CHILDREN, DTQ_CONCURRENCY) counts as n workers.",
        highlight=False,
    )
    console.print()
    _tiers(found, console)
    _workers(found, console)
    points = [(str(s.workers), s.wait_p95.value) for s in found.scenarios if math.isfinite(s.wait_p95.value)]
    console.print(bars(f"p95 wait of {found.slo.priority} jobs (s) by workers", points, limit=found.slo.wait_p95_s))
    console.print(f"[bold]{found.advice}[/]")
    for warning in found.warnings:
        console.print(f"! {warning}", style="yellow", highlight=False)
    console.print(f"{found.replications} replications of a day each, seed {found.seed}", style="dim")


def _tiers(found: Plan, console: Console) -> None:
    rows = [
        (
            check.tier.name,
            "yes" if check.holds else "no",
            str(check.tier.workers),
            _busy(check.scenario),
            _wait(check.scenario.wait_p95),
            number(check.max_service_s),
            f"{check.tier.price():,.0f}",
        )
        for check in found.checks
    ]
    console.print(
        f"Tiers, each with the workers that it is offered with: the wait of {found.slo.priority} jobs, and the mean "
        "run time that these workers carry",
        highlight=False,
    )
    header = ("tier", "holds", "workers", "busy, peak", "p95 wait (s)", "carries (s)", "$ a month")
    console.print(given.table(header, rows, left=("tier", "holds")))
    for check in found.checks:
        about = f"{check.tier.about}; " if check.tier.about else ""
        console.print(
            f"{check.tier.name}: {about}breaks first: {check.breaks_first}; {_why(found, check)}", highlight=False
        )
    console.print()


def _why(found: Plan, check: TierCheck) -> str:
    """Whether a tier is enough, and if not, why, and whether more workers on it would be."""
    if check.holds:
        return "enough"
    quotas = [quota.name for quota in check.quotas if not quota.holds]
    reasons = [f"its quotas are too small ({few(quotas)})"] if quotas else []
    busy, workers = check.scenario.peak_utilisation, counted(check.tier.workers, "worker", "workers")
    if busy >= 1:
        reasons.insert(0, f"its {workers} would have to be {busy:.0%} busy")
    elif not quotas:
        reasons.append(f"with its {workers} jobs wait longer, or workers are busier, than asked for")
    text = f"not enough: {' and '.join(reasons)}"
    if check.tier in found.fitting(found.recommended_workers):
        return f"{text}; with {counted(found.recommended_workers, 'worker', 'workers')} it is enough"
    return text


def _workers(found: Plan, console: Console) -> None:
    rows = [
        (
            f"> {scenario.workers}" if scenario.workers == found.recommended_workers else str(scenario.workers),
            _busy(scenario),
            *(_wait(wait) for wait in scenario.waits_p95.values()),
            "no tier fits" if math.isinf(price := found.price(scenario.workers)) else f"{price:,.0f}",
        )
        for scenario in found.scenarios
    ]
    console.print("Workers: the p95 wait (s) of each priority, on the cheapest tier whose quotas hold")
    console.print(given.table(("workers", "busy, peak", *found.work.priorities, "$ a month"), rows))


def _busy(scenario: Scenario) -> str:
    """Utilisation in the mean, and in the busiest hour if that differs."""
    mean, peak = f"{scenario.utilisation:.0%}", f"{scenario.peak_utilisation:.0%}"
    return mean if mean == peak else f"{mean}, {peak}"


def _wait(wait: Estimate) -> str:
    return "unbounded" if math.isinf(wait.value) else number(wait.value)
