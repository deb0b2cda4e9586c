"""Shared by `plan` and `simulate`: the options of a workload, processes, progress, tables and files."""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dtqkit.capacity import budget, checks, machine, pool
from dtqkit.capacity.distributions import FAMILIES, distribution
from dtqkit.capacity.profiles import HourOfDay
from dtqkit.capacity.workload import Workload
from dtqkit.cli.preflight import new_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORTH_PROCESSES = 500_000
FORMATS = (".png", ".svg", ".pdf")


def above_0(value: float | None) -> float | None:
    """An option's callback."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"it must be a finite number above 0, not {value:g}")
    return value


def below_1(value: float) -> float:
    """An option's callback, for a probability."""
    if not 0 <= value < 1:
        raise typer.BadParameter(f"it must be at least 0 and below 1, not {value:g}")
    return value


def new_plot(path: Path | None) -> Path | None:
    """An option's callback: checked before the simulation runs."""
    if path is not None and path.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{path} must end in one of {', '.join(FORMATS)}")
    return new_file(path)


JobsPerDay = Annotated[float, typer.Option(callback=above_0, metavar="N", help="Jobs per day.")]
MeanService = Annotated[float, typer.Option(callback=above_0, metavar="SECONDS", help="Mean run time of one attempt.")]
Scv = Annotated[
    float,
    typer.Option(
        callback=above_0,
        metavar="RATIO",
        help="Squared coefficient of variation of the run time; 1 for the exponential.",
    ),
]
Service = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Distribution of the run time: exponential, deterministic, lognormal, gamma or hyperexponential.",
    ),
]
Mix = Annotated[str, typer.Option(metavar="SHARES", help="Shares of the priorities.")]
Swing = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        metavar="SHARE",
        help="Swing of the rate over the day: .6 is ±60 %, 1 is twice the mean at the peak.",
    ),
]
PeakHour = Annotated[float, typer.Option(metavar="HOUR", help="Hour of the day with the highest rate.")]
Failures = Annotated[float, typer.Option(callback=below_1, metavar="P", help="Probability that an attempt fails.")]
MtbfHours = Annotated[
    float | None, typer.Option(callback=above_0, metavar="HOURS", help="Mean time from a worker's start to its crash.")
]
Replications = Annotated[
    int, typer.Option(min=1, metavar="N", help="Simulated runs per scenario; more give narrower intervals.")
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="The same seed gives the same numbers.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Png = Annotated[
    Path | None,
    typer.Option("--png", callback=new_plot, metavar="PATH", help="Write the plots to this file (.png, .svg or .pdf)."),
]


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
    with wrong_use("--service", "distribution "):
        checks.one_of("distribution", service, FAMILIES)
    with wrong_use("--scv", "HyperExponential scv "):
        run_time = distribution(service, mean_service, scv)
    with wrong_use("--peak-hour", "HourOfDay "):
        profile = HourOfDay.swing(swing, peak_hour) if swing else None
    with wrong_use("--mix", "Workload mix "):
        shares = dict(named_number(part) for part in mix.split(","))
        return Workload(jobs_per_day, run_time, mix=shares, profile=profile, failure_probability=failures)


def named_number(text: str) -> tuple[str, float]:
    """Name and number of `NAME=NUMBER`."""
    name, _, number = text.partition("=")
    try:
        return name.strip(), float(number)
    except ValueError:
        raise ValueError(f"must be NAME=NUMBER, got {text!r}") from None


@contextmanager
def wrong_use(option: str | None = None, name: str = "") -> Generator[None]:
    """Report a bad value as wrong use of `option`; `name`, the model's name for it, is left out."""
    try:
        yield
    except ValueError as error:
        why = str(error).removeprefix(name)
    except OSError as error:
        if error.filename is None:
            raise
        why = f"{error.filename} cannot be read: {error.strerror}"
    else:
        return
    raise typer.BadParameter(why, param_hint=f"'{option}'" if option else None)


@contextmanager
def processes(need: budget.Need, work: Workload, replications: int, scenarios: int = 1) -> Generator[Executor | None]:
    """An executor limited by cores, replications and memory; None if starting processes would take longer than the
    simulation."""
    wanted = 1
    if scenarios * replications * need.jobs >= WORTH_PROCESSES:
        wanted = min(machine.cores(), replications, budget.afford(need, work, replications, processes=True))
    with pool.processes(wanted) as executor:
        yield executor


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
    def show(done: int, total: int) -> None:
        if 4 * done // total > 4 * (done - 1) // total:
            typer.echo(f"{what}: {done} of {total}", err=True)

    return show


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[str] = ()) -> Table:
    """A table with numbers to the right. The columns named in `left` are text, which may wrap."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in header:
        words = name in left
        made.add_column(name, justify="left" if words else "right", no_wrap=not words)
    for row in rows:
        made.add_row(*row)
    return made


def finite(value: object) -> object:
    """`value`, or None (null) for a number that JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, dpi=120)  # pyright: ignore[reportUnknownMemberType] - open keyword arguments
    typer.echo(f"wrote {path}", err=True)
