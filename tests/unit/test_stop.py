"""Which signals are one request to stop, and which are a second one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from signal import SIGINT, SIGTERM
from types import SimpleNamespace
from typing import Any

import pytest

from dtqkit import Settings
from dtqkit.cli import busy, worker
from dtqkit.cli.reload import Restarter
from dtqkit.cli.stop import SIGNALS, StopRequests, end_now


def answers(*signals: tuple[float, int], supervised: bool = False) -> list[str]:
    times = iter([at for at, _ in signals])
    requests = StopRequests(supervised=supervised, clock=lambda: next(times))
    return [requests.on(number) for _, number in signals]


@pytest.mark.parametrize(
    ("signals", "last"),
    [
        ([(0.0, SIGTERM), (4.9, SIGTERM)], "same"),  # the host's and the supervisor's
        ([(0.0, SIGINT), (0.2, SIGINT)], "same"),  # the terminal's and the parent's
        ([(0.0, SIGTERM), (0.2, SIGINT)], "same"),
        ([(0.0, SIGINT), (3.0, SIGTERM)], "same"),  # the terminal's and the supervisor's
        ([(0.0, SIGTERM), (3.0, SIGTERM), (4.0, SIGTERM)], "same"),
        ([(0.0, SIGINT), (0.5, SIGINT)], "again"),  # a person's second, or a slow parent's
        ([(0.0, SIGINT), (0.01, SIGINT), (0.5, SIGINT)], "again"),
        ([(0.0, SIGINT), (0.5, SIGINT), (0.6, SIGINT)], "same"),  # the parent's of that
        ([(0.0, SIGTERM), (5.1, SIGTERM)], "at once"),
        ([(0.0, SIGINT), (1.5, SIGINT)], "at once"),
        ([(0.0, SIGINT), (0.4, SIGINT), (0.8, SIGINT)], "at once"),  # after the answer
        ([(0.0, SIGINT), (0.01, SIGINT), (1.1, SIGINT)], "at once"),
        ([(0.0, SIGTERM), (3.0, SIGTERM), (6.0, SIGTERM)], "at once"),
    ],
)
def test_signals_that_come_together_are_one_request(signals: list[tuple[float, int]], last: str) -> None:
    first, *_, final = answers(*signals)
    assert (first, final) == ("stop", last)


def test_a_supervised_process_leaves_it_to_its_supervisor_when_to_stop_at_once() -> None:
    assert answers((0.0, SIGTERM), (60.0, SIGTERM), supervised=True) == ["stop", "same"]


def test_a_signal_after_a_worker_has_stopped_ends_the_process_before_it_becomes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def no_work(*_: object) -> None:
        pass

    monkeypatch.setattr(worker, "_work_when_stores_answer", no_work)
    before = {number: signal.getsignal(number) for number in SIGNALS}

    async def works() -> None:
        stop = asyncio.Event()
        place: Any = SimpleNamespace(owner=None, queue=SimpleNamespace(settings=Settings()))
        leaving = worker.Leaving(Settings())
        restarter = Restarter("shop:queue", stop, lambda: leaving.busy)
        await worker._work(place, stop, restarter, leaving, reload=False)

    try:
        asyncio.run(works())
        assert {signal.getsignal(number) for number in SIGNALS} == {end_now}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_that_comes_when_all_has_stopped_changes_no_exit_status() -> None:
    program = (
        "import os, signal\n"
        "from dtqkit.cli.stop import StopSignal\n"
        "stop = StopSignal()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "assert stop.wait(1.0)\n"
        "stop.over()\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, us=os.getpid(), number=signal.SIGINT):\n"
        "        kill(us, number)\n"
        "late = Late()\n"  # goes when the interpreter ends, after Python has taken its handlers away
        "late.itself = late\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_workers_are_asked_to_stop_before_the_stores_are_asked_what_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    async def running(_settings: object, pids: frozenset[int]) -> int:
        asked.append(pids)
        return 3

    monkeypatch.setattr(busy, "_running", running)
    supervisor: Any = SimpleNamespace(pids=[7], ask_to_stop=lambda: asked.append("stop"))
    assert busy.stop_workers(supervisor, Settings()) == 3
    assert asked == ["stop", {7}]
