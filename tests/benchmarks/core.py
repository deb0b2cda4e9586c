"""The budgets that need no server: submit, drain, pick-up, memory, operations, idleness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import redis as redis_py

from dtqkit import AsyncTaskQueue, JobHandle, Settings, TaskQueue
from dtqkit.model.events import decode_batch
from dtqkit.model.jobs import TERMINAL
from tests.benchmarks import app
from tests.benchmarks.bench import Bench, WorkerProcess, until, worker
from tests.benchmarks.report import Row, at_least, at_most, quantile, row
from tests.benchmarks.yardstick import Bare, bare_loop, two_writes

SUITE = "submit, drain, pick-up, memory and idleness of the core, beside a bare Redis loop"

#: Jobs of one drain, of one map; single submits that run at a time; pick-ups of a kind.
DRAIN = 20_000
MAP = 20_000
SUBMITTERS = 64
PICKUPS = 200
#: How long an idle worker is watched, in seconds.
WATCHED_S = 40


def run(bench: Bench) -> Iterator[Row]:
    bare: list[Bare] = []
    drains: list[Drain] = []
    maps: list[tuple[float, float]] = []
    groups: list[float] = []
    for _ in bench.per_round():  # interleaved, so that a noisy minute falls on all of them
        bare.append(bare_loop(bench.stores.redis_url, bench.scaled(10_000)))
        drains.append(drain(bench, bench.scaled(DRAIN)))
        maps.append(bulk(bench, bench.scaled(MAP)))
        groups.append(grouped(bench, bench.scaled(100)))
    yield row("yardstick: bare BRPOP loop, rate", [b.pop_rate for b in bare], "/s")
    yield row("yardstick: bare BRPOP loop, CPU a job", [b.pop_us for b in bare], "us")
    yield row("drain, worker CPU a no-op async job", [d.worker_us for d in drains], "us", at_most(100))
    yield row("drain, one worker process", [d.rate for d in drains], "/s")
    yield row("drain / bare BRPOP loop", [d.rate / b.pop_rate for d, b in zip(drains, bare, strict=True)], "x")
    yield row("drain, redis CPU a job", [d.redis_us for d in drains], "us")
    yield row("drain, mongod CPU a job", [d.mongod_us for d in drains], "us")
    yield row(f"map of {bench.scaled(MAP):,}, journaled", [rate for rate, _ in maps], "/s", at_least(30_000))
    yield row(f"map of {bench.scaled(MAP):,}, CPU a job", [us for _, us in maps], "us", at_most(20))
    yield row(f"{SUBMITTERS} concurrent submits", groups, "/s", at_least(5_000))
    yield from memory(bench)
    with bench.settings(concurrency=8) as settings, worker(bench, settings) as alone:
        yield from idle(bench, settings, alone)
        yield from pick_up(bench, settings)
        yield from operations(bench, settings)


class Drain(msgspec.Struct, frozen=True):
    """Jobs a second, and CPU in µs a job of the three processes."""

    rate: float
    worker_us: float
    redis_us: float
    mongod_us: float


def drain(bench: Bench, jobs: int) -> Drain:
    """Enqueue while the worker stands still; then let it run, until the record has all of them as completed."""
    with (
        bench.settings(concurrency=200) as settings,
        TaskQueue(settings) as queue,
        worker(bench, settings) as process,
    ):
        queue.add(app.noop)
        app.noop.map(range(500)).results(timeout=60)  # warm
        stored = bench.mongo[settings.database_name]["jobs"]
        with process.held():
            app.noop.map(range(jobs))
            before = (process.cpu_s(), bench.cpu_s("redis"), bench.cpu_s("mongod"))
            started = time.perf_counter()
        # Asked cheaply, since mongod is what a drain waits for.
        left = {"status": {"$in": ["pending", "running"]}}
        until(lambda: stored.find_one(left, {"_id": 1}) is None, 120)
        took_s = time.perf_counter() - started
        assert stored.count_documents({"status": "completed"}) == jobs + 500
        after = (process.cpu_s(), bench.cpu_s("redis"), bench.cpu_s("mongod"))
        used = [(b - a) / jobs * 1e6 for a, b in zip(before, after, strict=True)]
        return Drain(jobs / took_s, *used)


def bulk(bench: Bench, jobs: int) -> tuple[float, float]:
    """Jobs a second and CPU in µs a job of the submitting process, for one `map`."""
    with bench.settings() as settings, TaskQueue(settings) as queue:
        queue.add(app.noop)
        app.noop.map(range(100))  # connected, and the collection made
        started, cpu = time.perf_counter(), time.process_time()
        submitted = app.noop.map(range(jobs))
        used, took = time.process_time() - cpu, time.perf_counter() - started
        assert len(submitted) == jobs
        return jobs / took, used / jobs * 1e6


def grouped(bench: Bench, each: int) -> float:
    """Jobs a second of SUBMITTERS coroutines that each submit one job after the other."""

    async def measure(settings: Settings) -> float:
        async with AsyncTaskQueue(settings) as queue:

            async def submit() -> None:
                for n in range(each):
                    await queue.submit(app.noop, n)

            await queue.submit(app.noop)
            started = time.perf_counter()
            await asyncio.gather(*(submit() for _ in range(SUBMITTERS)))
            return SUBMITTERS * each / (time.perf_counter() - started)

    with bench.settings() as settings:
        return asyncio.run(measure(settings))


def memory(bench: Bench) -> Iterator[Row]:
    """Redis memory a job, by MEMORY USAGE of the keys that hold them."""
    jobs = bench.scaled(20_000)
    with bench.settings() as settings, TaskQueue(settings) as queue:
        queue.add(app.noop)
        app.noop.map(range(jobs))
        app.noop.options(delay_s=3600).map(range(jobs))
        for what, key, limit in (("waiting", "queue:medium", 32), ("scheduled", "queue:scheduled", 140)):
            used = bench.redis.memory_usage(f"{settings.namespace}:{key}", samples=0)
            yield row(f"Redis memory a {what} job", [float(used or 0) / jobs], "bytes", at_most(limit))


def idle(bench: Bench, settings: Settings, alone: WorkerProcess) -> Iterator[Row]:
    """A worker that also leads, then one beside it that does not."""
    watched_s = bench.scaled(WATCHED_S)
    time.sleep(2.0)  # let the start settle
    cpu = alone.cpu_s()
    leading = round_trips(bench, settings, watched_s)
    yield row("idle worker that leads, CPU", [(alone.cpu_s() - cpu) / watched_s * 100], "%", at_most(0.5))
    yield row("idle worker that leads, Redis round trips", [leading], "/s", at_most(2))
    yield row("idle worker without its children, resident", [alone.rss_mb()], "MB", at_most(60))
    with worker(bench, settings, "worker-2") as other:
        time.sleep(2.0)
        cpu = other.cpu_s()
        both = round_trips(bench, settings, watched_s)
        yield row("idle worker, CPU", [(other.cpu_s() - cpu) / watched_s * 100], "%", at_most(0.5))
        yield row("idle worker, Redis round trips", [both - leading], "/s", at_most(1))


def round_trips(bench: Bench, settings: Settings, seconds: float) -> float:
    """Commands a second that clients send for this namespace: what a script does inside does not count."""
    counted = 0
    with redis_py.Redis.from_url(bench.stores.redis_url) as client, client.monitor() as monitor:
        monitor.connection.connect()
        until_time = time.monotonic() + seconds
        while (left := until_time - time.monotonic()) > 0:
            if not monitor.connection.can_read(timeout=left):
                break
            seen = cast("dict[str, Any]", monitor.next_command())
            counted += seen["client_type"] != "lua" and settings.namespace in seen["command"]
    return counted / seconds


def pick_up(bench: Bench, settings: Settings) -> Iterator[Row]:
    """From the call of submit() to the first line of the task, one job at a time, the worker idle."""
    floor = two_writes(bench.mongo, bench.scaled(PICKUPS))
    yield row("yardstick: an insert and a claim by a bare driver, p50", floor, "ms")
    with TaskQueue(settings) as queue:
        for task, what, budgets in ((app.began_async, "coroutine", (8, 20)), (app.began, "warm child", (12, 30))):
            queue.add(task)
            task.submit().result(timeout=60)  # warm
            samples: list[float] = []
            for _ in range(bench.scaled(PICKUPS)):
                started = time.time()
                job: JobHandle[float] = task.submit()
                samples.append((job.result(timeout=30) - started) * 1000)
                time.sleep(0.02)  # so that the worker waits in its blocking pop again
            yield row(f"idle pick-up, {what}, p50", samples, "ms", at_most(budgets[0]))
            p99 = quantile(samples, 0.99)
            yield Row(what=f"idle pick-up, {what}, p99", value=p99, unit="ms", budget=at_most(budgets[1]))


def operations(bench: Bench, settings: Settings) -> Iterator[Row]:
    """MongoDB operations a job, one at a time, and what an idle worker that leads adds at 10,000 jobs a day."""
    jobs = bench.scaled(200)
    between_s = 86_400 / 10_000
    with TaskQueue(settings) as queue, bench.redis.pubsub() as received:
        queue.add(app.noop)
        app.noop.submit().result(timeout=30)  # connected
        received.subscribe(f"{settings.namespace}:job-events")
        before = bench.operations()
        for _ in range(jobs):
            wait_for_end(received, app.noop.submit().id)
    each = {name: count / jobs for name, count in difference(before, bench.operations()).items()}
    idle_s = 10 * settings.round_s if not bench.quick else 10.0  # what is rarest is done each ten minutes
    before = bench.operations()
    time.sleep(idle_s)
    idle_each = sum(difference(before, bench.operations()).values()) / idle_s * between_s
    note = ", ".join(f"{name} {count:.2f}" for name, count in each.items() if count >= 0.005)
    yield row("MongoDB operations a job, unbatched", [sum(each.values())], "", note=note)
    yield row(
        "MongoDB operations a job at 10,000 a day, all in", [sum(each.values()) + idle_each], "", at_most(3.3), note
    )


def wait_for_end(received: Any, job_id: str) -> None:
    """Wait until the bus says that the job is over: asking the record would be an operation more."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        message = received.get_message(timeout=1)
        if message is not None and message["type"] == "message":
            events = decode_batch(message["data"].encode()).jobs
            if any(event.id == job_id and event.status in TERMINAL for event in events):
                return
    raise TimeoutError(f"no event of the end of {job_id} within 30 s")


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in before}
