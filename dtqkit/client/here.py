"""Workers in this process, on an event loop in a thread of it: those of TaskQueue.local()."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from contextlib import ExitStack

from dtqkit.model.settings import Settings
from dtqkit.run.process import default_lanes, work
from dtqkit.support.background import Background
from dtqkit.tasks.hooks import ProcessLifespan
from dtqkit.tasks.registry import TaskRegistry

log = logging.getLogger("dtqkit.worker")


def work_here(
    settings: Settings, registry: TaskRegistry, life: ProcessLifespan, workers: int, owned: ExitStack
) -> Background:
    """Start them, and wait until they work; `owned` stops them. Their loop."""
    background = Background("dtqkit-workers")
    owned.callback(background.join)
    owned.callback(background.end)
    stop = background.start(_event()).result()
    ready: Future[None] = Future()
    started: list[None] = []

    def one_more() -> None:
        started.append(None)
        if len(started) == workers:
            ready.set_result(None)

    async def run() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(1, workers + 1):
                    name, lanes = f"worker-{number}", default_lanes(number)
                    one = work(settings, registry, name=name, lanes=lanes, life=life, stop=stop, started=one_more)
                    group.create_task(one)
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            elif isinstance(error, Exception):
                log.exception("the workers in this process have stopped: nothing runs their jobs here")
            raise

    running = background.start(run())

    def finish() -> None:
        background.soon(stop.set)
        running.result()

    owned.callback(finish)
    ready.result()
    return background


async def _event() -> asyncio.Event:
    return asyncio.Event()
