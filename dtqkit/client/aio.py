"""AsyncTaskQueue: the typed face of a queue for asynchronous code, over whoever implements Control."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar, Unpack

import msgspec

from dtqkit.client.ended import failure_of
from dtqkit.client.hooking import HookedAsyncQueue
from dtqkit.client.late import said_late, why_waiting
from dtqkit.client.lending import lending
from dtqkit.client.wait import CHUNK, FEW, POLL_S, Waiter, records
from dtqkit.control import (
    AttemptRow,
    Control,
    DeadLetterFilters,
    DeadLetterQuery,
    HistoryFilters,
    HistoryQuery,
    JobFilters,
    JobQuery,
    JobRequest,
    JobsRequest,
    Page,
    Requeued,
    query_of,
    submission_of,
)
from dtqkit.control.operations import (
    CANCEL,
    DEAD_LETTERS,
    DEPTHS,
    GET_JOB,
    HISTORY,
    JOB_LOG,
    LIST_JOBS,
    REQUEUE,
    REQUEUE_DEAD,
    STATUSES,
    SUBMIT,
    SUBMIT_MANY,
    TASKS,
    WORKERS,
)
from dtqkit.model.batches import batch_refused
from dtqkit.model.errors import DtqError, JobConflict, JobNotFound, WaitTimeout
from dtqkit.model.events import Depths, Heartbeat, ProgressEvent
from dtqkit.model.jobs import Job, Status
from dtqkit.model.settings import Settings
from dtqkit.model.values import from_wire
from dtqkit.support.driver import abandon
from dtqkit.tasks.hooks import Hooks
from dtqkit.tasks.middleware import around_submit
from dtqkit.tasks.misuse import check_call, check_task
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import Call, Task, TaskInfo

P = ParamSpec("P")
R = TypeVar("R")

#: How long a look for what is shown may take, in seconds.
LOOK_S: Final = 0.5
#: Jobs that are cancelled at the same time.
MAX_CANCELS: Final = 64


class AsyncJobHandle(Generic[R]):
    """A job that can be awaited. Attributes never do I/O: they show the last record that was seen.

    Reading one makes the queue look for a newer record, which is there soon after. Of two records, the one with the
    higher `rev` is right, so a failed job that is requeued, by anybody, is not failed any more.
    """

    # A batch makes many.
    __slots__ = ("__weakref__", "_asked_at", "_decode", "_job", "_news", "_queue")

    def __init__(self, queue: AsyncTaskQueue, job: Job, decode: Callable[[Any], Any] | None = None) -> None:
        self._queue = queue
        self._job = job
        self._decode = decode
        self._asked_at = float("-inf")
        #: What the attempt that runs has said of its progress, which its record has only at the end.
        self._news: ProgressEvent | None = None

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def record(self) -> Job:
        """The last record that was seen; `refresh()` asks for the present one."""
        if self.is_due():
            self.look_soon()
        return self._job

    @property
    def known(self) -> Job:
        """The same, without a look for a newer one."""
        return self._job

    @property
    def status(self) -> Status:
        return self.record.status

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> R:
        """The task's result; waits for it, at most `timeout` seconds.

        Raises JobFailed, JobCancelled, or WaitTimeout (a TimeoutError). Cancelling the wait leaves the job alone.
        """
        job = await self.over(timeout)
        if (error := failure_of(job)) is not None:
            raise error
        return self.decoded(job)

    async def over(self, timeout: float | None = None) -> Job:
        """The job once it is over, however it ended. Raises WaitTimeout after `timeout` seconds."""
        await self._queue.until_over([self], timeout)
        return self._job

    def decoded(self, job: Job) -> R:
        """The result of `job`, which has completed, as the task returned it."""
        return from_wire(job.result) if self._decode is None else self._decode(job.result)

    async def refresh(self) -> Job:
        """Ask for the job as it is now."""
        self.on_job(await self._queue.control.ask(GET_JOB, JobRequest(id=self.id)))
        return self._job

    async def cancel(self) -> Job:
        """Cancel it at once while it waits; ask it to stop while it runs. Raises JobConflict when it is over."""
        self.on_job(await self._queue.control.ask(CANCEL, JobRequest(id=self.id)))
        return self._job

    async def requeue(self) -> Job:
        """Put the failed job back into its lane."""
        self.on_job(await self._queue.control.ask(REQUEUE, JobRequest(id=self.id)))
        return self._job

    async def log(self) -> tuple[str, ...]:
        """The lines that it has logged so far."""
        return (await self._queue.control.ask(JOB_LOG, JobRequest(id=self.id))).lines

    def __repr__(self) -> str:
        return f"<job {self._job.id} {self._job.task} {self._job.status}>"

    # -- follows the record

    @property
    def rev(self) -> int:
        """Of the last record that was seen."""
        return self._job.rev

    def is_due(self) -> bool:
        """Whether a look for a newer record is due; if so, it is not again for a moment. Asked from any thread."""
        if self._job.is_final:
            return False
        now = time.monotonic()
        if now - self._asked_at < (POLL_S if self._job.is_over else self._queue.fresh_s):
            return False
        self._asked_at = now
        return True

    def look_soon(self) -> None:
        """Look for a newer record, and for others whenever events say so. On the queue's loop."""
        self._queue.follow(self)

    def on_job(self, job: Job) -> None:
        """Take a record, unless a newer one has been seen. It may come without its payload, which never changes."""
        if job.rev >= self._job.rev:
            if not job.payload and self._job.payload:
                job = msgspec.structs.replace(job, payload=self._job.payload)
            self._job = self._with_news(job)

    def on_progress(self, news: ProgressEvent) -> None:
        if news.token < self._job.token:
            return
        if (old := self._news) is not None and old.token == news.token:
            news = msgspec.structs.replace(
                news,
                started_at=news.started_at or old.started_at,
                progress=old.progress if news.progress is None else news.progress,
                message=old.message if news.progress is None else news.message,
            )
        self._news = news
        self._job = self._with_news(msgspec.structs.replace(self._job, progress=None))

    def _with_news(self, job: Job) -> Job:
        news = self._news
        if news is None or news.token != job.token or job.status != "running":
            return job
        job = msgspec.structs.replace(job, started_at=job.started_at or news.started_at)
        if job.progress is not None or news.progress is None:
            return job
        return msgspec.structs.replace(job, progress=news.progress, progress_message=news.message)


