"""AsyncTaskQueue: the typed face of a queue for asynchronous code, over whoever implements Control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, cast

import msgspec

from dtqkit.control import (
    AttemptRow,
    BatchItem,
    Bound,
    Control,
    DeadLetterQuery,
    HistoryQuery,
    JobQuery,
    Page,
    Requeued,
)
from dtqkit.errors import DtqError, InvalidQuery, JobCancelled, JobFailed
from dtqkit.events import Depths, Heartbeat, JobEvent, ProgressEvent
from dtqkit.jobs import Job, Status
from dtqkit.settings import Settings
from dtqkit.tasks import Call, Task, TaskInfo, TaskRegistry
from dtqkit.values import from_wire
from dtqkit.wait import Waiter

P = ParamSpec("P")
R = TypeVar("R")


class AsyncJobHandle(Generic[R]):
    """A job that can be awaited. Attributes never do I/O: they tell what was last heard."""

    # A batch makes many.
    __slots__ = ("__weakref__", "_decode", "_job", "_queue", "follows")

    def __init__(self, queue: AsyncTaskQueue, job: Job, decode: Callable[[Any], Any] | None = None) -> None:
        self._queue = queue
        self._job = job
        self._decode = decode
        #: Whether it hears of the job's events by itself.
        self.follows: bool = False

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def record(self) -> Job:
        """The job as it was last heard of; `refresh()` asks."""
        self.keep_informed()
        return self._job

    @property
    def known(self) -> Job:
        """The same, without listening for more from now on."""
        return self._job

    @property
    def status(self) -> Status:
        return self.record.status

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> R:
        """The task's result; waits for it, at most `timeout` seconds.

        Raises JobFailed, JobCancelled, or TimeoutError. Cancelling the wait leaves the job alone.
        """
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                result = result_of(await self.over())
        except TimeoutError:
            if timeout is None or not limit.expired():
                raise
            raise TimeoutError(
                f"job {self.id} ({self._job.task}) is not over after {timeout:g} s; last heard of: {self._job.status}"
            ) from None
        return from_wire(result) if self._decode is None else self._decode(result)

    async def over(self) -> Job:
        """The job once it is over, however it ended."""
        if not self._job.is_over:
            self.on_job(await self._queue.wait_for(self.id))
        return self._job

    async def refresh(self) -> Job:
        """Ask for the job as it is now."""
        self.on_job(await self._queue.control.get(self.id))
        return self._job

    async def cancel(self) -> Job:
        """See Control.cancel."""
        self.on_job(await self._queue.control.cancel(self.id))
        return self._job

    async def requeue(self) -> Job:
        """Give the failed job another life."""
        self._job = await self._queue.control.requeue(self.id)
        self.follows = False
        return self._job

    async def log(self) -> tuple[str, ...]:
        """The lines that it has logged so far."""
        return (await self._queue.control.log(self.id)).lines

    def __repr__(self) -> str:
        return f"<job {self._job.id} {self._job.task} {self._job.status}>"

    # -- follows events

    def keep_informed(self) -> None:
        """Listen for the job's events from now on."""
        if not self.follows and not self._job.is_over:
            self.follows = True
            self._queue.follow(self.id, self)

    def on_event(self, event: JobEvent | ProgressEvent) -> None:
        if isinstance(event, JobEvent):
            if event.rev > self._job.rev:
                self._job = msgspec.structs.replace(
                    self._job,
                    status=event.status,
                    rev=event.rev,
                    worker=event.worker,
                    cancel_requested=event.cancel_requested,
                )
        elif event.progress is not None:
            self._job = msgspec.structs.replace(self._job, progress=event.progress, progress_message=event.message)

    def on_job(self, job: Job) -> None:
        if job.rev >= self._job.rev or job.is_over:
            self._job = job


def result_of(job: Job) -> Any:
    """The result of a job that is over. Raises JobFailed or JobCancelled."""
    if job.status == "completed":
        return job.result
    if job.status == "cancelled":
        raise JobCancelled(job.id, job.task)
    error = job.error
    if error is None:
        raise JobFailed(job.id, job.task, "Unknown", "the record does not say why")
    raise JobFailed(job.id, job.task, error.type, error.message, error.traceback)


