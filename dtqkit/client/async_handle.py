"""A job as asynchronous code holds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack

import msgspec

from dtqkit.client.ended import failure_of
from dtqkit.client.wait import POLL_S
from dtqkit.control import Control, JobRequest
from dtqkit.control.bulk import UPDATE, JobChange, UpdateRequest, changes_of
from dtqkit.control.operations import CANCEL, GET_JOB, JOB_LOG, REQUEUE
from dtqkit.model.events import ProgressEvent
from dtqkit.model.jobs import Job, Status
from dtqkit.model.values import as_payload, from_json

R = TypeVar("R")


class Follower(Protocol):
    """The queue of a handle, as far as the handle needs it."""

    @property
    def control(self) -> Control: ...

    @property
    def fresh_s(self) -> float: ...

    def follow(self, handle: AsyncJobHandle[Any]) -> None: ...

    async def until_over(self, handles: Sequence[AsyncJobHandle[Any]], timeout: float | None) -> None: ...


class AsyncJobHandle(Generic[R]):
    """A job that can be awaited. Attributes never do I/O: they show the last record that was seen.

    Reading one makes the queue look for a newer record, which is there soon after. Of two records, the one with the
    higher `rev` is right, so a failed job that is requeued, by anybody, is not failed any more.
    """

    # A batch makes many.
    __slots__ = ("__weakref__", "_asked_at", "_decode", "_job", "_news", "_queue", "was_duplicate")

    def __init__(self, queue: Follower, job: Job, decode: Callable[[Any], Any] | None = None) -> None:
        self._queue = queue
        self._job = job
        self._decode = decode
        #: Whether the submit found this job instead of making one: it is unique.
        self.was_duplicate: bool = job.was_duplicate is True
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
        return from_json(job.result) if self._decode is None else self._decode(job.result)

    async def refresh(self) -> Self:
        """Ask for the job as it is now."""
        return self._after(await self._queue.control.ask(GET_JOB, JobRequest(id=self.id)))

    async def cancel(self) -> Self:
        """Cancel it at once while it waits; ask it to stop while it runs. Raises JobConflict when it is over."""
        return self._after(await self._queue.control.ask(CANCEL, JobRequest(id=self.id)))

    async def update(self, changes: JobChange | None = None, /, **more: Unpack[JobChange]) -> Self:
        """Change the job while it waits: priority, delay_s, tags, or its whole payload. See JobHandle.update."""
        given: dict[str, Any] = {**(changes or {}), **more}
        payload = given.pop("payload", None)
        request = UpdateRequest(
            id=self.id,
            payload=None if payload is None else as_payload(self._job.task, payload),
            **msgspec.structs.asdict(changes_of(given, of_one=True)),
        )
        return self._after(await self._queue.control.ask(UPDATE, request))

    async def requeue(self) -> Self:
        """Put the failed job back into its lane."""
        return self._after(await self._queue.control.ask(REQUEUE, JobRequest(id=self.id)))

    def _after(self, job: Job) -> Self:
        self.on_job(job)
        return self

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
        """Take a record, unless a newer one has been seen. It may come without its payload, which seldom changes."""
        if job.rev >= self._job.rev:
            if not job.payload and self._job.payload:
                job = msgspec.structs.replace(job, payload=self._job.payload)
            self._job = self._with_news(job)

    def on_progress(self, news: ProgressEvent) -> None:
        if news.claim_number < self._job.claim_number:
            return
        if (old := self._news) is not None and old.claim_number == news.claim_number:
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
        if news is None or news.claim_number != job.claim_number or job.status != "running":
            return job
        job = msgspec.structs.replace(job, started_at=job.started_at or news.started_at)
        if job.progress is not None or news.progress is None:
            return job
        return msgspec.structs.replace(job, progress=news.progress, progress_message=news.message)
