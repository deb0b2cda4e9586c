"""A queue with middleware and a lifespan: `tests.hooks_app:queue` is an APP. What it does is in the file HOOKS_FILE."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from typing_extensions import override

from dtqkit import Call, Context, Middleware, TaskQueue

seen: ContextVar[tuple[str, ...]] = ContextVar("seen", default=())
queue = TaskQueue()


def note(text: str) -> None:
    """Append a line, in one write: several processes do."""
    if path := os.environ.get("HOOKS_FILE"):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{text}\n".encode())
        os.close(descriptor)


class Noted(Middleware):
    """Logs what it sees; the task sees its name."""

    @asynccontextmanager
    async def run(self, context: Context, /) -> AsyncGenerator[None]:
        name = type(self).__name__
        await asyncio.sleep(0)
        context.log(f"{name} enters {context.task} with {context.state is not None}")
        seen.set((*seen.get(), name))
        try:
            yield
        except BaseException as error:
            context.log(f"{name} sees {type(error).__name__}")
            raise
        finally:
            await asyncio.sleep(0)
            context.log(f"{name} leaves")


@queue.middleware
class Outer(Noted):
    @override
    @asynccontextmanager
    async def submit(self, calls: Sequence[Call[Any]], /) -> AsyncGenerator[None]:
        note(f"submits {len(calls)}")
        yield


@queue.middleware
class Inner(Noted):
    pass


@queue.lifespan
async def setup() -> AsyncGenerator[dict[str, int]]:
    async with asyncio.TaskGroup():  # enters and leaves in one task
        note(f"enter {os.getpid()} {os.getppid()}")
        yield {"pid": os.getpid()}
        note(f"leave {os.getpid()}")


def _found(ctx: Context) -> list[Any]:
    here = threading.current_thread() is threading.main_thread()
    return [list(seen.get()), ctx.state["pid"] == os.getpid(), here]


@queue.task
async def in_coroutine(ctx: Context) -> list[Any]:
    return _found(ctx)


@queue.task(isolation="thread")
def in_thread(ctx: Context) -> list[Any]:
    return _found(ctx)


@queue.task
def in_child(ctx: Context) -> list[Any]:
    asyncio.run(asyncio.sleep(0))  # no loop runs in this thread
    return _found(ctx)


@queue.task
def submits_in_child() -> str:
    return in_coroutine.submit().id


@queue.task(max_attempts=1)
async def fails_in_coroutine(kind: str) -> None:
    raise {"ValueError": ValueError("no"), "SystemExit": SystemExit(3)}[kind]


@queue.task(max_attempts=1, isolation="thread")
def fails_in_thread(kind: str) -> None:
    raise {"ValueError": ValueError("no"), "SystemExit": SystemExit(3)}[kind]


@queue.task(max_attempts=1)
def fails_in_child(kind: str) -> None:
    raise {"ValueError": ValueError("no"), "SystemExit": SystemExit(3)}[kind]


@queue.task(max_attempts=1)
async def sleeps_in_coroutine(seconds: float) -> None:
    await asyncio.sleep(seconds)


@queue.task(max_attempts=1, isolation="thread")
def sleeps_in_thread(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@queue.task(max_attempts=1)
def sleeps_in_child(seconds: float) -> None:
    time.sleep(seconds)


@queue.task
def forks_in_child() -> int:
    """A fork that comes back from the task is not the job."""
    if (pid := os.fork()) == 0:
        return -1
    os.waitpid(pid, 0)
    return 1
