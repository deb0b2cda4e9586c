"""Handles: a job, the jobs of one call, a page of a listing. They drive an asynchronous handle on the queue's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any, Generic, Literal, NamedTuple, Self, TypeVar, Unpack, overload

from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.client.driver import Driver
from dtqkit.client.ended import failure_of
from dtqkit.client.late import counted
from dtqkit.client.lending import lending
from dtqkit.control import Page
from dtqkit.control.bulk import JobChange
from dtqkit.model.jobs import Job, Status

R = TypeVar("R")


class JobHandle(Generic[R]):
    """A job, to be waited for (`result()`) or awaited. Attributes never do I/O: they show the last record seen.

    Reading one makes the queue look for a newer record in the background. `refresh()` waits for the present one.
    """

    __slots__ = ("__weakref__", "_queue", "asynchronous")

    def __init__(self, queue: Driver, handle: AsyncJobHandle[R]) -> None:
        self._queue = queue
        #: The asynchronous handle, which lives on the queue's private loop.
        self.asynchronous: AsyncJobHandle[R] = handle

    @property
    def id(self) -> str:
        return self.asynchronous.id

    @property
    def record(self) -> Job:
        """The last record that was seen; `refresh()` asks for the present one."""
        self._queue.freshen([self.asynchronous])
        return self.asynchronous.known

    @property
    def status(self) -> Status:
        return self.record.status

    @property
    def was_duplicate(self) -> bool:
        """Whether the submit found this job instead of making one: it is unique."""
        return self.asynchronous.was_duplicate

    def result(self, timeout: float | None = None) -> R:
        """The task's result; waits for it, at most `timeout` seconds.

        Raises JobFailed, which reads as its cause does, JobCancelled, or WaitTimeout, which says how the job stands.
        """
        if not self.asynchronous.known.is_final:
            self._queue.run(self._queue.core.until_over([self.asynchronous], timeout))
        job = self.asynchronous.known
        if (error := failure_of(job)) is not None:
            raise error  # here: a traceback has no frames below this one
        return self.asynchronous.decoded(job)

    def __await__(self) -> Generator[Any, None, R]:
        job: Job = yield from asyncio.wrap_future(self._queue.start(self.asynchronous.over())).__await__()
        if (error := failure_of(job)) is not None:
            raise error
        return self.asynchronous.decoded(job)

    def refresh(self) -> Self:
        """Ask for the job as it is now."""
        self._queue.run(self.asynchronous.refresh())
        return self

    def cancel(self) -> Self:
        """Cancel it while it waits; ask it to stop while it runs. Raises JobConflict when it is over."""
        self._queue.run(self.asynchronous.cancel())
        return self

    def update(self, changes: JobChange | None = None, /, **more: Unpack[JobChange]) -> Self:
        """Change the job while it waits: `job.update(priority="high", delay_s=0, tags=["urgent"])`.

        Or with a dict, as `update_many` takes it: `job.update({"priority": "high"})`. `payload` is all of it, as
        keyword arguments of the task; it is checked as that of a new job. Raises JobConflict when the job runs or is
        over.
        """
        self._queue.run(self.asynchronous.update(changes, **more))
        return self

    def requeue(self) -> Self:
        """Put the failed job back into its lane. Raises JobConflict when it is not failed."""
        self._queue.run(self.asynchronous.requeue())
        return self

    def log(self) -> tuple[str, ...]:
        """The lines that its last attempt has logged so far."""
        return self._queue.run(self.asynchronous.log())

    def __repr__(self) -> str:
        self._queue.catch_up([self.asynchronous])
        paused = self._queue.paused_by(self.asynchronous.known)
        return f"{repr(self.asynchronous)[:-1]}, {paused}>" if paused else repr(self.asynchronous)

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import job_card

        self._queue.catch_up([self.asynchronous])
        job = self.asynchronous.known
        return job_card(job, self._queue.paused_by(job))


class JobPage(Page[Job], frozen=True, kw_only=True):
    """A page of jobs that shows itself as a table in a notebook."""

    def __repr__(self) -> str:
        return f"<{counted([job.status for job in self.items])}{', and more' if self.cursor else ''}>"

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import jobs_table

        return jobs_table(self.items, self.cursor is not None)


class Waited(NamedTuple, Generic[R]):
    """What `JobList.wait` returns: the jobs that are over, however they ended, and those that are not."""

    done: JobList[R]
    not_done: JobList[R]


class JobList(Sequence[JobHandle[R]], Generic[R]):
    """The jobs of one `map` or `submit_many`, in the order of submission."""

    def __init__(self, queue: Driver, handles: Sequence[JobHandle[R]]) -> None:
        self._queue = queue
        self._handles = tuple(handles)
        self._seen_at = datetime.now().astimezone()

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

    @property
    def statuses(self) -> list[Status]:
        """Of each job, as its last record that was seen has it; see JobHandle."""
        handles = self._asynchronous()
        self._queue.freshen(handles)
        return [handle.known.status for handle in handles]

    @overload
    def results(self, timeout: float | None = None, *, return_exceptions: Literal[False] = False) -> list[R]: ...
    @overload
    def results(self, timeout: float | None = None, *, return_exceptions: bool) -> list[R | Exception]: ...
    def results(self, timeout: float | None = None, *, return_exceptions: bool = False) -> Sequence[R | Exception]:
        """All results, in the order of submission; waits until all jobs are over, at most `timeout` seconds.

        Raises what the first job that has no result raises; with `return_exceptions`, the list has it in that job's
        place. Raises WaitTimeout when a job is not over in time; `wait()` gives what is.
        """
        handles = self._asynchronous()
        if any(not handle.known.is_final for handle in handles):
            self._queue.run(self._queue.core.until_over(handles, timeout))
        results: list[R | Exception] = []
        for handle in handles:
            error = failure_of(handle.known)
            if error is None:
                results.append(handle.decoded(handle.known))
            elif return_exceptions:
                results.append(error)
            else:
                raise error
        return results

    def wait(self, timeout: float | None = None) -> Waited[R]:
        """Wait until all jobs are over, or for `timeout` seconds; then (done, not_done), as concurrent.futures has it.

        Never raises for how a job ended, or for the time.
        """

        async def wait() -> None:
            try:
                async with asyncio.timeout(timeout):
                    await self._queue.core.until_over(self._asynchronous())
            except TimeoutError:
                pass

        self._queue.run(wait())
        over = [handle.asynchronous.known.is_over for handle in self._handles]
        return Waited(
            JobList(self._queue, [handle for handle, done in zip(self._handles, over, strict=True) if done]),
            JobList(self._queue, [handle for handle, done in zip(self._handles, over, strict=True) if not done]),
        )

    def cancel(self) -> int:
        """Cancel all that wait, and ask those that run to stop; how many that were."""
        return self._queue.run(self._queue.core.cancel_all(self._asynchronous()))

    def as_completed(self, timeout: float | None = None) -> Iterator[JobHandle[R]]:
        """Each job as soon as it is over, however it ended. Raises WaitTimeout after `timeout` seconds."""
        over: SimpleQueue[AsyncJobHandle[R] | None] = SimpleQueue()
        left = {id(handle.asynchronous): handle for handle in self._handles}

        async def watch() -> None:
            try:
                await self._queue.core.until_over(self._asynchronous(), timeout, over.put, lend=False)
            finally:
                over.put(None)

        watching = self._queue.start(watch())
        try:
            while True:
                try:
                    ended = over.get_nowait()
                except Empty:
                    with lending([handle.id for handle in left.values()]):
                        ended = over.get()
                if ended is None:
                    break
                yield left.pop(id(ended))
            watching.result()
        finally:
            watching.cancel()

    def _asynchronous(self) -> list[AsyncJobHandle[R]]:
        return [handle.asynchronous for handle in self._handles]

    def _look(self) -> str:
        """Look at the jobs; what to add when that could not be done in time."""
        if self._queue.catch_up(self._asynchronous()):
            self._seen_at = datetime.now().astimezone()
            return ""
        return f"as of {self._seen_at:%H:%M:%S}"

    def __repr__(self) -> str:
        as_of = self._look()
        shown = counted([handle.asynchronous.known.status for handle in self._handles])
        return f"<{shown}, {as_of}>" if as_of else f"<{shown}>"

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import jobs_bar

        as_of = self._look()
        return jobs_bar([handle.asynchronous.known.status for handle in self._handles], as_of)
