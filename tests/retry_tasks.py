"""Tasks that fail in every way that a retry rule can be about: as a coroutine, in a thread and in a child process."""

from __future__ import annotations

import asyncio
import time

from dtqkit import GiveUp, RetryAfter, Snooze, current_context, task

RULES = {"retry_on": (ConnectionError, TimeoutError), "give_up_on": (BrokenPipeError,)}
OPTIONS = {**RULES, "backoff": (0.01, 0.02), "max_attempts": 3}


class Reset(ConnectionResetError):
    """A subclass of what is tried again."""


def act(what: str) -> int:
    context = current_context()
    assert context is not None
    match what:
        case "reset":
            raise Reset("connection reset")
        case "pipe":
            raise BrokenPipeError("the other side is gone")
        case "value":
            raise ValueError("no number")
        case "group":
            raise ExceptionGroup("two", [ConnectionError("a"), ValueError("b")])
        case "give up":
            raise GiveUp("no such customer")
        case "later" if context.attempt < 3:
            raise RetryAfter(0.05) from ConnectionError("429")
        case "later always":
            raise RetryAfter(0.01, "too many requests")
        case "snooze" if context.attempt < 5:
            raise Snooze(0.02, "the file is not there yet")
        case "nan":
            raise RetryAfter(float("nan"))
        case "set":
            return {1, object()}  # type: ignore[return-value]
        case "slow":
            until = time.monotonic() + 30
            while time.monotonic() < until:
                time.sleep(0.01)
        case _:
            pass
    return context.attempt


@task(**OPTIONS)
async def in_coroutine(what: str) -> int:
    if what == "slow":
        await asyncio.sleep(30)
    return act(what)


@task(**OPTIONS, isolation="thread")
def in_thread(what: str) -> int:
    return act(what)


@task(**OPTIONS, isolation="process")
def in_child(what: str) -> int:
    return act(what)


@task(max_attempts=3, backoff="fixed", backoff_s=0.01)
async def plain(what: str) -> int:
    return act(what)


TASKS = (in_coroutine, in_thread, in_child)
