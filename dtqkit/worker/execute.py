"""Run one job: as a coroutine on the worker's loop, in a child process, or in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from dtqkit.errors import DtqError
from dtqkit.jobs import Job, JobError
from dtqkit.lifecycle import Declined, Failure, Outcome, Released, Stopped, Success
from dtqkit.tasks import Task, TaskRegistry
from dtqkit.worker import wire
from dtqkit.worker.context import JobContext, enter
from dtqkit.worker.pool import Pool, hard_limit_s
from dtqkit.worker.report import TaskTimeout, checked_result, elapsed_ms, error_of
from dtqkit.worker.trail import Trail

log = logging.getLogger("dtqkit.worker")

#: Why an attempt is stopped from outside: its cancellation was asked for; the worker gives it back; it is
#: not ours any more.
StopReason = Literal["cancel", "release", "gone"]


class Attempt:
    """One attempt under way."""

    __slots__ = ("_task", "began", "context", "job", "on_begin", "on_wait", "reason", "started", "timed_out", "trail")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.trail = Trail()
        self.context = JobContext(job.id, job.task, job.token, job.worker or "", self.trail.report)
        self.reason: StopReason | None = None
        self.timed_out = False
        self.started = time.perf_counter()
        #: When the first line of the task ran, by the loop's clock; None: not yet.
        self.began: float | None = None
        self.on_begin: Callable[[], None] = _nothing
        self.on_wait: Callable[[Sequence[str]], None] = _nothing
        self._task: asyncio.Task[Any] | None = None

    def stop(self, reason: StopReason) -> None:
        """Stop it: a coroutine is cancelled, a child killed, a thread told."""
        if self.reason is None:
            self.reason = reason
            self.context.cancel()
            if self._task is not None:
                self._task.cancel()

    def begin(self) -> None:
        """The first line of the task is about to run."""
        self.began = asyncio.get_running_loop().time()
        self.on_begin()

    def time_out(self) -> None:
        """Cancel a coroutine that has run for its time."""
        if self.reason is None and self._task is not None:
            self.timed_out = True
            self._task.cancel()

    def run_ms(self) -> float:
        return elapsed_ms(self.started)

    def attach(self, task: asyncio.Task[Any]) -> None:
        self._task = task


def _nothing(*_: object) -> None:
    pass


class Executor:
    """Runs attempts; every way of ending becomes an Outcome."""

    def __init__(self, registry: TaskRegistry, pool: Pool, max_result: int) -> None:
        self._registry = registry
        self._pool = pool
        self._max_result = max_result

    async def run(self, attempt: Attempt) -> Outcome | None:
        """The outcome; None when the job is not ours any more."""
        try:
            # It may have been stopped before it began.
            outcome = await self._dispatch(attempt) if attempt.reason is None else None
        except asyncio.CancelledError:
            if attempt.reason is None:
                raise
            outcome = None
        except DtqError as error:  # an unknown task, a payload that does not fit
            outcome = Declined(error_of(error))
        except Exception as error:  # whatever it is, it is this attempt's affair and not its worker's
            log.exception("job %s could not be run", attempt.job.id)
            outcome = Failure(error_of(error), attempt.run_ms())
        match attempt.reason:
            case None:
                return outcome
            case "gone":
                return None
            case _ if isinstance(outcome, Success):
                return outcome
            case "cancel":
                return Stopped(attempt.run_ms() if attempt.began is not None else None)
            case "release":
                return Released(attempt.run_ms() if attempt.began is not None else None)

    def _dispatch(self, attempt: Attempt) -> Awaitable[Outcome]:
        job = attempt.job
        task = self._registry.get(job.task)
        if task.is_async:
            return self._coroutine(task, attempt)
        if task.ref is not None and task.defaults.isolation != "thread":
            order = wire.Run(task.ref, job.payload, job.id, job.task, job.token, job.worker or "", self._max_result)
            return self._pool.run(order, job.timeout_s, attempt.trail.report, attempt.begin)
        return self._thread(task, attempt)

    async def _coroutine(self, task: Task[..., Any], attempt: Attempt) -> Outcome:
        job = attempt.job
        arguments = task.decode_payload(job.payload)
        enter(attempt.context)
        attempt.begin()
        attempt.started = time.perf_counter()
        # A plain timer: asyncio.timeout would cost as much as all else that is done here for a short job.
        timer = asyncio.get_running_loop().call_later(job.timeout_s, attempt.time_out)
        try:
            value = await task.call(attempt.context, arguments)
            return Success(checked_result(value, self._max_result), attempt.run_ms())
        except asyncio.CancelledError as error:
            if attempt.reason is not None:
                raise
            return Failure(_timeout(job) if attempt.timed_out else error_of(error), attempt.run_ms())
        except BaseException as error:
            return Failure(error_of(error), attempt.run_ms())
        finally:
            timer.cancel()
            attempt.context.finish()

    async def _thread(self, task: Task[..., Any], attempt: Attempt) -> Outcome:
        """A thread cannot be killed: one that does not end in time is left to itself, and its result ignored."""
        job = attempt.job
        arguments = task.decode_payload(job.payload)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()

        def tell(outcome: Outcome) -> None:
            if not ended.done():
                ended.set_result(outcome)

        def run() -> None:
            enter(attempt.context)
            try:
                outcome: Outcome = Success(
                    checked_result(task.call(attempt.context, arguments), self._max_result), attempt.run_ms()
                )
            except BaseException as error:
                outcome = Failure(error_of(error), attempt.run_ms())
            attempt.context.finish()
            # The loop may be closed by the time that an abandoned thread ends.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, outcome)

        attempt.begin()
        attempt.started = time.perf_counter()
        thread = threading.Thread(target=run, name=f"dtqkit-{job.task}", daemon=True)
        thread.start()
        soft = loop.call_later(job.timeout_s, _raise_in, thread)
        try:
            async with asyncio.timeout(hard_limit_s(job.timeout_s)):
                return await ended
        except TimeoutError:
            attempt.context.cancel()
            return Failure(_timeout(job), attempt.run_ms())
        finally:
            soft.cancel()


def _raise_in(thread: threading.Thread) -> None:
    """Raise TaskTimeout in the thread at its next bytecode; what blocks in C notices when it returns."""
    if thread.ident is not None and thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TaskTimeout))


def _timeout(job: Job) -> JobError:
    return JobError("timeout", "TaskTimeout", f"ran longer than timeout_s={job.timeout_s:g}")