class AsyncTaskQueue(HookedAsyncQueue):
    """A queue on the event loop that uses it first.

        async with AsyncTaskQueue() as queue:
            handle = await queue.submit(render, 3, dpi=200)
            page = await handle

    `settings` default to the environment's; `control` is for another way to reach the queue than its stores.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        registry: TaskRegistry | None = None,
        control: Control | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.registry: TaskRegistry = TaskRegistry() if registry is None else registry
        super().__init__(hooks)
        self._settings = settings
        self.control: Control = self._direct() if control is None else control
        self._waiter = Waiter(self.control)

    def _direct(self) -> Control:
        from dtqkit.direct import DirectControl  # with the drivers: half of the time that an import would take

        return DirectControl(self._settings or Settings.default(), self.registry)

    def after_fork(self) -> None:
        """In a forked child, before anything else."""
        abandon(self.control, self._waiter)

    def reconnect(self, control: Control | None) -> None:
        """In a forked child: connections of its own, at the next use. Handles go on as they are."""
        self.control = self._direct() if control is None else control
        self._waiter = Waiter(self.control)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Jobs go on."""
        await self._waiter.close()
        await self.control.close()

    # -- submit

    async def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> AsyncJobHandle[R]:
        """Submit a job of `task`: accepted, and journaled by MongoDB, when this returns.

        Raises InvalidPayload, StoreUnavailable, or OutcomeUnknown.
        """
        check_task(task)
        return await self.submit_call(task.bind(*args, **kwargs))

    async def submit_call(self, call: Call[R]) -> AsyncJobHandle[R]:
        """Submit what `task.bind(...)` or `task.options(...).bind(...)` made."""
        self._register(call)
        submit = partial(self.control.ask, SUBMIT, submission_of(call))
        job = await (around_submit(chain, [call], submit) if (chain := self.hooks.around_submit) else submit())
        return AsyncJobHandle(self, job, call.task.decode_result)

    async def submit_many(self, calls: Iterable[Call[R]]) -> list[AsyncJobHandle[R]]:
        """Submit many at once, in bulk. Raises BatchRefused when some are refused; it has the handles of the others."""
        wanted = list(calls)
        for call in wanted:
            self._register(call)
        submit = partial(self._submit_all, wanted)
        return await (around_submit(chain, wanted, submit) if (chain := self.hooks.around_submit) else submit())

    async def _submit_all(self, wanted: Sequence[Call[R]]) -> list[AsyncJobHandle[R]]:
        items = await self.control.ask(SUBMIT_MANY, tuple(submission_of(call) for call in wanted))
        accepted: list[AsyncJobHandle[R]] = []
        refused: list[tuple[int, DtqError]] = []
        for i, (item, call) in enumerate(zip(items, wanted, strict=True)):
            if item.job is not None:
                accepted.append(AsyncJobHandle(self, item.job, call.task.decode_result))
            elif item.refused is not None:
                refused.append((i, item.refused.error))
        if refused:
            raise batch_refused(accepted, refused)
        return accepted

    def _register(self, call: Call[Any]) -> None:
        check_call(call)
        self.registry.add(call.task)

    # -- look

    async def get(self, job_id: str) -> AsyncJobHandle[Any]:
        """A handle on an existing job. Raises JobNotFound."""
        return AsyncJobHandle(self, await self.control.ask(GET_JOB, JobRequest(id=job_id)))

    async def jobs(self, **filters: Unpack[JobFilters]) -> Page[Job]:
        """Jobs, newest first: filters status, task, priority, worker, since, q; limit; cursor."""
        return await self.control.ask(LIST_JOBS, query_of(JobQuery, filters))

    async def dead_letters(self, **filters: Unpack[JobFilters]) -> Page[Job]:
        """Failed jobs, with the same filters."""
        return await self.control.ask(DEAD_LETTERS, query_of(JobQuery, filters))

    async def requeue_dead(self, **filters: Unpack[DeadLetterFilters]) -> Requeued:
        """Requeue dead letters: filters task, priority, since, ids; `dry_run` only counts."""
        return await self.control.ask(REQUEUE_DEAD, query_of(DeadLetterQuery, filters))

    async def depths(self) -> Depths:
        """How many jobs wait in each lane, and run."""
        return await self.control.ask(DEPTHS)

    async def workers(self) -> Sequence[Heartbeat]:
        """Live workers."""
        return await self.control.ask(WORKERS)

    async def tasks(self) -> Sequence[TaskInfo]:
        """What the workers have published."""
        return await self.control.ask(TASKS)

    def history(self, **filters: Unpack[HistoryFilters]) -> AsyncIterator[AttemptRow]:
        """A row an attempt: filters since, task, status; columns says whether payload, tags and result are wanted."""
        return self._history(query_of(HistoryQuery, filters))

    async def _history(self, query: HistoryQuery) -> AsyncIterator[AttemptRow]:
        async for row in await self.control.ask(HISTORY, query):
            yield row

    # -- follow

    @property
    def fresh_s(self) -> float:
        """How old the record of a handle may be when it is read, in seconds."""
        return self._waiter.fresh_s

    def follow(self, handle: AsyncJobHandle[Any]) -> None:
        """Give `handle` the job's record soon, and again when it changes."""
        self._waiter.follow(handle.id, handle)

    def freshen(self, handles: Iterable[AsyncJobHandle[Any]]) -> None:
        """The same for those whose record may be old."""
        for handle in handles:
            if handle.is_due():
                self.follow(handle)

    async def look(self, handles: Iterable[AsyncJobHandle[Any]]) -> None:
        """Give these handles their present records. Raises StoreUnavailable."""
        by_id: dict[str, list[AsyncJobHandle[Any]]] = {}
        for handle in handles:
            by_id.setdefault(handle.id, []).append(handle)
        for ids in _chunks(list(by_id)):
            changed = ids
            if len(ids) > FEW:
                seen = await self.control.ask(STATUSES, JobsRequest(ids=ids))
                changed = [s.id for s in seen if any(handle.rev < s.rev for handle in by_id[s.id])]
            async for job in records(self.control, changed):
                for handle in by_id[job.id]:
                    handle.on_job(job)

    async def cancel_all(self, handles: Sequence[AsyncJobHandle[Any]]) -> int:
        """Cancel all that are not over; how many that were."""
        at_once = asyncio.Semaphore(MAX_CANCELS)

        async def cancel(handle: AsyncJobHandle[Any]) -> bool:
            async with at_once:
                try:
                    await handle.cancel()
                except (JobConflict, JobNotFound):  # it is over, or gone
                    return False
            return True

        return sum(await asyncio.gather(*(cancel(handle) for handle in handles if not handle.known.is_final)))

    async def until_over(
        self,
        handles: Sequence[AsyncJobHandle[Any]],
        timeout: float | None = None,
        heard: Callable[[AsyncJobHandle[Any]], None] | None = None,
        *,
        lend: bool = True,
    ) -> None:
        """Until all these jobs are over; `heard` gets each as soon as it is. Raises WaitTimeout, which says why.

        `lend`: a job that waits lends its slot meanwhile.
        """
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await self._until_over(handles, heard, lend)
        except TimeoutError:
            if timeout is None or not limit.expired():
                raise
            late = [handle for handle in handles if not handle.known.is_over]
            workers = await self._bounded_look(late)
            if any(not handle.known.is_over for handle in handles):
                raise WaitTimeout(said_late([handle.known for handle in handles], timeout, workers)) from None

    async def _until_over(
        self, handles: Sequence[AsyncJobHandle[Any]], heard: Callable[[AsyncJobHandle[Any]], None] | None, lend: bool
    ) -> None:
        failed = [handle for handle in handles if handle.known.status == "failed"]
        if failed:  # they may have been requeued since
            await self._bounded_look(failed, workers=False)
        left: dict[str, list[AsyncJobHandle[Any]]] = {}

        def over(job: Job) -> None:
            for handle in left[job.id]:
                handle.on_job(job)
            if all(handle.known.is_over for handle in left[job.id]):
                for handle in left.pop(job.id):
                    if heard is not None:
                        heard(handle)

        for handle in handles:
            if not handle.known.is_over:
                left.setdefault(handle.id, []).append(handle)
            elif heard is not None:
                heard(handle)
        with lending(left) if lend else nullcontext():
            while left:
                await self._waiter.wait(list(left), over)
                if not left:  # a failed job may have been requeued while the others were waited for
                    heard = None
                    for handle in handles:
                        if not handle.known.is_over:
                            left.setdefault(handle.id, []).append(handle)

    async def why_waiting(self, jobs: Sequence[Job]) -> str:
        """Why those that wait are not taken: no live worker knows their task, say. Empty when there is no such reason,
        or when the workers cannot be asked in LOOK_S."""
        workers = await self._bounded_look(())
        return "" if workers is None else why_waiting(jobs, workers)

    async def _live_workers(self) -> Sequence[Heartbeat]:
        """Those that are not silent: a worker that was killed is listed until the leader has noticed."""
        silence_s = (self._settings or Settings()).silence_s
        return [worker for worker in await self.workers() if worker.age_s < silence_s]

    async def _bounded_look(
        self, handles: Sequence[AsyncJobHandle[Any]], *, workers: bool = True
    ) -> Sequence[Heartbeat] | None:
        """Look at these jobs, and at the workers; None when that cannot be had in LOOK_S."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self.look(handles)
                return await self._live_workers() if workers else None
        except (DtqError, TimeoutError):
            return None


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
