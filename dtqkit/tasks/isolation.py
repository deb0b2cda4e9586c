"""What is logged of tasks that do not run in a child process, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dtqkit.support.formatting import few

#: Why a task that could be imported has no child process.
HOOKED: Final = "the queue has a middleware or a lifespan, which a child has only when its workers serve an APP"
_AS_APP: Final = "put the queue with its hooks in a module and start workers for it (dtqkit worker shop.tasks:queue)"


def no_process(name: str) -> str:
    """Why a task of a queue with hooks that asks for a process cannot have one, and what to do."""
    return f"{name}: isolation is 'process', but {HOOKED}; {_AS_APP}, or leave isolation out"


def in_threads(names: Sequence[str], why: str) -> str:
    """A line about tasks that run in threads without having asked for it, all for the reason `why`."""
    who, them, reason = f"task {names[0]} runs in a thread", "it", why
    if len(names) > 1:
        who, them, reason = f"tasks {few(names)} run in threads", "them", why.replace("it is", "each is", 1)
    cure = _AS_APP if why == HOOKED else "put the function in a module, at its top level"
    return (
        f"{who} of this process, since no child process can import {them} ({reason}): such a job cannot be killed at "
        f"its timeout, and shares this process's memory and interpreter lock; to run in a child process, {cure}; "
        "if a thread is meant, set isolation='thread'"
    )
