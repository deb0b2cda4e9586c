"""Workers and clients of the fault tests, forked from one process that has imported everything: a start costs little.

It reads an order a line (JSON: arguments, environ, log), forks, and answers with the pid. When its input ends, all
that it started ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from dtqkit import Priority, Settings, TaskQueue
from dtqkit.run.process import work
from tests.faults import jobs
from tests.faults.naive import NAIVE

ROOT = Path(__file__).parents[2]


async def work_until_stopped(argv: Sequence[str]) -> None:
    """One worker, with its settings from the environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--lanes", required=True)
    parser.add_argument("--tasks", required=True, help="modules")
    parser.add_argument("--naive", default="", choices=["", *NAIVE], help="a mutation that must be noticed")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    if arguments.naive:
        NAIVE[arguments.naive]()
    settings = Settings.from_env(os.environ)
    queue = TaskQueue(settings)
    for module in arguments.tasks.split(","):
        queue.include(module)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    lanes = cast("list[Priority]", arguments.lanes.split(","))
    await work(settings, queue.registry, name=arguments.name, lanes=lanes, stop=stop)


def be_client(argv: Sequence[str]) -> None:
    """A client that does one thing to one job: it may be killed on its way."""
    what, job, n, ledger = argv
    with TaskQueue(Settings.from_env(os.environ)) as queue:
        queue.include("tests.faults.jobs")
        match what:
            case "submit":
                queue.submit_call(jobs.note.bind(int(n), ledger))
            case "submit unique":
                queue.submit_call(jobs.note.options(unique="waiting").bind(int(n), ledger))
            case "cancel":
                queue.get(job).cancel()
            case "requeue":
                queue.get(job).requeue()
            case _:
                raise ValueError(what)


class Nursery:
    """Starts worker processes; from `with` to its end."""

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
        )
        return self

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
        """The pid of a new process, whose log goes to `log`."""
        orders, answers = cast("tuple[IO[bytes], IO[bytes]]", (self._process.stdin, self._process.stdout))
        order = {"arguments": list(arguments), "environ": dict(environ), "log": str(log)}
        with self._lock:
            orders.write(json.dumps(order).encode() + b"\n")
            orders.flush()
            return int(answers.readline())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


def run(order: dict[str, Any]) -> None:
    """In the forked process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for descriptor, place in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, place)
    os.environ.clear()
    os.environ.update(order["environ"])
    role, *arguments = order["arguments"]
    if role == "worker":
        asyncio.run(work_until_stopped(arguments))
    else:
        be_client(arguments)


def nursery() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    started: list[int] = []
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                run(json.loads(line))
                status = 0
            except BaseException:
                logging.getLogger("tests").exception("this process ends")
            finally:
                os._exit(status)
        started.append(pid)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    for pid in started:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    nursery()
