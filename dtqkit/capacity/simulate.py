"""Simulation in independent replications, here or on an executor; comparison of two systems with the same jobs."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from functools import partial
from itertools import islice
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from dtqkit.capacity import budget, checks, fast, load, reference
from dtqkit.capacity.draws import Draws
from dtqkit.capacity.replication import Replication, replication_of
from dtqkit.capacity.results import Result
from dtqkit.capacity.statistics import interval
from dtqkit.capacity.system import System
from dtqkit.capacity.workload import Workload
from dtqkit.model.jobs import PRIORITIES
from dtqkit.model.starting import SimulationFailed

#: Called with (done, total).
ProgressCallback: TypeAlias = Callable[[int, int], None]

ENGINES: Final = {"fast": fast.run, "reference": reference.run}
#: Replications added at a time until the interval is narrow enough.
BATCH: Final = 10


def simulate(
    system: System,
    work: Workload,
    horizon: float | str = "1d",
    replications: int = 30,
    seed: int = 1,
    *,
    backlog: Mapping[str, int] | None = None,
    relative_half_width: float | None = None,
    max_replications: int = 300,
    engine: str = "fast",
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
) -> Result:
    """Independent replications of `horizon` (seconds, or "8h", "1d", "1w").

    Jobs that arrive before the horizon run until they are finished. A workload with a profile or trace is simulated
    from its start, with `backlog` (waiting jobs by priority). For any other workload the steady state is estimated, and
    a warm-up is left out. With `relative_half_width`, replications are added until the 95 % interval of the mean wait
    is that narrow, or until `max_replications`. The same seed gives the same numbers, with and without an executor.

    Raises InvalidOption for a parameter out of range or a priority without a worker, and SimulationFailed if memory
    does not suffice (then nothing is simulated) or if a process of the executor was killed.

        cap.simulate(cap.System.default(5), work, horizon="1d", replications=30).ci("wait", q=0.95, by="priority")
    """
    checks.whole("replications", replications)
    checks.whole("max_replications", max_replications)
    checks.whole("seed", seed, least=0)
    run_engine = checks.one_of("engine", engine, ENGINES)
    horizon_s = checks.seconds("horizon", horizon)
    for priority, waiting in (backlog or {}).items():
        checks.one_of("backlog", priority, PRIORITIES)
        checks.whole(f"backlog[{priority!r}]", waiting, least=0)
    need = budget.need_of(system, work, horizon_s, engine=engine, backlog=backlog)
    budget.afford(need, work, replications, horizon_s=horizon_s)
    load.utilisation(system, work)
    task = partial(replicate, system, work, horizon_s, seed, backlog, run_engine)
    show = progress or _terminal_bar()
    done: list[Replication] = []
    wanted = replications
    while True:
        at_a_time = budget.afford(need, work, wanted, processes=executor is not None, horizon_s=horizon_s)
        for replication in _run(task, range(len(done), wanted), executor if at_a_time > 1 else None, at_a_time):
            done.append(replication)
            show(len(done), wanted)
        done.sort(key=lambda replication: replication.index)
        result = Result(system, work, horizon_s, seed, tuple(done))
        if relative_half_width is None or len(done) >= max_replications or not result.stable:
            return result
        if result.wait.relative_half_width <= checks.positive("relative_half_width", relative_half_width):
            return result
        wanted = min(max_replications, len(done) + BATCH)


def replicate(
    system: System,
    work: Workload,
    horizon_s: float,
    seed: int,
    backlog: Mapping[str, int] | None,
    engine: str,
    index: int,
) -> Replication:
    """One replication. An executor runs this function."""
    draws = Draws(work, horizon_s=horizon_s, seed=seed, replication=index, backlog=backlog)
    return replication_of(ENGINES[engine](system, draws), system, horizon_s, index)


def _run(
    task: Callable[[int], Replication], indexes: range, executor: Executor | None, at_a_time: int
) -> Iterator[Replication]:
    try:
        yield from map(task, indexes) if executor is None else _run_on(executor, task, indexes, at_a_time)
    except BrokenExecutor:
        raise SimulationFailed(
            "a process of the simulation was killed, probably because memory ran out; its results are lost. Use fewer "
            "processes, fewer jobs or a shorter horizon"
        ) from None
    except MemoryError:
        raise SimulationFailed("memory ran out; the results are lost. Use fewer jobs or a shorter horizon") from None


def _run_on(
    executor: Executor, task: Callable[[int], Replication], indexes: range, at_a_time: int
) -> Iterator[Replication]:
    """At most `at_a_time` replications at the same time, as many as fit into memory."""
    rest = iter(indexes)
    running: set[Future[Replication]] = {executor.submit(task, index) for index in islice(rest, at_a_time)}
    try:
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {executor.submit(task, index) for index in islice(rest, len(done))}
            yield from (future.result() for future in done)
    finally:
        for future in running:
            future.cancel()


def quiet(_done: int, _total: int) -> None:
    """A progress callback that shows nothing."""


def _terminal_bar() -> ProgressCallback:
    """A progress bar if stderr is a terminal, otherwise nothing."""
    if not sys.stderr.isatty():
        return quiet

    def show(done: int, total: int) -> None:
        filled = 30 * done // total
        end = "\r" if done < total else "\r\033[K"
        sys.stderr.write(f"simulating [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}{end}")
        sys.stderr.flush()

    return show


def compare(
    first: System,
    second: System,
    work: Workload,
    horizon: float | str = "1d",
    replications: int = 30,
    seed: int = 1,
    *,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
) -> pd.DataFrame:
    """Two systems with the same jobs (common random numbers).

    One row per measure: both means, and the mean and 95 % interval of the paired difference, second minus first. If
    the interval does not contain 0, the systems differ.
    """
    a, b = (
        simulate(system, work, horizon, replications, seed, executor=executor, progress=progress)
        for system in (first, second)
    )
    warm_up_s = max(a.warm_up_s, b.warm_up_s)
    rows: dict[str, dict[str, float]] = {}
    for measure, q in (("wait", None), ("wait", 0.95), ("sojourn", None)):
        for lane in ("all", *work.priorities):
            name = f"{measure} {'mean' if q is None else f'p{100 * q:g}'} {lane} (s)"
            rows[name] = _paired(a, b, measure, q, lane, warm_up_s)
    rows["utilisation"] = _paired(a, b, "utilisation", None, "all", warm_up_s)
    rows["dead letter rate"] = _paired(a, b, "dead_letter_rate", None, "all", warm_up_s)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.attrs.update(replications=replications, seed=seed, level=0.95)
    return table


def _paired(a: Result, b: Result, measure: str, q: float | None, lane: str, warm_up_s: float) -> dict[str, float]:
    ours, theirs = (r.by_replication(measure, q=q, lane=lane, warm_up_s=warm_up_s) for r in (a, b))
    if math.inf in (ours.max(), theirs.max()):
        return dict.fromkeys(("first", "second", "difference", "low", "high"), math.nan) | {
            "first": float(ours.mean()),
            "second": float(theirs.mean()),
        }
    difference = interval(theirs - ours)
    return {
        "first": float(np.nanmean(ours)),
        "second": float(np.nanmean(theirs)),
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
    }
