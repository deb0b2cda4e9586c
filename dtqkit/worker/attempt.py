"""One attempt under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any, Literal

from dtqkit.model.jobs import Job, JobError
from dtqkit.worker.attempt_log import AttemptLog
from dtqkit.worker.context import JobContext
from dtqkit.worker.report import NO_RULES, elapsed_ms

#: Why an attempt is stopped from outside: its job was cancelled; the worker gives it back; its claim is lost.
StopReason = Literal["cancel", "release", "gone"]


def _nobody(*_: object) -> None:
    pass


class RunningAttempt:
    """One attempt under way.

    `began` is called on the loop when it begins, `waiting` with the ids of the jobs that it waits for, or none.
    """

    __slots__ = (
        *(
            "_loop",
            "_task",
            "_waiting",
            "began",
            "context",
            "job",
            "reason",
            "rules",
            "started",
            "stopper",
            "timed_out",
        ),
        "attempt_log",
    )

    def __init__(
        self,
        job: Job,
        began: Callable[[], None] = _nobody,
        waiting: Callable[[RunningAttempt, Sequence[str]], None] = _nobody,
    ) -> None:
        self.job = job
        self.attempt_log = AttemptLog()
        self.context = JobContext(job.id, job.task, job.attempt, job.worker or "", self.attempt_log.report, self._lend)
        if job.scheduled_for is not None:  # naive, as a worker reads its claims
            self.context.scheduled_for = job.scheduled_for.replace(tzinfo=UTC)
        self.reason: StopReason | None = None
        #: Of the task: which of its exceptions are tried again.
        self.rules = NO_RULES
        self.timed_out = False
        #: When the first line of the task ran, by the monotonic clock; None while it has not.
        self.started: float | None = None
        #: Ends the task's code, instead of cancelling our own task; a second call forces it.
        self.stopper: Callable[[], None] | None = None
        self.began = began
        self._waiting = waiting
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._loop = task.get_loop()

    @property
    def task(self) -> asyncio.Task[Any]:
        assert self._task is not None  # noqa: S101 - attached before it is run
        return self._task

    def begin(self, at: float | None = None) -> None:
        """The first line of the task runs."""
        first = self.started is None
        self.started = time.monotonic() if at is None else at
        if first:
            self.began()

    def stop(self, reason: StopReason) -> None:
        """Stop it: it is interrupted, and holds its slot until it is over. A release that comes on top ends it now."""
        if self.reason is None:
            self.reason = reason
            self.context.cancel()
        elif reason != "release":
            return
        self._stop()

    def time_out(self) -> None:
        """Interrupt a coroutine that has run for its time."""
        if self.reason is None:
            self.timed_out = True
            self._stop()

    def _stop(self) -> None:
        if self.stopper is not None:
            self.stopper()
        elif self._task is not None:
            self._task.cancel()

    def ran_s(self) -> float:
        return 0.0 if self.started is None else time.monotonic() - self.started

    def run_ms(self) -> float | None:
        return None if self.started is None else elapsed_ms(self.started)

    def timeout(self) -> JobError:
        return JobError("timeout", "TaskTimeout", f"ran longer than timeout_s={self.job.timeout_s:g}")

    def waits_for(self, ids: Sequence[str]) -> None:
        """It begins to wait for these jobs, or (no ids) goes on. On the loop."""
        self._waiting(self, ids)

    def _lend(self, ids: Sequence[str]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.waits_for, ids)
