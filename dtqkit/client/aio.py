"""AsyncTaskQueue: the typed face of a queue for asynchronous code, over any implementation of Control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, Unpack

from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.client.hooking import HookedAsyncQueue
from dtqkit.client.late import late_message, why_waiting
from dtqkit.client.lending import lending
from dtqkit.client.many import BulkAsyncQueue
from dtqkit.client.pauses import PausingAsyncQueue
from dtqkit.client.schedules import SchedulingAsyncQueue
from dtqkit.client.wait import AT_A_TIME, CHUNK, FEW, Waiter, chunks
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
    DEAD_LETTERS,
    DEPTHS,
    GET_JOB,
    HISTORY,
    LIST_JOBS,
    RECORDS,
    REQUEUE_DEAD,
    STATUSES,
    SUBMIT,
    SUBMIT_MANY,
    TASKS,
    WORKERS,
)
from dtqkit.control.pauses import PAUSES, PausesRequest
from dtqkit.model.batches import batch_refused
from dtqkit.model.errors import DtqError, JobConflict, JobNotFound, WaitTimeout
from dtqkit.model.events import Depths, Heartbeat
from dtqkit.model.jobs import Job
from dtqkit.model.pauses import Pauses
from dtqkit.model.settings import Settings
from dtqkit.support.background import abandon
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


class AsyncTaskQueue(HookedAsyncQueue, PausingAsyncQueue, BulkAsyncQueue, SchedulingAsyncQueue):
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
        submit, submission = self.control.function_of(SUBMIT), submission_of(call)
        if chain := self.hooks.around_submit:
            job = await around_submit(chain, [call], partial(submit, submission))
        else:
            job = await submit(submission)
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
        for ids in chunks(list(by_id), CHUNK):
            changed = ids
            if len(ids) > FEW:
                seen = await self.control.ask(STATUSES, JobsRequest(ids=ids))
                changed = [s.id for s in seen if any(handle.rev < s.rev for handle in by_id[s.id])]
            for some in chunks(changed, AT_A_TIME):
                for job in await self.control.ask(RECORDS, JobsRequest(ids=some, payload=False)):
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
        on_over: Callable[[AsyncJobHandle[Any]], None] | None = None,
        *,
        lend: bool = True,
    ) -> None:
        """Until all these jobs are over; `on_over` gets each as soon as it is. Raises WaitTimeout, which says why.

        `lend`: a job that waits lends its slot meanwhile.
        """
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await self._until_over(handles, on_over, lend)
        except TimeoutError:
            if timeout is None or not limit.expired():
                raise
            late = [handle for handle in handles if not handle.known.is_over]
            workers = await self._bounded_look(late)
            if any(not handle.known.is_over for handle in handles):
                known, pauses = [handle.known for handle in handles], await self._pauses_now()
                raise WaitTimeout(late_message(known, timeout, workers, pauses=pauses)) from None

    async def _until_over(
        self, handles: Sequence[AsyncJobHandle[Any]], on_over: Callable[[AsyncJobHandle[Any]], None] | None, lend: bool
    ) -> None:
        failed = [handle for handle in handles if handle.known.status == "failed"]
        if failed:  # they may have been requeued since
            await self._bounded_look(failed, workers=False)
        left: dict[str, list[AsyncJobHandle[Any]]] = {}

        def over(job_id: str) -> None:
            if all(handle.known.is_over for handle in left[job_id]):
                for handle in left.pop(job_id):
                    if on_over is not None:
                        on_over(handle)

        for handle in handles:
            if not handle.known.is_over:
                left.setdefault(handle.id, []).append(handle)
            elif on_over is not None:
                on_over(handle)
        with lending(left) if lend else nullcontext():
            while left:
                await self._waiter.wait(left, over)
                if not left:  # a failed job may have been requeued while the others were waited for
                    on_over = None
                    for handle in handles:
                        if not handle.known.is_over:
                            left.setdefault(handle.id, []).append(handle)

    async def why_waiting(self, jobs: Sequence[Job]) -> str:
        """Why those that wait are not taken: no live worker knows their task, say. Empty when there is no such reason,
        or when the workers cannot be asked in LOOK_S."""
        return (await self.why_each_waits(jobs))[0]

    async def why_each_waits(self, jobs: Sequence[Job]) -> tuple[str, frozenset[str]]:
        """The same, and the ids of those that are paused."""
        workers = await self._bounded_look(())
        if workers is None:
            return "", frozenset()
        pauses = await self._pauses_now()
        return why_waiting(jobs, workers, pauses), pauses.held(jobs)

    async def paused_by(self, job: Job) -> str:
        """Which pause holds this waiting job, since when and why; empty when none does, or when that cannot be had."""
        pause = (await self._pauses_now()).of(job)
        return "" if pause is None else pause.sentence()

    async def _pauses_now(self) -> Pauses:
        """What is paused, as far as that can be had in LOOK_S."""
        try:
            async with asyncio.timeout(LOOK_S):
                return Pauses(pauses=await self.control.ask(PAUSES, PausesRequest(counted=False)))
        except (DtqError, TimeoutError):
            return Pauses()

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
