"""The drain of one worker process, beside the peers': each installed into an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from redis import Redis

from tests.benchmarks.bench import Bench, spawned, until
from tests.benchmarks.core import drain
from tests.benchmarks.report import Row, at_least, row
from tests.benchmarks.yardstick import bare_loop

SUITE = "one worker process against celery, huey, dramatiq, taskiq, rq and bullmq, in the same minutes"

APPS = Path(__file__).parent / "peer_apps"
#: The Redis database that peers have to themselves.
DATABASE = 7
WARM_UP = 200


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """How a peer is installed and run; `{bin}` is where its environment has its programs."""

    name: str
    packages: tuple[str, ...]
    worker: tuple[str, ...]
    enqueue: tuple[str, ...]
    #: Jobs of a drain: what it can do in a few seconds.
    jobs: int
    #: How many times as fast dtqkit is to be.
    times: float | None = None

    @property
    def is_node(self) -> bool:
        return self.enqueue[0] == "node"

    def filled(self, command: tuple[str, ...], home: Path) -> list[str]:
        return [part.format(bin=home / "bin", home=home) for part in command]


def _python(name: str, packages: tuple[str, ...], worker: tuple[str, ...], jobs: int, times: float | None) -> Peer:
    script = f"import sys, {name}_app; {name}_app.enqueue(int(sys.argv[1]))"
    enqueue = ("{bin}/python", "-c", script)
    return Peer(name=name, packages=packages, worker=worker, enqueue=enqueue, jobs=jobs, times=times)


PEERS = (
    _python(
        "celery",
        ("celery[redis]", "pymongo"),
        ("{bin}/celery", "-A", "celery_app", "worker", "-P", "solo", "-l", "error"),
        1_000,
        25,
    ),
    _python("huey", ("huey", "redis"), ("{bin}/huey_consumer", "huey_app.huey", "-w", "4", "-q"), 10_000, 1.5),
    _python("dramatiq", ("dramatiq[redis]",), ("{bin}/dramatiq", "dramatiq_app", "-p", "1", "-t", "8"), 10_000, 1.5),
    _python(
        "taskiq",
        ("taskiq", "taskiq-redis"),
        ("{bin}/taskiq", "worker", "taskiq_app:broker", "-w", "1", "--log-level", "ERROR"),
        10_000,
        1.5,
    ),
    _python("rq", ("rq",), ("{bin}/rq", "worker", "-w", "rq.worker.SimpleWorker", "-q", "bench"), 500, None),
    Peer(
        name="bullmq",
        packages=("bullmq", "ioredis"),
        worker=("node", "{home}/bullmq_app.mjs", "worker"),
        enqueue=("node", "{home}/bullmq_app.mjs"),
        jobs=20_000,
    ),
)


def run(bench: Bench) -> Iterator[Row]:
    ready = [(peer, home, versions) for peer in PEERS if (found := install(bench, peer)) for home, versions in [found]]
    bare: list[float] = []
    ours: list[float] = []
    our_us: list[float] = []
    rates: dict[str, list[float]] = {peer.name: [] for peer, _, _ in ready}
    used: dict[str, list[float]] = {peer.name: [] for peer, _, _ in ready}
    for _ in bench.per_round():  # interleaved, so that a noisy minute falls on all of them
        bare.append(bare_loop(bench.stores.redis_url, bench.scaled(10_000)).pop_rate)
        drained = drain(bench, bench.scaled(20_000))
        ours.append(drained.rate)
        our_us.append(drained.worker_us)
        for peer, home, _ in ready:
            rate, us = drain_of(bench, peer, home)
            rates[peer.name].append(rate)
            used[peer.name].append(us)
    yield row("yardstick: bare BRPOP loop", bare, "/s")
    yield row("dtqkit, journaled in MongoDB", ours, "/s")
    yield row("dtqkit, worker CPU a job", our_us, "us")
    for peer, _, versions in ready:
        note = ", ".join(f"{name} {version}" for name, version in versions.items())
        yield row(peer.name, rates[peer.name], "/s", note=note)
        yield row(f"{peer.name}, worker CPU a job", used[peer.name], "us")
        ratios = [mine / theirs for mine, theirs in zip(ours, rates[peer.name], strict=True)]
        yield row(f"dtqkit / {peer.name}", ratios, "x", at_least(peer.times) if peer.times else None)


def install(bench: Bench, peer: Peer) -> tuple[Path, dict[str, str]] | None:
    """Its environment, kept for the next run, and what is in it; None, with a line that says why, when it cannot be."""
    home = bench.out.resolve() / "peers" / peer.name
    try:
        if peer.is_node:
            return home, _install_node(peer, home)
        return home, _install_python(peer, home)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"  {peer.name} is left out: it could not be installed ({error})", flush=True)
        return None


def _install_python(peer: Peer, home: Path) -> dict[str, str]:
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *peer.packages], check=True)
        (home / "complete").touch()
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True)
    names = {package.partition("[")[0] for package in peer.packages} | {"redis"}
    return {p["name"]: p["version"] for p in json.loads(listed.stdout) if p["name"].lower() in names}


def _install_node(peer: Peer, home: Path) -> dict[str, str]:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise FileNotFoundError("there is no node and npm on PATH")
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(APPS / "bullmq_app.mjs", home)
    if not (home / "node_modules").exists():
        subprocess.run(["npm", "install", "--silent", *peer.packages], cwd=home, check=True)
    versions = {n: json.loads((home / "node_modules" / n / "package.json").read_text()) for n in peer.packages}
    return {name: about["version"] for name, about in versions.items()}


def drain_of(bench: Bench, peer: Peer, home: Path) -> tuple[float, float]:
    """Jobs a second, and CPU in µs a job of the worker with its processes."""
    url = bench.stores.redis_url.removesuffix("/0") + f"/{DATABASE}"
    env = {
        **os.environ,
        "BENCH_REDIS": url,
        "RQ_REDIS_URL": url,
        "BENCH_MONGO": bench.stores.atlas_uri,
        "PYTHONPATH": str(APPS),
    }
    jobs = bench.scaled(peer.jobs)
    with Redis.from_url(url) as redis:
        redis.flushdb()  # ours alone: these servers are the benchmark's

        def enqueue(count: int) -> None:
            subprocess.run([*peer.filled(peer.enqueue, home), str(count)], env=env, check=True, cwd=APPS)

        def done() -> bool:
            return bool(redis.exists("done"))

        log = bench.out / "logs" / f"{peer.name}.log"
        with spawned(peer.filled(peer.worker, home), env, log, cwd=APPS) as process:
            enqueue(WARM_UP)
            until(done, 60)
            redis.delete("done")
            with process.held():
                enqueue(jobs)
                before = process.cpu_s(with_children=True)
                started = time.perf_counter()
            until(done, 300, every_s=0.005)
            took_s = time.perf_counter() - started
            used = process.cpu_s(with_children=True) - before
        redis.flushdb()
    bench.mongo.drop_database("bench_celery")
    return jobs / took_s, used / jobs * 1e6