class AsyncTaskQueue:
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
    ) -> None:
        self.registry: TaskRegistry = TaskRegistry() if registry is None else registry
        if control is None:
            from dtqkit.direct import DirectControl  # with the drivers: half of the time that an import would take

            control = DirectControl(settings or Settings.default(), self.registry)
        self.control: Control = control
        self._waiter = Waiter(control)

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
        return await self.submit_call(task.bind(*args, **kwargs))

    async def submit_call(self, call: Call[R]) -> AsyncJobHandle[R]:
        """Submit what `task.bind(...)` or `task.options(...).bind(...)` made."""
        self._register(call)
        return AsyncJobHandle(self, await self.control.submit(submission_of(call)), call.task.decode_result)

    async def submit_many(self, calls: Iterable[Call[R]]) -> list[AsyncJobHandle[R]]:
        """Submit many at once, in bulk. Raises at the first that is refused, after the others were accepted."""
        wanted = list(calls)
        for call in wanted:
            self._register(call)
        items = await self.control.submit_many([submission_of(call) for call in wanted])
        jobs = jobs_of(items)
        return [AsyncJobHandle(self, job, c.task.decode_result) for job, c in zip(jobs, wanted, strict=True)]

    def _register(self, call: Call[Any]) -> None:
        self.registry.add(call.task)

    # -- look

    async def get(self, job_id: str) -> AsyncJobHandle[Any]:
        """A handle on an existing job. Raises JobNotFound."""
        return AsyncJobHandle(self, await self.control.get(job_id))

    async def jobs(self, **filters: Any) -> Page[Job]:
        """Jobs, newest first: filters status, task, priority, worker, since, q; limit; cursor."""
        return await self.control.jobs(query_of(JobQuery, filters))

    async def dead_letters(self, **filters: Any) -> Page[Job]:
        """Failed jobs, with the same filters."""
        return await self.control.dead_letters(query_of(JobQuery, filters))

    async def requeue_dead(self, **filters: Any) -> Requeued:
        """Give dead letters another life: filters task, priority, since, ids; `dry_run` only counts."""
        return await self.control.requeue_dead(query_of(DeadLetterQuery, filters))

    async def depths(self) -> Depths:
        """How many jobs wait in each lane, and run."""
        return await self.control.depths()

    async def workers(self) -> Sequence[Heartbeat]:
        """Live workers."""
        return await self.control.workers()

    async def tasks(self) -> Sequence[TaskInfo]:
        """What the workers have published."""
        return await self.control.tasks()

    def history(self, **filters: Any) -> AsyncIterator[AttemptRow]:
        """A row an attempt: filters since, task, status."""
        return self.control.history(query_of(HistoryQuery, filters))

    def wait_for(self, job_id: str) -> Awaitable[Job]:
        """The job once it is over."""
        return self._waiter.wait(job_id)

    def follow(self, job_id: str, follower: AsyncJobHandle[Any]) -> None:
        """Keep a handle informed."""
        self._waiter.follow(job_id, follower)


def submission_of(call: Call[Any]) -> Bound:
    options = call.options
    return Bound(
        task=call.task.name,
        payload=call.payload,
        priority=options.priority,
        delay_s=options.delay_s,
        max_attempts=options.max_attempts,
        timeout_s=options.timeout_s,
        idempotency_key=options.idempotency_key,
        tags=options.tags,
    )


def jobs_of(items: Sequence[BatchItem]) -> list[Job]:
    """The jobs of a batch; DtqError when one was refused."""
    refused = [(i, item.refused) for i, item in enumerate(items) if item.refused is not None]
    if refused:
        i, why = refused[0]
        raise DtqError(
            f"{len(refused)} of {len(items)} jobs were refused (the others are accepted); number {i}: {why.detail}"
        )
    return [cast(Job, item.job) for item in items]


Q = TypeVar("Q", JobQuery, DeadLetterQuery, HistoryQuery)


def query_of(kind: type[Q], filters: dict[str, Any]) -> Q:
    """The checked record of keyword filters; InvalidQuery, which names the filter, when one is wrong."""
    given = {name: value for name, value in filters.items() if value is not None}
    if unknown := set(given) - set(kind.__struct_fields__):
        known = ", ".join(kind.__struct_fields__)
        raise InvalidQuery(f"there is no filter {min(unknown)!r}; there are {known}")
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise InvalidQuery(str(error)) from None
