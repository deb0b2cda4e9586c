"""How a test waits: for a condition, with a deadline, never for a length of time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar, cast

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout_s: float = 10, interval_s: float = 0.02, message: str = "") -> T:
    """The predicate's first true value; an AssertionError when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, message or f"nothing true from {predicate} within {timeout_s} s"
        time.sleep(interval_s)
    return value


def in_time(predicate: Callable[[], object], timeout_s: float, interval_s: float = 0.02) -> bool:
    """Whether it becomes true within the time: for a test that goes on either way."""
    try:
        wait_until(predicate, timeout_s, interval_s)
    except AssertionError:
        return False
    return True


async def wait_until_async(
    predicate: Callable[[], Awaitable[T] | T],
    timeout_s: float = 10,
    interval_s: float = 0.02,
    message: str = "",
) -> T:
    """The same on an event loop; the predicate may be a coroutine function."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        value = cast("T", await answer if isawaitable(answer) else answer)
        if value:
            return value
        assert time.monotonic() < deadline, message or f"nothing true from {predicate} within {timeout_s} s"
        await asyncio.sleep(interval_s)
