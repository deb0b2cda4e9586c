"""TestQueue: a queue for tests."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, overload

from typing_extensions import override

from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.client.handles import JobHandle, JobList
from dtqkit.client.queue import TaskQueue
from dtqkit.model.errors import QueueClosed, WrongLoop
from dtqkit.model.settings import Settings
from dtqkit.model.values import shown
from dtqkit.tasks.task import Task
from dtqkit.testing.replace import stand_in, stand_in_async

if TYPE_CHECKING:
    from dtqkit.testing.core import MemoryCore
    from dtqkit.testing.memory import Memory

R = TypeVar("R")
T = TypeVar("T")


class TestQueue(TaskQueue):
    """A TaskQueue for tests: in memory, with a virtual clock, and with a worker that works when it is asked to.

        queue = TestQueue()

        @queue.task(max_attempts=5, backoff_s=3_600)
        def sync(customer: int) -> None: ...

        sync.submit(7)
        queue.run_until_idle()          # the first attempt
        queue.advance(days=1)           # the others, each at its time

    The code that checks, decides and records is the one that works on the real stores. Time stands still but for
    `advance`, and for what waits: `job.result(timeout=60)` runs what becomes due within that minute. A function runs in
    the thread of the test; a coroutine on a loop of the queue's own, where a sleep takes no time.
    """

    __test__ = False  # it is no class of tests, which pytest would take it for by its name

    def __init__(
        self, clock: datetime | None = None, *, inline: bool = False, settings: Settings | None = None
    ) -> None:
        """`clock`: the time at the start, now by default. `inline`: a submit runs the job before it returns."""
        if clock is not None and (not isinstance(clock, datetime) or clock.tzinfo is None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                f"clock is {shown(clock)}; it is a time with a zone, such as datetime(2026, 1, 31, tzinfo=UTC)"
            )
        super().__init__(Settings() if settings is None else settings)
        self._start: Final = datetime.now(UTC) if clock is None else clock
        self._made: MemoryCore | None = None
        self._replaced = ExitStack()
        self._bridged = False
        self._inline = inline
        self._where = "in memory"

    # -- what a test does

    @property
    def inline(self) -> bool:
        """Whether a submit runs what is due before it returns: the job, unless it is delayed."""
        return self._inline

    @inline.setter
    def inline(self, inline: bool) -> None:
        self._inline = self.core.inline = inline

    def now(self) -> datetime:
        """The time by the queue's clock."""
        return self.core.memory.clock.now()

    def run_until_idle(self) -> None:
        """Run what is due, and what that submits, until nothing is. Retries and delayed jobs are not due yet."""
        self.run(self.core.memory.runner.until_idle())

    def advance(
        self,
        delta: timedelta = timedelta(),
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
    ) -> None:
        """Let time pass: what becomes due runs, each at its time. What is due now runs first."""
        delta += timedelta(
            weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds
        )
        if delta < timedelta():
            raise ValueError(f"the clock cannot go back: {delta}")
        memory = self.core.memory
        self.run(memory.runner.until_time(memory.clock.elapsed_s + delta.total_seconds()))

    @overload
    def submitted(self, task: Task[..., R, Any], /) -> JobList[R]: ...
    @overload
    def submitted(self, task: str | None = None, /) -> JobList[Any]: ...
    def submitted(self, task: Task[..., Any, Any] | str | None = None, /) -> JobList[Any]:
        """The jobs of a task, or of all, in the order in which they were submitted."""
        name = task.name if isinstance(task, Task) else task
        return JobList(self, [self._handle(job) for job in self.core.memory.jobs_of(name)])

    def _handle(self, job: Any) -> JobHandle[Any]:
        known = self.registry.find(job.task)
        return JobHandle(self, AsyncJobHandle(self.core, job, None if known is None else known.decode_result))

    def lose_worker(self, job: JobHandle[Any]) -> None:
        """Run one attempt of `job`, which is due, on a worker that is lost before it can record the end.

        What the task did is done, and it will be done again: as after a kill -9 in production. Raises JobConflict when
        the job is not due.
        """
        self.run(self.core.memory.runner.lose_worker(job.refresh().record))

    def replace(self, queue: TaskQueue | AsyncTaskQueue) -> Self:
        """Stand in for `queue` until this one is closed: what goes there comes here. Returns itself.

        Its tasks and hooks are as they are, and the code that uses it needs no change. An AsyncTaskQueue that is made
        meanwhile, in a task for example, has its jobs here too.
        """
        from dtqkit.testing.bridge import Bridge, bridged

        if isinstance(queue, AsyncTaskQueue):
            self._replaced.enter_context(stand_in_async(queue, self, Bridge(self.core, queue.registry)))
        else:
            self._replaced.enter_context(stand_in(queue, self))
        if not self._bridged:
            self._replaced.enter_context(bridged(self.core))
            self._bridged = True
        return self

    # -- how a TaskQueue reaches its jobs

    @property
    @override
    def core(self) -> MemoryCore:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> MemoryCore:
        from dtqkit.testing.core import MemoryCore
        from dtqkit.testing.loop import VirtualClock
        from dtqkit.testing.memory import Memory

        memory = Memory(self.settings, self.registry, self.hooks, VirtualClock(self._start))
        core = MemoryCore(self.settings, self.registry, self.hooks, memory)
        core.inline = self._inline
        return core

    @override
    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        self._check_open(work)
        return self.core.memory.turns.start(work)

    @override
    def run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._would_block():
            work.close()
            raise WrongLoop(
                "a TestQueue would block the event loop that it is called from: await asyncio.to_thread(…) with the "
                "call, or use AsyncTaskQueue"
            )
        self._check_open(work)
        return self.core.memory.turns.run(work)

    def _check_open(self, work: Coroutine[Any, Any, Any]) -> None:
        if self._closed:
            work.close()
            raise QueueClosed("this queue is closed")

    @override
    def _would_block(self) -> bool:
        return super()._would_block() or self.core.memory.turns.here()

    @override
    def freshen(self, handles: Sequence[AsyncJobHandle[Any]]) -> None:
        self.core.refresh(handle for handle in handles if not handle.known.is_final)

    @override
    def catch_up(self, handles: Sequence[AsyncJobHandle[Any]]) -> bool:
        self.freshen(handles)
        return True

    @override
    def require_workers_for(self, tasks: Iterable[Task[..., Any, Any]]) -> None:
        """It has a worker, in this process."""

    @override
    def close(self) -> None:
        """Leave the lifespan, end what runs, and stand in for no queue any more."""
        if self._closed:
            return
        self._replaced.close()
        try:
            if self._made is not None:
                self._close_memory(self._made.memory)
        finally:
            super().close()

    def _close_memory(self, memory: Memory) -> None:
        try:
            memory.turns.run(memory.close())
        finally:
            memory.turns.close()

    @override
    def leave(self) -> None:
        self._closed = True

    def __repr__(self) -> str:
        return f"<TestQueue at {self.now():%Y-%m-%d %H:%M:%S} UTC>" if not self._closed else "<TestQueue, closed>"
