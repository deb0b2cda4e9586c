"""The bounds that PROTOCOL promises, measured with the real times: python -m tests.benchmarks.bounds [name ...].

Each measurement has stores of its own and prints what was promised and what was found; all of them take ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dtqkit import failpoints
from dtqkit.local import LocalStores, start_local_stores
from tests.faults import jobs
from tests.faults.check import violations
from tests.faults.work import Nursery
from tests.faults.world import World
from tests.wait import wait_until

REAL: dict[str, Any] = {"heartbeat_s": 2.0, "lease_s": 180.0, "grace_s": 5.0}
#: Commands of MongoDB that count as operations of a job.
OPERATIONS = ("find", "insert", "update", "delete", "getMore", "aggregate", "findAndModify")

Figures = dict[str, float | int | str]


def started(world: World, count: int, timeout_s: float = 60) -> None:
    wait_until(lambda: world.starts() >= count, timeout_s)


def kill_a_worker(world: World) -> Figures:
    """kill -9: its job starts elsewhere within 15 s."""
    return _kill(world, leader=False)


def kill_the_leader(world: World) -> Figures:
    """The same when it led."""
    return _kill(world, leader=True)


def _kill(world: World, *, leader: bool) -> Figures:
    world.start("w1", lanes=["low"] if leader else ["high"])
    world.wait_for_leader("w1")
    world.start("w2", lanes=["high"] if leader else ["low"])
    world.submit(lambda n: jobs.note.options(priority="low").bind(n, world.ledger, 2.0))
    started(world, 1)
    world.start("w3", lanes=["low"])
    began = time.monotonic()
    world.workers["w1" if leader else "w2"].kill()
    # It may still have been running when it was killed: only then is there a second start.
    started(world, 2)
    took = time.monotonic() - began
    world.come_to_rest(60)
    return {"promised_s": 15, "took_s": took}


def kill_and_flush(world: World) -> Figures:
    """kill -9 and FLUSHALL at once: within the lease and 75 s."""
    world.start("w1")
    world.submit(lambda n: jobs.note.bind(n, world.ledger, 5.0))
    started(world, 1)
    world.start("w2")
    began = time.monotonic()
    world.workers["w1"].kill()
    world.redis.flushall()
    started(world, 2, timeout_s=world.settings.lease_s + 120)
    took = time.monotonic() - began
    world.come_to_rest(60)
    return {"promised_s": world.settings.lease_s + 75, "took_s": took}


def lost_pop(world: World) -> Figures:
    """A pop whose reply was lost: 75 s."""
    world.start("w1")
    world.wait_for_leader()
    # The leader's first looks are over.
    wait_until(lambda: '"dead letters"' in str(world.redis.get(world.keys.rounds)), timeout_s=30)
    n = world.submit(lambda n: jobs.note.options(delay_s=5.0).bind(n, world.ledger))
    began = time.monotonic()
    # As if it had been popped: it is nowhere in Redis.
    assert world.redis.zrem(world.keys.scheduled, f"medium:{world.accepted[n]}") == 1
    started(world, 1, timeout_s=120)
    return {"promised_s": 75, "took_s": time.monotonic() - began}


def flush_with_100k(world: World) -> Figures:
    """FLUSHALL with 100,000 queued: all listed again within 10 s, and no running job started twice."""
    world.start("w1", settings={"concurrency": 20}, lanes=["high"])
    world.submit_many(lambda n: jobs.note.options(priority="high").bind(n, world.ledger, 20.0), 20)
    started(world, 20)
    for _ in range(20):
        world.submit_many(lambda n: jobs.note.options(priority="low").bind(n, world.ledger), 5_000)
    lane = world.keys.lane("low")
    assert world.redis.llen(lane) == 100_000
    began = time.monotonic()
    world.redis.flushall()
    wait_until(lambda: int(world.redis.llen(lane)) >= 100_000, timeout_s=60)  # pyright: ignore[reportArgumentType]
    took = time.monotonic() - began
    wait_until(lambda: len(world.entries("end")) == 20, timeout_s=60)
    return {"promised_s": 10, "took_s": took, "second_starts": world.starts() - 20}


def redis_away(world: World) -> Figures:
    """Redis away for 60 s and back with its data: no attempt is lost, work resumes within 5 s."""
    for name in ("w1", "w2"):
        world.start(name, settings={"concurrency": 4})
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 90.0), 4)
    started(world, 4)
    world.stores.kill_redis()
    time.sleep(60)
    n = world.submit(lambda n: jobs.note.bind(n, world.ledger))
    world.stores.restart_redis(empty=False)
    began = time.monotonic()
    wait_until(lambda: world.statuses()[n] == "completed", timeout_s=60)
    took = time.monotonic() - began
    world.come_to_rest(90)
    return {"promised_s": 5, "took_s": took, "attempts_lost": world.endings().count("lost")}


def mongodb_away(world: World) -> Figures:
    """MongoDB away for 30 s: submits are refused within 2 s, nothing is lost, work resumes within 5 s."""
    world.start("w1")
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 10.0), 4)
    started(world, 4)
    world.stores.kill_mongo()
    away = time.monotonic()
    slowest = 0.0
    while time.monotonic() < away + 30:
        began = time.monotonic()
        world.submit(lambda n: jobs.note.bind(n, world.ledger))
        slowest = max(slowest, time.monotonic() - began)
    world.stores.restart_mongo()
    back = time.monotonic()
    world.submit(lambda n: jobs.note.bind(n, world.ledger))
    # Those 4, whose ends were kept, and the new one.
    wait_until(lambda: list(world.statuses().values()).count("completed") >= 5, timeout_s=60)
    took = time.monotonic() - back
    world.come_to_rest(60)
    return {
        "promised_s": 5,
        "took_s": took,
        "promised_refusal_s": 2,
        "slowest_refusal_s": slowest,
        "refused": len(world.refused | world.unknown),
        "attempts_lost": world.endings().count("lost"),
    }


def idle(world: World) -> Figures:
    """An idle leader, and what a second idle worker adds: requests of Redis, operations of MongoDB, CPU."""
    world.start("w1")
    world.wait_for_leader("w1")
    time.sleep(5)
    alone = _cost(world, 120, "w1")
    world.start("w2")
    time.sleep(5)
    both = _cost(world, 120, "w2")
    return {
        **{f"leader_{name}": value for name, value in alone.items()},
        "worker_redis_a_s": both["redis_a_s"] - alone["redis_a_s"],
        "worker_mongodb_a_minute": both["mongodb_a_minute"] - alone["mongodb_a_minute"],
        "worker_cpu_percent": both["cpu_percent"],
        "worker_mb": both["mb"],
        "promised": "worker: < 0.5 % CPU, <= 1 request of Redis a s, no MongoDB; leader: <= 2, one a minute; <= 60 MB",
    }


def _cost(world: World, seconds: float, name: str) -> dict[str, float]:
    from tests.faults.world import resident_mb

    pid = world.workers[name].pid
    redis, mongo, cpu = _requests(world), _operations(world), _cpu_s(pid)
    time.sleep(seconds)
    return {
        "redis_a_s": round((_requests(world) - redis) / seconds, 2),
        "mongodb_a_minute": round((_operations(world) - mongo) * 60 / seconds, 2),
        "cpu_percent": round(100 * (_cpu_s(pid) - cpu) / seconds, 2),
        "mb": round(resident_mb(pid), 1),
    }


def _requests(world: World) -> int:
    """What clients asked: a script is one; the observer's own reads, and commands inside scripts, are not counted."""
    stats: Mapping[str, Any] = world.redis.info("commandstats")  # pyright: ignore[reportAssignmentType]
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval", "blpop", "client"))


