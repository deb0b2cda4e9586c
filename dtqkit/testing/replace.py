"""Let one queue stand in for another, so that the code that uses that one need not be changed for a test."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from dtqkit.client.queue import TaskQueue

#: The methods through which a TaskQueue reaches its jobs.
_WAYS: Final = ("run", "start", "freshen", "catch_up", "require_workers_for")


@contextmanager
def stand_in(queue: TaskQueue, other: TaskQueue) -> Generator[None]:
    """While this lasts, whatever is asked of `queue` is asked of `other`, which has its tasks and hooks."""
    if "run" in vars(queue):
        raise RuntimeError(f"{queue!r} is replaced already, by another queue")
    for task in queue.registry:
        other.registry.add(task)
    other.hooks.take(queue.hooks)
    before = queue._core  # pyright: ignore[reportPrivateUsage]
    queue._core = other.core  # pyright: ignore[reportPrivateUsage]
    for name in _WAYS:
        setattr(queue, name, getattr(other, name))
    try:
        yield
    finally:
        for name in _WAYS:
            delattr(queue, name)
        queue._core = before  # pyright: ignore[reportPrivateUsage]
