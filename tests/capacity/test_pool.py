"""The processes of a simulation: as many as fit into memory; they end with their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

import dtqkit.capacity as cap
from dtqkit.capacity import machine, pool
from dtqkit.capacity.simulate import quiet
from tests.command import ROOT, descendants, environment, living
from tests.wait import wait_until

WORK = cap.Workload(jobs_per_day=2000, service=cap.Lognormal(mean=5, scv=1))
LONG = ["simulate", "--jobs-per-day", "600000", "--workers", "150", "--replications", "100"]
CORES = "from dtqkit.capacity import machine; machine._schedulable = lambda: {cores}; "


@contextmanager
def long_simulation(log: Path, cores: int = 2) -> Iterator[subprocess.Popen[bytes]]:
    """`dtqkit simulate` on a machine with this many cores, for some minutes."""
    program = CORES.format(cores=cores) + "from dtqkit.__main__ import main; main()"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-c", program, *LONG], env=environment(), cwd=ROOT, stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def pool_of(process: subprocess.Popen[bytes]) -> set[int]:
    """Its processes, once they simulate, without multiprocessing's resource tracker."""

    def working() -> set[int]:
        return {pid for pid in descendants(process.pid) if resident(pid) > 180 << 20}

    return wait_until(lambda: found if len(found := working()) == 2 else None, timeout_s=60) or set()


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
def test_a_killed_process_ends_the_command_in_one_line_and_status_1(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with long_simulation(log) as command:
        found = pool_of(command)
        os.kill(min(found), signal.SIGKILL)
        assert command.wait(20) == 1
        wait_until(lambda: not living(found))
    assert log.read_text().startswith("dtqkit: a process of the simulation was killed")
    assert log.read_text().count("\n") == 1


@linux
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_a_signal_to_the_command_ends_it_and_its_processes_at_once(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    log = tmp_path / "log"
    with long_simulation(log) as command:
        found = pool_of(command)
        command.send_signal(number)
        assert command.wait(10) == status
        wait_until(lambda: not living(found))
    assert "Traceback" not in log.read_text()


@linux
def test_on_one_core_the_command_does_the_work_itself(tmp_path: Path) -> None:
    with long_simulation(tmp_path / "log", cores=1) as command:
        wait_until(lambda: processor_s(command.pid) > 6, timeout_s=60)
        assert descendants(command.pid) == set()
        command.send_signal(signal.SIGINT)
        assert command.wait(10) == 130


def processor_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_processes_give_the_same_result_as_this_one() -> None:
    with pool.processes(2) as executor:
        assert executor is not None
        system = cap.System.default(3)
        there = cap.simulate(system, WORK, replications=3, executor=executor, progress=quiet)
    assert str(there.wait) == str(cap.simulate(system, WORK, replications=3, progress=quiet).wait)


@pytest.mark.parametrize(
    "error", [OSError(38, "Function not implemented"), ImportError("no sem_open"), NotImplementedError()]
)
def test_where_no_process_can_be_started_this_one_does_the_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refused(*_args: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(pool, "ProcessPoolExecutor", refused)
    with pool.processes(2) as executor:
        assert executor is None
    assert "no processes can be started here" in caplog.text


def test_where_processes_die_as_they_start_this_one_does_the_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "_end_with_parent", os.abort)
    with pool.processes(2) as executor:
        assert executor is None
    assert caplog.text.count("simulating in this one") == 1


def test_a_killed_process_raises_simulation_failed() -> None:
    with pool.processes(2) as executor:
        assert executor is not None
        doomed: Future[None] = executor.submit(os._exit, 9)
        wait_until(doomed.done)
        with pytest.raises(cap.SimulationFailed, match="a process of the simulation was killed"):
            cap.simulate(cap.System.default(3), WORK, executor=executor, progress=quiet)


def test_a_pool_of_one_process_starts_none() -> None:
    before = threading.active_count()
    with pool.processes(1) as executor:
        assert executor is None
        assert threading.active_count() == before
    assert machine.cores() >= 1
