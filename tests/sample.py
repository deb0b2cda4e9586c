"""The tasks of the tests: a module that workers and their children can import. `tests.sample:queue` is an APP."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from dtqkit import Context, TaskQueue, current_context, task


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
async def add_async(a: int, b: int = 1) -> int:
    return a + b


@task
async def noop() -> None:
    """The least that a job can do."""


@task(isolation="thread")
def add_in_thread(a: int, b: int = 1) -> int:
    return a + b


@task
def where() -> dict[str, int]:
    """The process that runs it, and its parent."""
    return {"pid": os.getpid(), "parent": os.getppid()}


@task(max_attempts=2, backoff_s=0.01)
def fail(message: str) -> None:
    raise ValueError(message)


@task(max_attempts=3, backoff_s=0.01)
async def fail_until(number: int) -> int:
    """Succeeds at its attempt `number`."""
    context = current_context()
    assert context is not None
    if context.attempt < number:
        raise RuntimeError(f"attempt {context.attempt}")
    return context.attempt


@task(max_attempts=1)
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@task(max_attempts=1)
async def sleep_async(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@task(max_attempts=1, isolation="thread")
def sleep_in_thread(seconds: float) -> str:
    """Sleeps in small steps, so that what is raised in its thread is noticed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
    return "slept"


@task(max_attempts=1)
def ignore_timeout(seconds: float) -> None:
    """Swallows whatever is raised inside, so that only a kill can end it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: S110 - the point of it
            pass


@task(max_attempts=1, isolation="thread")
def until_cancelled(ctx: Context) -> str:
    """Runs until it sees that it should stop."""
    until = time.monotonic() + 20
    while not ctx.cancelled and time.monotonic() < until:
        time.sleep(0.01)
    return "stopped"


@task(max_attempts=1)
def crash(code: int) -> None:
    os._exit(code)


@task(max_attempts=2, backoff_s=0.01)
def crash_once(ctx: Context) -> int:
    if ctx.attempt == 1:
        os.kill(os.getpid(), 9)
    return ctx.attempt


@task
def report_steps(ctx: Context, steps: int) -> str:
    """Reports its progress and logs."""
    for step in range(steps):
        ctx.progress((step + 1) / steps, f"step {step + 1}")
        ctx.log(f"log {step + 1}")
    print("printed")
    print("to stderr", file=sys.stderr)
    return "reported"


def _speak() -> str:
    """Prints and logs in all the ways that there are."""
    print("printed")
    print("to stderr", file=sys.stderr)
    shop = logging.getLogger("shop")
    shop.warning("%d left", 3)
    shop.debug("not at this level")
    try:
        {}["lost"]
    except KeyError:
        shop.exception("not found")
    print("without an end", end="")
    return "spoken"


@task
def speak() -> str:
    return _speak()


@task(isolation="thread")
def speak_in_thread() -> str:
    return _speak()


@task
async def speak_async() -> str:
    return _speak()


@task
async def count_aloud(name: str, numbers: int) -> None:
    """Takes turns with others of its kind."""
    for number in range(numbers):
        print(name, number)
        await asyncio.sleep(0)


@task
def chatter(lines: int) -> None:
    for line in range(lines):
        print(f"line {line}")


@task(max_attempts=1)
def give(what: str) -> Any:
    """Return something that cannot be recorded, by name."""
    deep: list[Any] = []
    for _ in range(40):
        deep = [deep]
    return {
        "big int": 2**64,
        "object": {"x": object()},
        "surrogate": "\ud800",
        "large": "x" * 2_000_000,
        "generator": (n for n in range(3)),
        "deep": deep,
    }[what]


@task(max_attempts=1)
def misbehave(how: str) -> str:
    """What a task should not do, and its worker must survive."""
    match how:
        case "SystemExit":
            sys.exit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "BaseException":
            raise BaseException("base")
        case "GeneratorExit":
            raise GeneratorExit
        case "chdir":
            os.chdir("/")
        case "close stdout":
            os.close(1)
            sys.stdout.close()
        case "close all":
            os.closerange(3, 256)
        case "fork":
            if (pid := os.fork()) == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        case "bad str":
            raise BadStr
        case _:
            raise AssertionError(how)
    return how


@task(max_attempts=1)
async def misbehave_async(how: str) -> str:
    match how:
        case "SystemExit":
            sys.exit(3)
        case "BaseException":
            raise BaseException("base")
        case "CancelledError":
            raise asyncio.CancelledError
        case _:
            raise AssertionError(how)


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@task
def directory() -> str:
    return str(Path.cwd())


@task
def child_of_child(seconds: float) -> None:
    """Starts a process, logs its id, and waits for it."""
    process = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])
    print(process.pid)
    process.wait()


@task(max_attempts=1)
def sleep_in_steps(seconds: float) -> None:
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            time.sleep(0.01)
    finally:
        print("cleaned up")


@task(max_attempts=3, backoff_s=0.01)
async def fail_slowly(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise RuntimeError("in the end")


@dataclass
class Point:
    x: int
    y: int = 0


@task
def typed(day: date, point: Point) -> list[Point]:
    return [Point(point.x + day.day, point.y)]


@task(max_attempts=1)
async def block(seconds: float) -> str:
    """Blocks its worker's loop."""
    time.sleep(seconds)
    return "blocked"


@task(max_attempts=1, isolation="thread", timeout_s=3)
def block_in_thread(seconds: float) -> None:
    """Blocks its thread in C, where nothing reaches it."""
    time.sleep(seconds)


@task(backoff_s=0.01)
def ledger(path: str, line: str, seconds: float = 0.0) -> None:
    """Append a line to a file, in one write, before and after the work."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"start {line}\n".encode())
        time.sleep(seconds)
        os.write(descriptor, f"end {line}\n".encode())
    finally:
        os.close(descriptor)


@task
def nominal(ctx: Context) -> str | None:
    """The time at which its schedule should run."""
    return ctx.scheduled_for and ctx.scheduled_for.isoformat()


@task
async def nominal_async(ctx: Context) -> str | None:
    return ctx.scheduled_for and ctx.scheduled_for.isoformat()


queue = TaskQueue()
queue.include(__name__)
