"""The capacity model's speed and memory.

Ratios are within one run, rounds interleaved, against plain_simpy.py: the same full-feature day written in SimPy the
obvious way. CPU seconds of this process; a day is 100,000 jobs. The plan is wall time on two processes.
"""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import dtqkit.capacity as cap
from dtqkit.capacity import fast, reference
from dtqkit.capacity.draws import Draws
from tests.benchmarks.bench import Bench
from tests.benchmarks.plain_simpy import PlainModel
from tests.benchmarks.report import Row, at_least, at_most, row

SUITE = "the capacity model, beside a plain SimPy model of the same day of 100,000 jobs"

JOBS = 100_000
FULL_WORK = cap.Workload(JOBS, cap.Lognormal(8, 1), failure_probability=0.03)
FULL = cap.System(
    lanes={"high": 4, "medium": 4, "low": 5},
    crashes=cap.Crashes(mtbf_s=21_600, mttr_s=60, detection_s=15),
    latency=cap.Latency(0.01, 0.01, 0.01),
)
BARE_WORK = cap.Workload(JOBS, cap.Lognormal(8, 1), mix={"low": 1.0})
BARE = cap.System(lanes={"shared": 13})


def plain_day() -> None:
    PlainModel(rate=JOBS / 86_400, mean_s=8, workers=13, horizon_s=86_400, seed=1).run()


def reference_day() -> None:
    reference.run(FULL, Draws(FULL_WORK, seed=1))


def fast_day() -> None:
    fast.run(FULL, Draws(FULL_WORK, seed=1))


def bare_day() -> None:
    fast.run(BARE, Draws(BARE_WORK, seed=1))


DAYS: dict[str, Callable[[], None]] = {
    "plain SimPy": plain_day,
    "reference": reference_day,
    "fast engine, all features": fast_day,
    "fast engine, bare": bare_day,
}
#: How many times as fast as the plain model.
LEAST = {"reference": 1.5, "fast engine, all features": 7, "fast engine, bare": 25}


def cpu_s(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def own_mb(field: str) -> float:
    """VmHWM (the peak) or VmRSS of this process. (getrusage's peak is inherited through exec, and so of no use.)"""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def peak_mb(engine: str) -> float:
    """Resident memory that a day adds at its peak, in a process of its own."""
    code = (
        "from tests.benchmarks import capacity as c\n"
        f"before = c.own_mb('VmRSS'); c.DAYS[{engine!r}](); print(c.own_mb('VmHWM') - before)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def plan_s() -> float:
    """15 scenarios of 30 days of 100,000 jobs, all features on, on two processes."""
    needed = 10
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        started = time.perf_counter()
        plan = cap.plan(
            FULL_WORK,
            tiers=[cap.default_tiers()[-1]],
            layout=layout,
            workers=range(needed, needed + 15),
            replications=30,
            executor=executor,
        )
        took = time.perf_counter() - started
    simulated = [scenario for scenario in plan.scenarios if scenario.utilisation < 1]
    assert len(simulated) == 15, [scenario.utilisation for scenario in plan.scenarios]
    return took


def layout(workers: int) -> cap.System:
    return cap.System(lanes=cap.System.default(workers).lanes, crashes=FULL.crashes, latency=FULL.latency)


def run(bench: Bench) -> Iterator[Row]:
    rounds = [{name: cpu_s(day) for name, day in DAYS.items()} for _ in bench.per_round()]
    for name in DAYS:
        yield row(f"{name}, CPU a day", [took[name] for took in rounds], "s")
    for name, least in LEAST.items():
        yield row(f"{name} / plain SimPy", [t["plain SimPy"] / t[name] for t in rounds], "x", at_least(least))
    for name in DAYS:
        yield row(f"{name}, memory of a day", [peak_mb(name)], "MB", at_most(150) if name in LEAST else None)
    if not bench.quick:
        before, took, after = cpu_s(plain_day), plan_s(), cpu_s(plain_day)
        yield row("plan of 15 x 30 days, two processes", [took], "s", at_most(60))
        # The budget was written down beside a plain day of 1.4 s: in that measure it holds on any machine.
        yield row("plan of 15 x 30 days / plain SimPy's day", [took / (before + after) * 2], "x", at_most(60 / 1.4))
