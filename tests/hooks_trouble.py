"""An APP whose lifespan does what HOOKS_TROUBLE says, and whose middleware does what a task's name says."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

from typing_extensions import override

from dtqkit import Context, Middleware, TaskQueue
from tests.hooks_app import note

TROUBLE = os.environ.get("HOOKS_TROUBLE", "")
queue = TaskQueue()


def in_child() -> bool:
    return any(thread.name == "dtqkit-child-read" for thread in threading.enumerate())


async def connect() -> AsyncGenerator[None]:
    match TROUBLE:
        case "raises":
            raise ConnectionError("mongodb://user:secret@db/ does not answer\nat all")
        case "raises in a child" if in_child():
            raise ConnectionError("too many connections")
        case "never yields":
            return
        case "hangs":
            note("entering")
            await asyncio.sleep(600)
        case _:
            pass
    yield
    if TROUBLE == "yields twice":
        yield


def plain() -> Generator[str]:
    assert threading.current_thread() is threading.main_thread()
    note(f"enter {os.getpid()}")
    yield "plain"
    assert threading.current_thread() is threading.main_thread()
    note(f"leave {os.getpid()}")


queue.lifespan(plain if TROUBLE == "plain" else connect)


@queue.middleware
class ByName(Middleware):
    @override
    @asynccontextmanager
    async def run(self, context: Context, /) -> AsyncGenerator[None]:
        if context.task.startswith("enter_fails"):
            raise ConnectionError("no tracer")
        if context.task.startswith("slow_enter"):
            await asyncio.sleep(600)
        if context.task.startswith("hasty"):
            async with asyncio.timeout(0.2):
                yield
            return
        try:
            yield
        except ValueError:
            if not context.task.startswith("swallowed"):
                raise
        if context.task.startswith("slow_leave"):
            await asyncio.sleep(600)


@queue.task
def state(ctx: Context) -> Any:
    return ctx.state


@queue.task(max_attempts=1)
def hasty() -> None:
    """Ends long before its own timeout: its middleware has another."""
    try:
        time.sleep(60)
    finally:
        note("interrupted")


@queue.task
async def on_the_loop() -> str:
    return "ran"


def _nothing() -> None:
    pass


def _fails() -> None:
    raise ValueError("no")


async def _fails_async() -> None:
    raise ValueError("no")


async def _nothing_async() -> None:
    pass


for _name in ("enter_fails", "slow_enter", "slow_leave", "swallowed"):
    _plain = _fails if _name == "swallowed" else _nothing
    queue.task(name=_name, max_attempts=1, timeout_s=0.5)(_plain)
    queue.task(name=f"{_name}_in_thread", max_attempts=1, timeout_s=0.5, isolation="thread")(_plain)
    queue.task(name=f"{_name}_async", max_attempts=1, timeout_s=0.5)(
        _fails_async if _name == "swallowed" else _nothing_async
    )
