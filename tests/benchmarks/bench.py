"""What suites run on: real servers, worker processes, and the counters of both."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from redis import Redis

from dtqkit import Settings
from dtqkit.local import LocalStores, start_local_stores
from dtqkit.run.supervisor import environment_of

APP = "tests.benchmarks.app:queue"
#: Operations that MongoDB bills and that a server can serve only so many of.
OPERATIONS = ("find", "insert", "update", "delete", "getMore", "aggregate", "findAndModify")


class Bench:
    """The servers of one run, and how thorough it is."""

    def __init__(self, stores: LocalStores, out: Path, *, quick: bool, rounds: int) -> None:
        self.stores = stores
        self.out = out
        #: Few and small: to see that it works, not to be quoted.
        self.quick = quick
        self.rounds = rounds
        self.redis = Redis.from_url(stores.redis_url, decode_responses=True)
        self.mongo: MongoClient[dict[str, Any]] = MongoClient(stores.atlas_uri)

    def scaled(self, n: int) -> int:
        """`n`, or a tenth of it in a quick run."""
        return max(1, n // 10) if self.quick else n

    def per_round(self) -> Iterator[int]:
        return iter(range(self.rounds))

    @contextmanager
    def settings(self, **changes: Any) -> Generator[Settings]:
        """Settings with a namespace of their own; what was stored under it is dropped afterwards."""
        settings = Settings(
            redis_url=self.stores.redis_url,
            atlas_uri=self.stores.atlas_uri,
            namespace=f"b{secrets.token_hex(4)}",
        ).replace(**changes)
        try:
            yield settings
        finally:
            self.mongo.drop_database(settings.database_name)
            if keys := [str(k) for k in self.redis.scan_iter(match=f"{settings.namespace}:*", count=1000)]:
                self.redis.delete(*keys)

    def operations(self) -> dict[str, int]:
        """How often mongod has been asked for each of OPERATIONS since it started."""
        commands = self.mongo.admin.command("serverStatus", repl=0, wiredTiger=0)["metrics"]["commands"]
        return {name: int(commands[name]["total"]) for name in OPERATIONS}

    def cpu_s(self, name: str) -> float:
        """CPU seconds that one of the two servers (`redis`, `mongod`) has used."""
        return cpu_s(psutil.Process(self.stores.pids[name]))

    def close(self) -> None:
        self.redis.close()
        self.mongo.close()


@contextmanager
def servers(out: Path, *, quick: bool, rounds: int) -> Generator[Bench]:
    """A Bench on servers of its own."""
    with start_local_stores() as stores:
        bench = Bench(stores, out, quick=quick, rounds=rounds)
        try:
            yield bench
        finally:
            bench.close()


class WorkerProcess:
    """A worker in a process of its own, which can be held still while jobs are enqueued."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._seen = psutil.Process(process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self, *, with_children: bool = False) -> float:
        """CPU seconds of its own, or of all processes that it has started and that live, too."""
        children = self._seen.children(recursive=True) if with_children else []
        return sum(cpu_s(process) for process in (self._seen, *children))

    def rss_mb(self) -> float:
        """Resident memory of its own, without its children's."""
        return self._seen.memory_info().rss / 1e6

    @contextmanager
    def held(self) -> Generator[None]:
        """It stands still meanwhile."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)


@contextmanager
def spawned(arguments: list[str], env: dict[str, str], log: Path, cwd: Path | None = None) -> Generator[WorkerProcess]:
    """A process that is ended, with all that it has started, when the block ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=cwd
        )
        try:
            yield WorkerProcess(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def worker(bench: Bench, settings: Settings, name: str = "worker-1") -> Generator[WorkerProcess]:
    """`dtqkit worker` on the benchmarks' tasks, up and beating."""
    before = bench.redis.zcard(f"{settings.namespace}:workers")
    arguments = [sys.executable, "-m", "dtqkit", "worker", APP, "--name", name]
    env = {**os.environ, **environment_of(settings)}
    with spawned(arguments, env, bench.out / "logs" / f"{name}.log") as process:
        until(lambda: bench.redis.zcard(f"{settings.namespace}:workers") != before, 30)
        yield process


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def until(condition: Callable[[], object], timeout_s: float, every_s: float = 0.02) -> None:
    """Wait until `condition` is true. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s")
        time.sleep(every_s)
