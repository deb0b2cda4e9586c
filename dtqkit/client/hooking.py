"""How a TaskQueue gets its hooks: middleware and a lifespan."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from dtqkit.model.errors import TaskDefinitionError, WrongLoop
from dtqkit.model.hook_errors import LifespanFailed
from dtqkit.tasks.hooks import Hooks
from dtqkit.tasks.isolation import no_process
from dtqkit.tasks.lifespan import LifespanFunction
from dtqkit.tasks.middleware import Middleware
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import Task
from dtqkit.worker.context import current_context

L = TypeVar("L", bound=LifespanFunction)
M = TypeVar("M", bound=Middleware | type[Middleware])


def would_block() -> bool:
    """Whether the caller is a coroutine on a worker's loop or on a TaskQueue's own."""
    if current_context() is None and threading.current_thread().name != "dtqkit-queue":
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class HookedAsyncQueue:
    """What an AsyncTaskQueue does for its hooks."""

    def __init__(self, hooks: Hooks | None) -> None:
        #: What `middleware` has registered.
        self.hooks: Hooks = Hooks() if hooks is None else hooks

    def middleware(self, given: M, /) -> M:
        """Register a Middleware, a class (as a decorator) or an instance: its `submit` is around each submit from here.

        Its `run` is used where jobs run, for the queue that a worker's APP names.
        """
        self.hooks.add(given)
        return given


class HookedQueue:
    """What a TaskQueue does for its hooks."""

    def __init__(self, registry: TaskRegistry) -> None:
        self.registry: TaskRegistry = registry
        #: What `middleware` and `lifespan` have registered.
        self.hooks: Hooks = Hooks()
        #: Enters the lifespan for the workers that live in this process; None while there are none.
        self._lifespan_here: Callable[[], None] | None = None

    def middleware(self, given: M, /) -> M:
        """Register a Middleware, a class (as a decorator) or an instance: around each submit and each run.

            @queue.middleware
            class Tenant(Middleware):
                @asynccontextmanager
                async def submit(self, calls: Sequence[Call[Any]], /) -> AsyncIterator[None]:
                    if len(calls) > 1_000:
                        raise PermissionError("at most 1,000 jobs at a time")
                    yield

        The first one is the outermost. Workers, and their child processes, have what the import of their APP registers.
        A queue whose workers live in this process runs its `def` tasks in threads once it has a middleware or lifespan:
        a child process could not have them. Raises HookError for what is no middleware.
        """
        self._may_be_hooked()
        self.hooks.add(given)
        self.registry.confine()
        return given

    def lifespan(self, function: L, /) -> L:
        """Register the lifespan: a generator function, `async def` or `def`, that yields once.

            @queue.lifespan
            async def connect() -> AsyncIterator[Client]:
                async with Client() as client:
                    yield client                # what tasks find in ctx.state

        Each worker process enters it before its first job and leaves it when it stops, and each of its child processes
        does so too; a process that is killed, or stopped at once by a second signal, leaves nothing. A function that
        returns a context manager will do. When it raises, the worker does not start.

        Where workers live in this process already (TaskQueue.local()), it is entered now. Raises HookError when it
        cannot be a lifespan, or the queue has another one, and LifespanFailed when it is entered now and raises.
        """
        self._may_be_hooked()
        self.hooks.set_lifespan(function)
        self.registry.confine()
        if self._lifespan_here is not None:
            try:
                self._lifespan_here()
            except LifespanFailed:
                self.hooks.lifespan = None
                raise
        return function

    def _may_be_hooked(self) -> None:
        """Raises unless the queue may get a hook now."""
        if self._lifespan_here is None:
            return
        if would_block():
            raise WrongLoop("a hook cannot be registered on the loop of the workers that would have it")
        self._check_process(self.registry)

    def _check_hooked(self, task: Task[..., Any, Any]) -> None:
        """TaskDefinitionError when workers here, which have hooks, could not run the task."""
        if self.registry.confined:
            self._check_process([task])

    def _check_process(self, tasks: Iterable[Task[..., Any, Any]]) -> None:
        for task in tasks:
            if task.defaults.isolation == "process":
                raise TaskDefinitionError(no_process(task.name))
