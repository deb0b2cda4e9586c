"""Let a queue of a test stand in for another, so that the code that uses that one need not be changed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.client.queue import TaskQueue
from dtqkit.model.errors import TaskDefinitionError

if TYPE_CHECKING:
    from dtqkit.control import Control

Replaceable: TypeAlias = TaskQueue | AsyncTaskQueue

#: The methods through which a TaskQueue reaches its jobs.
_WAYS: Final = ("run", "start", "freshen", "catch_up", "require_workers_for")


@contextmanager
def stand_in(queue: TaskQueue, other: TaskQueue) -> Generator[None]:
    """While this lasts, whatever is asked of `queue` is asked of `other`, which has its tasks and hooks."""
    if not isinstance(queue, TaskQueue):  # pyright: ignore[reportUnnecessaryIsInstance] - whatever a test gives
        raise TaskDefinitionError(f"{queue!r} cannot be replaced: give the TaskQueue itself, such as shop.queue")
    if "run" in vars(queue):
        raise TaskDefinitionError(f"{queue!r} is replaced already: end that before, or use that one")
    _take(queue, other)
    before = queue._core  # pyright: ignore[reportPrivateUsage]
    queue._core = other.core  # pyright: ignore[reportPrivateUsage]
    instead = {name: getattr(other, name) for name in _WAYS} | {"close": _nothing}
    vars(queue).update(instead)
    try:
        yield
    finally:
        for name in instead:
            delattr(queue, name)
        queue._core = before  # pyright: ignore[reportPrivateUsage]


def _nothing() -> None:
    """The application may close its queue in one test, and use it in the next."""


@contextmanager
def stand_in_async(queue: AsyncTaskQueue, other: TaskQueue, control: Control) -> Generator[None]:
    """The same for a queue of asynchronous code."""
    _take(queue, other)
    before, queue.control = queue.control, control
    try:
        yield
    finally:
        queue.control = before


def _take(queue: Replaceable, other: TaskQueue) -> None:
    """Its tasks and hooks."""
    for task in queue.registry:
        other.registry.add(task)
    other.registry.scheduled.take(queue.registry.scheduled)
    if queue.hooks.around_submit or queue.hooks.around_run or queue.hooks.lifespan:
        other.hooks.take(queue.hooks)
