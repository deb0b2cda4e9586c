"""A job's run within the middlewares of its queue, on the worker's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from dtqkit.model.outcomes import Success
from dtqkit.tasks.middleware import Middleware, around_run
from dtqkit.tasks.task import Task
from dtqkit.worker.attempt import RunningAttempt
from dtqkit.worker.childprocess import grace_s
from dtqkit.worker.context import JobContext, MiddlewareContext, enter
from dtqkit.worker.report import TaskStopped, TaskTimeout
from dtqkit.worker.thread import ThreadRun

#: What ends an attempt from outside, besides what is no Exception.
STOPS = (TaskTimeout,)


async def run_coroutine(
    chain: Sequence[Middleware], task: Task[..., Any], context: JobContext, arguments: Mapping[str, Any]
) -> Any:
    """Run an async task within `chain`: one coroutine, which is stopped as the task itself would be."""
    around = MiddlewareContext(context)

    async def run() -> Any:
        enter(context)
        try:
            return await task.call(context, arguments)
        finally:
            enter(around)

    enter(around)
    return await around_run(chain, around, run, STOPS)


async def run_thread(
    chain: Sequence[Middleware],
    task: Task[..., Any],
    attempt: RunningAttempt,
    in_thread: type[ThreadRun],
    context: JobContext,
    arguments: Mapping[str, Any],
) -> Any:
    """Run a task in a thread, within `chain`, which stays on the loop."""
    stage = _ThreadStage(attempt, in_thread, partial(task.call, context, arguments))
    around = MiddlewareContext(context)
    enter(around)
    try:
        return await around_run(chain, around, stage.run, STOPS)
    finally:
        stage.close()


class _ThreadStage:
    """The part of an attempt that is in a thread. While it lasts, a stop goes to the thread, not to the coroutine."""

    def __init__(self, attempt: RunningAttempt, in_thread: type[ThreadRun], call: Callable[[], Any]) -> None:
        self._attempt = attempt
        self._in_thread = in_thread
        self._call = call
        self._stop_coroutine: Callable[[], None] | None = None
        self._thread: ThreadRun | None = None
        self._timed_out = False
        self._late: asyncio.TimerHandle | None = None

    async def run(self) -> Any:
        await asyncio.sleep(0)  # after the first step, `attempt.stopper` is the coroutine's
        attempt = self._attempt
        self._stop_coroutine, attempt.stopper = attempt.stopper, self._stop
        # The task sees the context variables that the middlewares have set.
        variables = copy_context()
        variables.run(enter, attempt.context)
        thread = self._thread = self._in_thread(attempt, partial(variables.run, self._call))
        try:
            outcome = await thread.ended()
        except asyncio.CancelledError:  # by a timeout of a middleware's own: the thread ends first
            thread.stop()
            while not thread.over.done():
                try:
                    await asyncio.wait([thread.over])
                except asyncio.CancelledError:
                    thread.stop()  # again: it is left to itself
            raise
        finally:
            self._resume()
        if isinstance(outcome, Success):
            return outcome.result
        raise thread.error or (TaskStopped() if attempt.reason is not None else TaskTimeout())

    def _stop(self) -> None:
        assert self._thread is not None  # noqa: S101 - only in `run`
        if self._attempt.timed_out and not self._timed_out:
            self._timed_out = True
            self._thread.time_out()
        else:
            self._thread.stop()

    def _resume(self) -> None:
        """The thread is over, and a stop goes to the coroutine again: its clean-up has a while, if it was stopped."""
        attempt, stop = self._attempt, self._stop_coroutine
        attempt.stopper = stop
        if stop is not None and (attempt.timed_out or attempt.reason is not None):
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(grace_s(attempt.job.timeout_s), stop)

    def close(self) -> None:
        if self._late is not None:
            self._late.cancel()
