"""The capacity model's speed and memory: `python -m tests.benchmarks.capacity [FILE.json]`

Ratios are within one run, rounds interleaved, against plain_simpy.py: the same full-feature day written in SimPy the
obvious way. CPU seconds of this process; a day is 100,000 jobs. The plan is wall time on two processes.
"""

import json
import multiprocessing
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import simpy

import dtqkit.capacity as cap
from dtqkit.capacity import fast, reference
from dtqkit.capacity.draws import Draws
from tests.benchmarks.plain_simpy import PlainModel

JOBS, ROUNDS = 100_000, 5
FULL_WORK = cap.Workload(JOBS, cap.Lognormal(8, 1), failure_probability=0.03)
FULL = cap.System(
    lanes={"high": 4, "medium": 4, "low": 5},
    crashes=cap.Crashes(mtbf_s=21_600, mttr_s=60, detection_s=15),
    latency=cap.Latency(0.01, 0.01, 0.01),
)
BARE_WORK = cap.Workload(JOBS, cap.Lognormal(8, 1), mix={"low": 1.0})
BARE = cap.System(lanes={"shared": 13})

BUDGETS = {
    "reference, times the plain model": 1.5,
    "fast engine with all features, times": 7.0,
    "fast engine bare, times": 25.0,
}


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
    "fast": fast_day,
    "fast, bare": bare_day,
}


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


def run(*, with_plan: bool = True) -> dict[str, object]:
    rounds = [{name: cpu_s(day) for name, day in DAYS.items()} for _ in range(ROUNDS)]
    of_plain = {
        budget: median(round_["plain SimPy"] / round_[name] for round_ in rounds)
        for budget, name in zip(BUDGETS, ("reference", "fast", "fast, bare"), strict=True)
    }
    return {
        "python": platform.python_version(),
        "simpy": simpy.__version__,
        "cpu_s": {name: median(round_[name] for round_ in rounds) for name in DAYS},
        "ratios": of_plain,
        "budgets": BUDGETS,
        "peak_mb": {name: peak_mb(name) for name in DAYS},
        "plan_s": plan_s() if with_plan else None,
        "rounds": rounds,
    }


def main() -> dict[str, object]:
    found = run()
    for name, seconds in found["cpu_s"].items():  # pyright: ignore[reportAttributeAccessIssue]
        print(f"{name:<40} {seconds:6.3f} CPU s a day, {found['peak_mb'][name]:5.0f} MB")  # pyright: ignore[reportIndexIssue]
    for name, ratio in found["ratios"].items():  # pyright: ignore[reportAttributeAccessIssue]
        print(f"{name:<40} {ratio:6.1f}   (budget {BUDGETS[name]})")
    print(f"{'plan, 15 x 30 days, two processes':<40} {found['plan_s']:6.1f} s (budget 60)")
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("bench-out/capacity.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2))
    return found


if __name__ == "__main__":
    main()
