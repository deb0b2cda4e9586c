"""Handles: a job, the jobs of one call, a page of a listing. They drive an asynchronous handle on the queue's loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from dtqkit.control import Page
from dtqkit.jobs import STATUSES, Job, Status
from dtqkit.queue import AsyncJobHandle

if TYPE_CHECKING:
    from dtqkit.sync import TaskQueue

R = TypeVar("R")


class JobHandle(Generic[R]):
    """A job, to be waited for (`result()`) or awaited. Attributes never do I/O: they tell what was last heard."""

    __slots__ = ("__weakref__", "_queue", "asynchronous")

    def __init__(self, queue: TaskQueue, handle: AsyncJobHandle[R]) -> None:
        self._queue = queue
        #: The asynchronous handle, which lives on the queue's private loop.
        self.asynchronous: AsyncJobHandle[R] = handle

    @property
    def id(self) -> str:
        return self.asynchronous.id

    @property
    def record(self) -> Job:
        """The job as it was last heard of; `refresh()` asks."""
        self._queue.soon(self.asynchronous.keep_informed)
        return self.asynchronous.known

    @property
    def status(self) -> Status:
        return self.record.status

    def result(self, timeout: float | None = None) -> R:
        """The task's result; waits for it, at most `timeout` seconds.

        Raises JobFailed with the attempt's traceback, JobCancelled, or TimeoutError.
        """
        return self._queue.run(self.asynchronous.result(timeout))

    def __await__(self) -> Generator[Any, None, R]:
        return asyncio.wrap_future(self._queue.start(self.asynchronous.result())).__await__()

    def refresh(self) -> Self:
        """Ask for the job as it is now."""
        self._queue.run(self.asynchronous.refresh())
        return self

    def cancel(self) -> Self:
        """Cancel it while it waits; ask it to stop while it runs. Raises JobConflict when it is over."""
        self._queue.run(self.asynchronous.cancel())
        return self

    def requeue(self) -> Self:
        """Give the failed job another life. Raises JobConflict when it is not failed."""
        self._queue.run(self.asynchronous.requeue())
        return self

    def log(self) -> tuple[str, ...]:
        """The lines that it has logged so far."""
        return self._queue.run(self.asynchronous.log())

    def __repr__(self) -> str:
        return repr(self.asynchronous)

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import job_card

        self._queue.catch_up([self.asynchronous])
        return job_card(self.asynchronous.known)


class JobPage(Page[Job], frozen=True, kw_only=True):
    """A page of jobs that shows itself as a table in a notebook."""

    def __repr__(self) -> str:
        return f"<{_counted([job.status for job in self.items])}{', and more' if self.cursor else ''}>"

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import jobs_table

        return jobs_table(self.items, self.cursor is not None)


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
            limit = asyncio.timeout(timeout)
            try:
                async with limit:
                    await asyncio.gather(*(handle.asynchronous.over() for handle in self._handles))
            except TimeoutError:
                raise self._late(timeout, limit) from None
            return [await handle.asynchronous.result() for handle in self._handles]

        return self._queue.run(gather())

    def _late(self, timeout: float | None, limit: asyncio.Timeout) -> TimeoutError:
        if timeout is None or not limit.expired():
            return TimeoutError("waiting for the jobs was given up")
        return TimeoutError(f"not all are over after {timeout:g} s; last heard of: {_counted(self._statuses())}")

    def _statuses(self) -> list[Status]:
        """As they were last heard of."""
        return [handle.asynchronous.known.status for handle in self._handles]

    def as_completed(self, timeout: float | None = None) -> Iterator[JobHandle[R]]:
        """Each job as soon as it is over, however it ended. Raises TimeoutError after `timeout` seconds."""
        over: SimpleQueue[JobHandle[R] | None] = SimpleQueue()

        async def watch(handle: JobHandle[R]) -> None:
            await handle.asynchronous.over()
            over.put(handle)

        async def watch_all() -> None:
            limit = asyncio.timeout(timeout)
            try:
                async with limit, asyncio.TaskGroup() as group:
                    for handle in self._handles:
                        group.create_task(watch(handle))
            except TimeoutError:
                raise self._late(timeout, limit) from None
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
        return f"<{_counted(self._statuses())}>"

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import jobs_bar

        self._queue.catch_up([handle.asynchronous for handle in self._handles])
        return jobs_bar(self._statuses())


def _counted(statuses: Sequence[Status]) -> str:
    """`4 jobs: 1 running, 3 completed`."""
    counts = Counter(statuses)
    shown = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{len(statuses)} job{'s' if len(statuses) > 1 else ''}: {shown}" if shown else "no jobs"
