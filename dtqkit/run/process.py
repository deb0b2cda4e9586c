"""One worker and its candidate for leader, on one event loop: in a process of their own or in a notebook's."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from dtqkit.broker import Broker
from dtqkit.model.jobs import PRIORITIES, Priority
from dtqkit.model.settings import Settings
from dtqkit.recovery import Leader
from dtqkit.run.declared import declared
from dtqkit.store import Store
from dtqkit.support.cancel import end
from dtqkit.tasks.hooks import Life
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.worker.beat import Pulse
from dtqkit.worker.capture import capture
from dtqkit.worker.worker import Worker

log: logging.Logger = logging.getLogger("dtqkit.process")


def default_lanes(number: int, *, strict: bool = False) -> tuple[Priority, ...]:
    """The lanes of worker `number` (from 1): its own first, then, unless `strict`, the others by priority."""
    own = PRIORITIES[(number - 1) % len(PRIORITIES)]
    return (own,) if strict else (own, *(p for p in PRIORITIES if p != own))


async def work(
    settings: Settings,
    registry: TaskRegistry,
    *,
    name: str,
    lanes: Sequence[Priority],
    life: Life | None = None,
    app: str | None = None,
    outdated: Callable[[Sequence[str]], bool] | None = None,
    stop: asyncio.Event,
    started: Callable[[], None] | None = None,
    works: Callable[[Worker], None] | None = None,
) -> None:
    """Work until `stop` is set; children import `app` too.

    `works` is called with the worker once both stores have answered, then `started`. `life` has the hooks of the queue:
    its lifespan is entered once both stores have answered, and left when the worker has stopped.

    `outdated` is called with source files that a new child has loaded in another version than this process; it
    returns whether that child may run jobs here.

    Raises StoreUnavailable when a store does not answer at the start, LifespanFailed, and what breaks the worker.
    """
    life = Life() if life is None else life
    store = Store(settings)
    broker = Broker(settings)
    try:
        await store.open()
        await broker.open(await store.identity())
        await broker.check_rights()
        if (policy := await broker.eviction()) is not None:
            log.warning("Redis's maxmemory-policy is %s: it may drop queued ids; use noeviction", policy)
        for line in registry.in_threads():
            log.warning("%s", line)
        rng = random.Random()

        def on_pulse(pulse: Pulse) -> None:
            leader.beat_answered(pulse.led, pulse.scores)

        worker = Worker(
            *(settings, broker, store, registry),
            name=name,
            lanes=lanes,
            life=life,
            app=app,
            outdated=outdated,
            rng=rng,
            on_pulse=on_pulse,
        )
        leader = Leader(settings, broker, store, candidate=worker.id, rng=rng)
        if await _begun(life, stop):
            try:
                if works is not None:
                    works(worker)
                async with declared(settings, registry, broker, store):
                    await _run(worker, leader, stop, life, started)
            finally:
                await life.end()
    finally:
        await broker.close()
        await store.close()


async def _begun(life: Life, stop: asyncio.Event) -> bool:
    """Enter the lifespan; False when `stop` comes first. Raises LifespanFailed."""
    entering = asyncio.create_task(life.begin(), name="enter the lifespan")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({entering, stopping}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await end(stopping, entering)
        if not entering.cancelled() and entering.exception() is None:
            await life.end()
        raise
    await end(stopping, entering)
    if entering.cancelled():
        return False
    entering.result()
    return True


async def _run(
    worker: Worker, leader: Leader, stop: asyncio.Event, life: Life, started: Callable[[], None] | None
) -> None:
    """Until `stop` is set, or a part of it breaks, which is raised."""
    await worker.pauses.load()  # before the first job is taken
    working = asyncio.create_task(worker.run(), name=f"worker {worker.name}")
    leading = asyncio.create_task(leader.run(), name=f"leader {worker.name}")
    stopping = asyncio.create_task(stop.wait(), name=f"stop {worker.name}")
    breaking = asyncio.create_task(life.broke.wait(), name=f"lifespan {worker.name}")
    if started is not None:
        started()
    with capture.worker():
        try:
            await asyncio.wait({working, leading, stopping, breaking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            worker.stop()
            await end(leading, stopping, breaking)
            await working
    if not leading.cancelled() and (error := leading.exception()) is not None:
        raise error
    if life.failure is not None:
        raise life.failure
