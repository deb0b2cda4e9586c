"""The bounds that README promises, measured with the real times. Each measurement has stores of its own."""

from __future__ import annotations

import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dtqkit.local import start_local_stores
from dtqkit.model import failpoints
from tests.benchmarks.bench import Bench
from tests.benchmarks.report import Row, at_most, row
from tests.faults import jobs
from tests.faults.check import violations
from tests.faults.work import Nursery
from tests.faults.world import World
from tests.wait import wait_until

SUITE = "what recovery promises, measured with the real times (ten minutes)"

REAL: dict[str, Any] = {"heartbeat_s": 2.0, "lease_s": 180.0, "grace_s": 5.0}
#: The longest by far is measured with times that are a tenth of the real ones.
TENTH: dict[str, Any] = {"heartbeat_s": 0.4, "lease_s": 18.0, "grace_s": 5.0}


def started(world: World, count: int, timeout_s: float = 60) -> None:
    wait_until(lambda: world.starts() >= count, timeout_s)


def kill_a_worker(world: World) -> Iterator[Row]:
    """A worker is killed: its job starts elsewhere."""
    yield row("kill -9 of a worker: its job starts elsewhere", [_kill(world, leader=False)], "s", at_most(15))


def kill_the_leader(world: World) -> Iterator[Row]:
    """The same when it led."""
    yield row("kill -9 of the leader: its job starts elsewhere", [_kill(world, leader=True)], "s", at_most(15))


def _kill(world: World, *, leader: bool) -> float:
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
    return took


def kill_and_flush(world: World) -> Iterator[Row]:
    """Both at once: only the law is left."""
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
    what = "kill -9 and FLUSHALL at once, a tenth of the real times: its job starts elsewhere"
    yield row(what, [took], "s", at_most(world.settings.lease_s + 7.5))


def lost_pop(world: World) -> Iterator[Row]:
    """An id that is nowhere in Redis is listed again."""
    world.start("w1")
    world.wait_for_leader()
    # The leader's first looks are over.
    wait_until(lambda: '"dead letters"' in str(world.redis.get(world.keys.rounds)), timeout_s=30)
    n = world.submit(lambda n: jobs.note.options(delay_s=5.0).bind(n, world.ledger))
    began = time.monotonic()
    # As if it had been popped: it is nowhere in Redis.
    assert world.redis.zrem(world.keys.scheduled, f"medium:{world.accepted[n]}") == 1
    started(world, 1, timeout_s=120)
    yield row("a pop whose reply was lost: its job starts", [time.monotonic() - began], "s", at_most(75))


def flush_with_100k(world: World) -> Iterator[Row]:
    """All are listed again, and no running job is started twice."""
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
    yield row("FLUSHALL with 100,000 queued: all listed again", [took], "s", at_most(10))
    yield row("FLUSHALL with 100,000 queued: second starts of 20 running jobs", [world.starts() - 20], "", at_most(0))


def redis_away(world: World) -> Iterator[Row]:
    """Back with its data: no attempt is lost, and work resumes."""
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
    yield row("Redis away for 60 s: work resumes", [took], "s", at_most(5))
    yield row("Redis away for 60 s: attempts lost", [world.endings().count("lost")], "", at_most(0))


def mongodb_away(world: World) -> Iterator[Row]:
    """Submits are refused soon, nothing is lost, and work resumes."""
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
    refused = f"{len(world.refused | world.unknown)} submits were refused"
    yield row("MongoDB away for 30 s: work resumes", [took], "s", at_most(5), note=refused)
    yield row("MongoDB away for 30 s: slowest refusal", [slowest], "s", at_most(2))
    yield row("MongoDB away for 30 s: attempts lost", [world.endings().count("lost")], "", at_most(0))


def failpoint() -> Row:
    """What a failpoint costs when it is not set."""
    count = 200_000
    runs = timeit.repeat(lambda: failpoints.hit("claim", "before"), number=count, repeat=7)
    return row("a failpoint that is not set", [run / count * 1e9 for run in runs], "ns")


MEASUREMENTS: tuple[Callable[[World], Iterator[Row]], ...] = (
    kill_a_worker,
    kill_the_leader,
    lost_pop,
    flush_with_100k,
    redis_away,
    mongodb_away,
    kill_and_flush,
)


def run(bench: Bench) -> Iterator[Row]:
    yield failpoint()
    broken = 0
    with Nursery() as nursery:
        for measure in MEASUREMENTS[:1] if bench.quick else MEASUREMENTS:
            times = TENTH if measure is kill_and_flush else REAL
            with (
                start_local_stores() as stores,
                tempfile.TemporaryDirectory(prefix="dtqkit-") as home,
                World(stores, nursery, Path(home), **times) as world,
            ):
                yield from measure(world)
                broken += len(violations(world.evidence(at_rest=False)))
    yield row("violations of the invariants in all of these", [broken], "", at_most(0))
