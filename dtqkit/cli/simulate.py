"""`dtqkit simulate`: waits, depth and utilisation with a given number of workers."""

import json
import math
from typing import Annotated

import typer
from rich.console import Console

from dtqkit.capacity import checks
from dtqkit.capacity.budget import afford, need_of
from dtqkit.capacity.formatting import duration
from dtqkit.capacity.results import Result
from dtqkit.capacity.simulate import simulate as run
from dtqkit.capacity.system import Autoscale, Crashes, Retry, System
from dtqkit.cli import workload_options as given
from dtqkit.cli.textplot import bars

Workers = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of workers, in the queue's layout: worker 1 serves high first, 2 medium, 3 low, …",
    ),
]


def simulate(
    jobs_per_day: given.JobsPerDay,
    workers: Workers = 3,
    strict: Annotated[bool, typer.Option("--strict", help="Each worker serves its own lane only.")] = False,
    shared: Annotated[bool, typer.Option("--shared", help="All workers serve all lanes by priority.")] = False,
    slots: Annotated[int, typer.Option(min=1, metavar="N", help="Jobs that a worker runs at a time.")] = 1,
    mean_service: given.MeanService = 15.0,
    scv: given.Scv = 1.0,
    service: given.Service = "lognormal",
    mix: given.Mix = "high=.1,medium=.3,low=.6",
    swing: given.Swing = 0.0,
    peak_hour: given.PeakHour = 12,
    failures: given.Failures = 0.0,
    max_attempts: Annotated[
        int, typer.Option(min=1, metavar="N", help="Failed attempts after which a job is a dead letter.")
    ] = 3,
    mtbf_h: given.MtbfHours = None,
    max_workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Autoscale up to this number of workers.")
    ] = None,
    threshold: Annotated[
        int, typer.Option(min=0, metavar="N", help="With --max-workers: start a worker when more jobs than this wait.")
    ] = 20,
    backlog: Annotated[int, typer.Option(min=0, metavar="N", help="Low-priority jobs that wait at the start.")] = 0,
    horizon: Annotated[str, typer.Option(metavar="TIME", help="Simulated time, such as 8h, 1d, 1w.")] = "1d",
    replications: given.Replications = 10,
    seed: given.Seed = 1,
    json_: given.Json = False,
    png: given.Png = None,
) -> None:
    """Simulate a number of workers: waits, depth and utilisation, each with its 95 % interval."""
    work = given.workload(jobs_per_day, mean_service, scv, service, mix, swing, peak_hour, failures)
    with given.wrong_use("--horizon", "horizon "):
        horizon_s = checks.seconds("horizon", horizon)
    with given.wrong_use("--max-workers", "Autoscale max_workers "):
        system = System(
            lanes={"shared": workers} if shared else System.default(workers).lanes,
            slots_per_worker=slots,
            helping=not strict,
            retry=Retry(max_attempts),
            crashes=Crashes(mtbf_s=mtbf_h * 3600) if mtbf_h is not None else None,
            autoscale=Autoscale(max_workers, threshold) if max_workers is not None else None,
        )
    waiting = {"low": backlog} if backlog else None
    need = need_of(system, work, horizon_s, backlog=waiting)
    afford(need, work, replications, horizon_s=horizon_s)
    with (
        given.wrong_use("--strict" if strict else None),  # then a lane may have no worker
        given.processes(need, work, replications) as executor,
        given.progress("replications") as progress,
    ):
        result = run(system, work, horizon_s, replications, seed, backlog=waiting, executor=executor, progress=progress)
    if png:
        given.save(result.plot.overview(), png)
    if json_:
        typer.echo(json.dumps(as_json(result), indent=2))
    else:
        show(result, Console())


def as_json(result: Result) -> dict[str, object]:
    """Estimates with their intervals; an unbounded wait is null."""
    measures: dict[str, object] = {}
    for name in ("utilisation", "depth", "sojourn", "dead_letter_rate"):
        measures[name] = _estimate(result, name, None, "all")
    for priority in result.work.priorities:
        waits = {"mean": None, "p50": 0.5, "p95": 0.95, "p99": 0.99}
        measures[f"wait_{priority}"] = {name: _estimate(result, "wait", q, priority) for name, q in waits.items()}
    return {
        "stable": result.stable,
        "load": result.load,
        "backlog_slope_per_s": result.backlog_slope,
        "drain_s": result.drain_s,
        "warm_up_s": result.warm_up_s,
        "replications": len(result.replications),
        "seed": result.seed,
        "measures": measures,
        "warnings": list(result.warnings),
    }


def _estimate(result: Result, measure: str, q: float | None, priority: str) -> dict[str, object]:
    found = result.estimate(measure, q=q, priority=priority)
    return {
        "value": given.finite(found.value),
        "low": given.finite(found.low),
        "high": given.finite(found.high),
        "unit": found.unit,
    }


def show(result: Result, console: Console) -> None:
    console.print(f"[bold]{result.title}[/]")
    warnings = result.warnings
    if not result.stable:
        first, *warnings = warnings  # on top: it concerns everything below
        console.print(first, style="bold red", highlight=False)
    header = ("", "estimate [low, high]", "unit")
    console.print(given.table(header, result.rows(), left=header))
    course = result.depth_over_time()["mean"].iloc[::12]
    points = [(f"{float(at) / 3600:.0f} h", float(depth)) for at, depth in course.items()]  # pyright: ignore[reportArgumentType] - the index is of times
    console.print(bars("waiting jobs over time, mean", points))
    if not result.stable:
        console.print(
            f"The backlog is drained {duration(result.drain_s)} after the horizon; the rest is unbounded",
            highlight=False,
        )
    elif all(math.isfinite(result.estimate("wait", priority=p).value) for p in result.work.priorities):
        console.print(f"95 % of all jobs wait at most {duration(result.estimate('wait', q=0.95).value)}", style="bold")
    for warning in warnings:
        console.print(f"! {warning}", style="yellow", highlight=False)