def _operations(world: World) -> int:
    """Of all commands; the observer looks once a second, which is taken off."""
    commands = world.mongo.admin.command("serverStatus")["metrics"]["commands"]
    total = sum(commands.get(name, {}).get("total", 0) for name in OPERATIONS)
    return int(total) - world.observer.looks


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def failpoint(_: World) -> Figures:
    """What a failpoint costs when it is not set: ns a call."""
    import timeit

    count = 200_000
    best = min(timeit.repeat(lambda: failpoints.hit("claim", "before"), number=count, repeat=7))
    return {"ns_a_call": round(best / count * 1e9)}


MEASUREMENTS: dict[str, Callable[[World], Figures]] = {
    function.__name__: function
    for function in (
        failpoint,
        kill_a_worker,
        kill_the_leader,
        lost_pop,
        flush_with_100k,
        redis_away,
        mongodb_away,
        idle,
        kill_and_flush,
    )
}


def measure(stores: LocalStores, nursery: Nursery, name: str) -> Figures:
    # The longest one by far: its times are a tenth of the real ones.
    settings = {"heartbeat_s": 0.4, "lease_s": 18.0} if name == "kill_and_flush" else REAL
    with tempfile.TemporaryDirectory(prefix="dtqkit-") as home, World(stores, nursery, Path(home), **settings) as world:
        figures = MEASUREMENTS[name](world)
        broken = violations(world.evidence(at_rest=False)) if name not in ("failpoint", "idle") else []
    return {**figures, "violations": len(broken)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MEASUREMENTS, []])
    names = parser.parse_args().names or list(MEASUREMENTS)
    with Nursery() as nursery:
        for name in names:
            with start_local_stores() as stores:
                figures = measure(stores, nursery, name)
            print(json.dumps({"measurement": name, "about": MEASUREMENTS[name].__doc__, **figures}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
