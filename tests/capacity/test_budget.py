"""A simulation that does not fit into memory is refused before it starts, in one line."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

import dtqkit.capacity as cap
from dtqkit.capacity import budget, machine
from dtqkit.capacity.sensitivity import sensitivity
from dtqkit.capacity.simulate import quiet, replicate

simulate_module = importlib.import_module("dtqkit.capacity.simulate")  # its name in the package is the function's

GB = 1 << 30
WORK = cap.Workload(jobs_per_day=20_000, service=cap.Lognormal(mean=5, scv=1))
LARGE = WORK.scaled(jobs_per_day=1e8)

SYSTEM = cap.System.default(4)


@pytest.mark.parametrize(
    ("system", "change", "engine", "backlog"),
    [
        (SYSTEM, {}, "fast", 0),
        (SYSTEM, {}, "reference", 0),
        (SYSTEM, {}, "fast", 8_000),
        (SYSTEM, {"profile": cap.HourOfDay.swing(1, 12)}, "fast", 0),
        (SYSTEM, {"failure_probability": 0.3}, "fast", 0),
        (cap.System.default(9), {"failure_probability": 0.9}, "fast", 0),
        (replace(SYSTEM, crashes=cap.Crashes(mtbf_s=3600.0)), {}, "fast", 0),
        (cap.System.default(1), {}, "fast", 0),  # which cannot keep up
    ],
)
def test_the_memory_of_a_replication_is_estimated_before_it_runs(
    system: cap.System, change: dict[str, Any], engine: str, backlog: int
) -> None:
    work = replace(WORK, jobs_per_day=8_000, service=cap.Lognormal(mean=15, scv=1), **change)
    waiting = {"low": backlog}
    need = budget.need_of(system, work, 86_400, engine=engine, backlog=waiting)
    replicate(system, WORK.scaled(jobs_per_day=100), 86_400, 1, None, engine, 0)  # fills caches
    tracemalloc.start()
    try:
        kept = replicate(system, work, 86_400, 1, waiting, engine, 0)
        _, peak = tracemalloc.get_traced_memory()
        gc.collect()
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept.wait)
    assert 1.0 <= need.running / peak < 2
    assert 0.9 <= need.kept / now < 1.3


def available(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: size)


def refuse_all(*_args: object) -> None:
    raise AssertionError("something was simulated")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: cap.simulate(cap.System.default(20_000), LARGE),
        lambda: cap.simulate(cap.System.default(3), WORK, backlog={"low": 10**9}),
        lambda: cap.simulate(cap.System.default(3), WORK, horizon="9999w"),
        lambda: cap.simulate(cap.System.default(3), WORK, replications=10**9),
        lambda: cap.simulate(cap.System.default(10**9), WORK),
        lambda: cap.simulate(cap.System(slots_per_worker=10**9), WORK),
        lambda: cap.simulate(cap.System(autoscale=cap.Autoscale(max_workers=10**9)), WORK),
        lambda: cap.simulate(cap.System.default(3), WORK.scaled(jobs_per_day=1e307)),
        lambda: cap.compare(cap.System.default(20_000), cap.System.default(20_001), LARGE),
        lambda: cap.plan(LARGE),
        lambda: cap.plan(WORK, replications=10**9),
        lambda: sensitivity(LARGE, cap.System.default, 20_000, cap.SLO()),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_simulated(
    ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    available(monkeypatch, GB)
    monkeypatch.setattr(simulate_module, "replicate", refuse_all)
    with pytest.raises(
        cap.SimulationFailed, match=r"would take about [\d.e+,]+ GB of memory, but .* are available"
    ) as error:
        ask()
    assert "\n" not in str(error.value)
    assert "It fits with" in str(error.value)


@pytest.mark.parametrize("horizon_s", [86_400.0, 7 * 86_400.0])
def test_what_the_error_proposes_fits(monkeypatch: pytest.MonkeyPatch, horizon_s: float) -> None:
    available(monkeypatch, GB)
    system, work = cap.System.default(20_000), LARGE
    need = budget.need_of(system, work, horizon_s)
    with pytest.raises(cap.SimulationFailed) as error:
        budget.afford(need, work, 10, horizon_s=horizon_s)
    rate = float(str(error.value).rpartition("at most ")[2].removesuffix(" jobs a day").replace(",", ""))
    smaller = work.scaled(jobs_per_day=rate)
    assert budget.afford(budget.need_of(system, smaller, horizon_s), smaller, 10) == 1

    available(monkeypatch, GB // 2)
    need = budget.need_of(cap.System.default(3), WORK, horizon_s)
    with pytest.raises(cap.SimulationFailed) as error:
        budget.afford(need, WORK, 100_000)
    most = int(str(error.value).rpartition("at most ")[2].removesuffix(" replications").replace(",", ""))
    assert budget.afford(need, WORK, most) >= 1


def test_no_more_replications_run_at_a_time_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    need = budget.need_of(cap.System.default(3), WORK, 86_400.0)
    available(monkeypatch, int((2.5 * (need.running + budget.PROCESS_BYTES) + need.total(6)) / budget.SHARE))
    running, most, lock = set[int](), [0], threading.Lock()

    def watched(*args: object) -> object:
        with lock:
            running.add(threading.get_ident())
            most[0] = max(most[0], len(running))
        try:
            return replicate(*args)  # pyright: ignore[reportArgumentType] - passed through
        finally:
            with lock:
                running.discard(threading.get_ident())

    monkeypatch.setattr(simulate_module, "replicate", watched)
    with ThreadPoolExecutor(6) as executor:
        result = cap.simulate(cap.System.default(3), WORK, replications=6, executor=executor, progress=quiet)
    assert most == [2]
    alone = cap.simulate(cap.System.default(3), WORK, replications=6, progress=quiet)
    assert str(result.wait) == str(alone.wait)


def test_more_replications_for_a_narrow_interval_are_within_the_budget_too(monkeypatch: pytest.MonkeyPatch) -> None:
    need = budget.need_of(cap.System.default(3), WORK, 86_400.0)
    available(monkeypatch, int((need.total(3) + need.kept) / budget.SHARE))
    with pytest.raises(cap.SimulationFailed, match="It fits with at most"):
        cap.simulate(cap.System.default(3), WORK, replications=3, relative_half_width=1e-6, progress=quiet)


def test_running_out_of_memory_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(simulate_module, "replicate", fail)
    with pytest.raises(cap.SimulationFailed, match="memory ran out"):
        cap.simulate(cap.System.default(3), WORK, progress=quiet)


def test_explore_shows_that_the_values_of_the_sliders_do_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = cap.explore(replace(WORK, profile=cap.HourOfDay.swing(0.5, 12)))
    available(monkeypatch, 1 << 20)
    explorer.update()
    assert "It fits with" in explorer.report.value


@pytest.mark.parametrize("command", ["plan", "simulate"])
@pytest.mark.parametrize("given", [["--jobs-per-day", "1e8"], ["--jobs-per-day", "100", "--replications", "999999999"]])
def test_the_command_line_refuses_in_one_line_and_with_status_1(command: str, given: list[str]) -> None:
    done = limited(3 * GB, command, *given)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("dtqkit: ")
    assert "It fits with" in done.stderr
    assert ("horizon" in done.stderr) == (command == "simulate" and "1e8" in given)


def limited(size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command with an address space of `size` bytes."""
    program = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({size}, {size})); "
        "from dtqkit.__main__ import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_a_command_without_much_memory_does_what_fits() -> None:
    assert limited(3 * GB, "simulate", "--jobs-per-day", "20000", "--replications", "2", "--json").returncode == 0
