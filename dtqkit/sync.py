"""TaskQueue: the queue for a script, a thread or a notebook. An asynchronous queue, driven on a loop of its own."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from types import ModuleType, TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

from anyio.from_thread import BlockingPortal, start_blocking_portal

from dtqkit.control import Control, Page, Requeued
from dtqkit.errors import JobFailed, TaskDefinitionError, WrongLoop
from dtqkit.events import Depths, Heartbeat
from dtqkit.jobs import Job, Priority, Status
from dtqkit.local import LocalStores, start_local_stores
from dtqkit.process import default_lanes, work
from dtqkit.queue import AsyncJobHandle, AsyncTaskQueue
from dtqkit.settings import Settings
from dtqkit.tasks import Call, Context, Task, TaskInfo, TaskRegistry

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class JobHandle(Generic[R]):
    """A job, to be waited for (`result()`) or awaited. Attributes never do I/O: they tell what was last heard."""

    def __init__(self, queue: TaskQueue, handle: AsyncJobHandle[R]) -> None:
        self._queue = queue
        self._handle = handle

    @property
    def id(self) -> str:
        return self._handle.id

    @property
    def record(self) -> Job:
        """The job as it was last heard of; `refresh()` asks."""
        self._queue.soon(self._handle.keep_informed)
        return self._handle.known

    @property
    def status(self) -> Status:
        return self.record.status

    def result(self, timeout: float | None = None) -> R:
        """The task's result; waits for it, at most `timeout` seconds.

        Raises JobFailed with the attempt's traceback, JobCancelled, or TimeoutError.
        """
        return self._queue.run(self._handle.result(timeout))

    def __await__(self) -> Generator[Any, None, R]:
        return asyncio.wrap_future(self._queue.start(self._handle.result())).__await__()

    def refresh(self) -> Self:
        """Ask for the job as it is now."""
        self._queue.run(self._handle.refresh())
        return self

    def cancel(self) -> Self:
        """Cancel it while it waits; ask it to stop while it runs. Raises JobConflict when it is over."""
        self._queue.run(self._handle.cancel())
        return self

    def requeue(self) -> Self:
        """Give the failed job another life. Raises JobConflict when it is not failed."""
        self._queue.run(self._handle.requeue())
        return self

    def log(self) -> tuple[str, ...]:
        """The lines that it has logged so far."""
        return self._queue.run(self._handle.log())

    def __repr__(self) -> str:
        return repr(self._handle)


class JobList(Sequence[JobHandle[R]], Generic[R]):
    """The jobs of one `map` or `submit_many`, in the order of submission."""

    def __init__(self, queue: TaskQueue, handles: Sequence[JobHandle[R]]) -> None:
        self._queue = queue
        self._handles = tuple(handles)

    @overload
    def __getitem__(self, index: int) -> JobHandle[R]: ...
    @overload
    def __getitem__(self, index: slice) -> JobList[R]: ...
    def __getitem__(self, index: int | slice) -> JobHandle[R] | JobList[R]:
        if isinstance(index, slice):
            return JobList(self._queue, self._handles[index])
        return self._handles[index]

    def __len__(self) -> int:
        return len(self._handles)

    def results(self, timeout: float | None = None) -> list[R]:
        """All results, in the order of submission; waits for them, at most `timeout` seconds.

        Raises what the first job that has no result raises.
        """

        async def gather() -> list[R]:
            async with asyncio.timeout(timeout):
                return [await handle.asynchronous.result() for handle in self._handles]

        return self._queue.run(gather())

    def as_completed(self, timeout: float | None = None) -> Iterator[JobHandle[R]]:
        """Each job as soon as it is over, however it ended. Raises TimeoutError after `timeout` seconds."""
        over: SimpleQueue[JobHandle[R] | None] = SimpleQueue()

        async def watch(handle: JobHandle[R]) -> None:
            await handle.asynchronous.over()
            over.put(handle)

        async def watch_all() -> None:
            try:
                async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
                    for handle in self._handles:
                        group.create_task(watch(handle))
            finally:
                over.put(None)

        watching = self._queue.start(watch_all())
        try:
            while (handle := over.get()) is not None:
                yield handle
            watching.result()
        finally:
            watching.cancel()

    def __repr__(self) -> str:
        counts = Counter(handle.asynchronous.known.status for handle in self._handles)
        shown = ", ".join(f"{n} {status}" for status, n in counts.items())
        return f"<{len(self)} jobs: {shown}>"


class QueuedTask(Task[P, R]):
    """A task that can submit itself, once it belongs to a queue."""

    _queue: TaskQueue | None = None

    def attach(self, queue: TaskQueue) -> None:
        """Make `submit` and `map` go to `queue`."""
        self._queue = queue

    @property
    def queue(self) -> TaskQueue:
        if self._queue is None:
            raise TaskDefinitionError(
                f"task {self.name!r} belongs to no queue yet: call queue.include({self.__module__!r}), "
                "or decorate it with @queue.task"
            )
        return self._queue

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Submit a job: accepted, and journaled by MongoDB, when this returns.

        Raises InvalidPayload when the arguments do not fit, StoreUnavailable when MongoDB does not take it, and
        OutcomeUnknown when it may have.
        """
        return self.queue.submit_call(self.bind(*args, **kwargs))

    delay = submit

    def map(self, values: Iterable[Any]) -> JobList[R]:
        """A job for each value of the first parameter, submitted in bulk."""
        bind = cast(Callable[[Any], Call[R]], self.bind)
        return self.queue.submit_many(bind(value) for value in values)

    def options(
        self,
        *,
        priority: Priority | None = None,
        delay_s: float = 0.0,
        max_attempts: int | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        tags: Iterable[str] = (),
    ) -> Configured[P, R]:
        """The same task with other options for the jobs that are submitted through what this returns."""
        return Configured(
            self,
            CallOptions(
                priority=priority,
                delay_s=delay_s,
                max_attempts=max_attempts,
                timeout_s=timeout_s,
                idempotency_key=idempotency_key,
                tags=tuple(tags),
            ),
        )
