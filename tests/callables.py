"""Tasks made in all the ways that people make them; TASKS has them by how. `tests.callables:queue` is an APP."""

# ruff: noqa: ARG002, ARG003, ARG004, ARG005 - the results show where they run

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import threading
from collections.abc import Callable
from typing import Any

from dtqkit import Context, TaskQueue, task

queue = TaskQueue()
TASKS: dict[str, Any] = {}


def where() -> list[int]:
    """The process, and whether it is its main thread."""
    return [os.getpid(), int(threading.current_thread() is threading.main_thread())]


def logged(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@queue.task
def plain(n: int) -> list[int]:
    return where()


@queue.task
@logged
def wraps_below(n: int) -> list[int]:
    return where()


@logged
@queue.task
def wraps_above(n: int) -> list[int]:
    return where()


def _report(n: int) -> list[int]:
    return where()


def two(a: int, n: int) -> list[int]:
    return where()


def factory(number: int) -> Any:
    @queue.task(name=f"made_{number}", isolation="process")
    def made(n: int) -> list[int]:
        return where()

    return made


class Service:
    """Can be made without arguments."""

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset

    @queue.task(name="method")
    def method(self, n: int) -> list[int]:
        return where()

    @queue.task(name="method_with_context")
    def method_with_context(self, ctx: Context, n: int) -> list[int]:
        assert ctx.attempt == 1
        return where()

    @staticmethod
    @queue.task(name="static_outside")
    def static_outside(n: int) -> list[int]:
        return where()

    @queue.task(name="static_inside")
    @staticmethod
    def static_inside(n: int) -> list[int]:
        return where()

    def bound(self, n: int) -> list[int]:
        return where()

    @classmethod
    def of_class(cls, n: int) -> list[int]:
        return where()

    @staticmethod
    def static(n: int) -> list[int]:
        return where()


class Call:
    def __call__(self, n: int) -> list[int]:
        return where()


class AsyncCall:
    async def __call__(self, n: int) -> list[int]:
        await asyncio.sleep(0)
        return where()


report = queue.task(_report)
TASKS |= {
    "decorated": plain,
    "over functools.wraps": wraps_below,
    "under functools.wraps": queue.registry.get("wraps_above"),
    "another module name": report,
    "another task name": queue.task(name="renamed", isolation="process")(_report),
    "closure": factory(1),
    "second closure": factory(2),
    "method": Service.method,
    "method with a context": Service.method_with_context,
    "staticmethod outside": Service.static_outside,
    "staticmethod inside": Service.static_inside,
    "bound method": queue.task(Service().bound),
    "classmethod": queue.task(Service.of_class),
    "static method of a class": queue.task(Service.static),
    "partial": queue.task(name="part")(functools.partial(two, 1)),
    "object": queue.task(name="object")(Call()),
    "lambda": queue.task(name="lambda")(lambda n: where()),
    "lru_cache": queue.task(name="cached")(functools.lru_cache(_report)),
}
for _number in range(2):
    TASKS[f"in a loop, {_number}"] = queue.task(name=f"loop_{_number}")(functools.partial(two, _number))
usage = queue.task(shutil.disk_usage)
called_async = queue.task(name="called_async")(AsyncCall())


@task
def alone(n: int) -> list[int]:
    """Belongs to no queue."""
    return where()
