"""Run one job: as a coroutine on the worker's loop, in a child process, or in a thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from dtqkit.model.errors import DtqError, TaskDefinitionError
from dtqkit.model.hook_errors import MiddlewareFailed
from dtqkit.model.outcomes import Declined, Failure, Outcome, Released, Stopped, Success
from dtqkit.model.policy import POLICIES, Policies
from dtqkit.tasks.hooks import RENEWING, Life
from dtqkit.tasks.options import TaskOptions
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import Task
from dtqkit.worker import child_messages
from dtqkit.worker.attempt import RunningAttempt
from dtqkit.worker.context import JobContext, enter
from dtqkit.worker.coroutine import Running, coroutine_of
from dtqkit.worker.hooked import run_coroutine, run_thread
from dtqkit.worker.pool import Pool
from dtqkit.worker.report import TaskStopped, TaskTimeout, checked_result, error_of, final_by
from dtqkit.worker.thread import ThreadRun

log = logging.getLogger("dtqkit.worker")


#: The kinds of error with which a child refuses a job that its code cannot begin.
_NOT_BEGUN: Final = frozenset({"unknown_task", "invalid_payload"})


def _declined(outcome: Outcome | None) -> Outcome | None:
    """The outcome of an attempt that never began."""
    if isinstance(outcome, Failure) and outcome.error.kind in _NOT_BEGUN:
        return Declined(outcome.error)
    return outcome


def _judged(outcome: Outcome | None, rules: TaskOptions) -> Outcome | None:
    """A timeout, wherever it was noticed, is a TaskTimeout to the rules of its task."""
    if isinstance(outcome, Failure) and outcome.error.kind == "timeout":
        return replace(outcome, error=replace(outcome.error, final=final_by(rules, TaskTimeout())))
    return outcome


class Executor:
    """Runs attempts; every way of ending becomes an Outcome."""

    def __init__(
        self,
        registry: TaskRegistry,
        pool: Pool,
        max_result: int,
        now: Callable[[], datetime],
        policies: Policies = POLICIES,
        life: Life | None = None,
        in_thread: type[ThreadRun] = ThreadRun,
    ) -> None:
        """`now` gives the time by MongoDB's clock."""
        self._registry = registry
        self._life = Life() if life is None else life
        self._hooks = self._life.hooks
        self._pool = pool
        self._max_result = max_result
        self._now = now
        self._policies = policies
        self._in_thread = in_thread

    def use(self, policies: Policies) -> None:
        """Ask these from now on."""
        self._policies = policies

    async def run(self, attempt: RunningAttempt) -> Outcome | None:
        """The outcome; None when the claim is lost."""
        try:
            if (refusal := self._policies.admit(attempt.job, self._now)) is not None:
                return refusal
            outcome = None
            if attempt.reason is None:  # it may have been stopped before it began
                task = self._registry.get(attempt.job.task)
                attempt.rules = task.defaults
                if (state := self._life.state) is not None:
                    attempt.context.state = await self._life.renewed() if state is RENEWING else state
                outcome = await self._way_of(task)(task, attempt)
        except asyncio.CancelledError:
            if attempt.reason is None:
                raise
            outcome = None
        except DtqError as error:  # an unknown task, a payload that does not fit
            outcome = Declined(error_of(error))
        except Exception as error:  # it fails this attempt, and the worker goes on
            log.exception("job %s could not be run", attempt.job.id)
            outcome = Failure(error_of(error), attempt.run_ms())
        match attempt.reason:
            case None:
                return _declined(outcome) if attempt.started is None else _judged(outcome, attempt.rules)
            case "gone":
                return None
            case _ if isinstance(outcome, Success) and not attempt.context.noticed:
                return outcome
            case "cancel":
                return Stopped(attempt.run_ms())
            case "release":
                return Released(attempt.run_ms())

    def _way_of(self, task: Task[..., Any]) -> Callable[[Task[..., Any], RunningAttempt], Awaitable[Outcome]]:
        """How jobs of `task` run here."""
        where = self._registry.runs_as(task)
        if where == "process":
            return self._process
        # With middlewares, a thread's task too starts as a coroutine: the middlewares run on the loop.
        return self._coroutine if where == "coroutine" or self._hooks.around_run else self._thread

    def _process(self, task: Task[..., Any], attempt: RunningAttempt) -> Awaitable[Outcome]:
        job = attempt.job
        if self._registry.confined and not self._registry.importable(task):
            raise TaskDefinitionError(self._registry.no_process(task))
        order = child_messages.Run(
            *(task.ref or "", job.payload, job.id, job.task, job.claim_number, job.worker or "", self._max_result),
            job.attempt,
            attempt.context.scheduled_for,
        )
        return self._pool.run(order, job.timeout_s, attempt.attempt_log.report, attempt.begin, attempt.waits_for)

    def _within_hooks(
        self, task: Task[..., Any], attempt: RunningAttempt
    ) -> Callable[[JobContext, dict[str, Any]], Any]:
        """What calls the function within the middlewares."""
        chain = self._hooks.around_run
        return (
            partial(run_coroutine, chain, task)
            if task.is_async
            else partial(run_thread, chain, task, attempt, self._in_thread)
        )

    async def _coroutine(self, task: Task[..., Any], attempt: RunningAttempt) -> Outcome:
        job = attempt.job
        arguments = task.decode_payload(job.payload)
        enter(attempt.context)
        attempt.begin()
        running: Running | None = None
        timer: asyncio.TimerHandle | None = None
        try:
            call = self._within_hooks(task, attempt) if self._hooks.around_run else task.call
            coroutine = coroutine_of(call(attempt.context, arguments))
            try:
                first = coroutine.send(None)
            except StopIteration as done:
                value = done.value
            else:
                # asyncio.timeout would double the cost of a short job.
                timer = asyncio.get_running_loop().call_later(job.timeout_s - attempt.ran_s(), attempt.time_out)
                running = Running(coroutine, first, attempt.task, job.timeout_s)
                attempt.stopper = running.stop
                value = await running
            return Success(checked_result(value, self._max_result), attempt.run_ms() or 0.0)
        except (asyncio.CancelledError, TaskStopped) as error:
            if attempt.reason is not None:
                raise asyncio.CancelledError from None
            return Failure(attempt.timeout() if attempt.timed_out else error_of(error, attempt.rules), attempt.run_ms())
        except BaseException as error:
            # A timeout that ended a thread, or that a middleware has turned into its own error.
            late = attempt.timed_out and isinstance(error, TaskTimeout | MiddlewareFailed)
            return Failure(attempt.timeout() if late else error_of(error, attempt.rules), attempt.run_ms())
        finally:
            if timer is not None:
                timer.cancel()
            if running is not None:
                running.close()
                attempt.stopper = None
            attempt.context.finish()

    async def _thread(self, task: Task[..., Any], attempt: RunningAttempt) -> Outcome:
        arguments = task.decode_payload(attempt.job.payload)

        def call() -> Any:
            return checked_result(task.call(attempt.context, arguments), self._max_result)

        return await self._in_thread(attempt, call).outcome()
