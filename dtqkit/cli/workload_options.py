"""What `plan` and `simulate` share: the options of a workload, progress, and how results are written."""

import math
import multiprocessing
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dtqkit.capacity.checks import PRIORITIES
from dtqkit.capacity.distributions import distribution
from dtqkit.capacity.profiles import HourOfDay
from dtqkit.capacity.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORTH_PROCESSES = 500_000

JobsPerDay = Annotated[float, typer.Option(help="Jobs that come in a day.")]
MeanService = Annotated[float, typer.Option(help="Mean run time of one attempt, in seconds.")]
Scv = Annotated[float, typer.Option(help="Squared coefficient of variation of the run time; 1 as the exponential.")]
Service = Annotated[str, typer.Option(help="exponential, deterministic, lognormal, gamma or hyperexponential.")]
Mix = Annotated[str, typer.Option(help="Shares of the priorities.")]
Swing = Annotated[float, typer.Option(help="Of the rate over the day: .6 is ±60 %, 1 twice the mean at the peak.")]
PeakHour = Annotated[float, typer.Option(help="When the rate is highest.")]
Failures = Annotated[float, typer.Option(help="Probability that an attempt fails.")]
MtbfHours = Annotated[float | None, typer.Option(help="A worker crashes once in so many hours.")]
Replications = Annotated[int, typer.Option(help="Days that are simulated of each; more make the intervals narrower.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same numbers.")]
Json = Annotated[bool, typer.Option("--json", help="For a program.")]
Png = Annotated[Path | None, typer.Option("--png", help="Write the plots to this file.")]


def workload(
    jobs_per_day: float,
    mean_service: float,
    scv: float,
    service: str,
    mix: str,
    swing: float,
    peak_hour: float,
    failures: float,
) -> Workload:
    shares = {name.strip(): number("mix", share) for name, _, share in (part.partition("=") for part in mix.split(","))}
    return Workload(
        jobs_per_day,
        distribution(service, mean_service, scv),
        mix=shares,
        profile=HourOfDay.swing(swing, peak_hour) if swing else None,
        failure_probability=failures,
    )


def number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--{name} must be NAME=NUMBER, got {text!r} for the number") from None


@contextmanager
def wrong_use() -> Generator[None]:
    """A bad value is said in one line, with exit status 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def processes(jobs: float) -> Generator[ProcessPoolExecutor | None]:
    """A process a core, spawned, so that nothing of this one is copied into them; none for so few simulated jobs
    that starting them would take longer."""
    if jobs < WORTH_PROCESSES:
        yield None
        return
    executor = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None]]:
    """A bar on a terminal, a line at each quarter elsewhere; on stderr, so that --json stays clean."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _quarters(what)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _quarters(what: str) -> Callable[[int, int], None]:
    def say(done: int, total: int) -> None:
        if 4 * done // total > 4 * (done - 1) // total:
            typer.echo(f"{what}: {done} of {total}", err=True)

    return say


def used(work: Workload) -> list[str]:
    return [p for p, share in zip(PRIORITIES, work.shares, strict=True) if share]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(*header)
    for row in rows:
        made.add_row(*row)
    return made


def short(value: float) -> str:
    """Three digits, or all of a whole number."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def finite(value: object) -> object:
    """JSON has no infinity: null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, dpi=120)  # pyright: ignore[reportUnknownMemberType] - open keyword arguments
    typer.echo(f"wrote {path}", err=True)
