"""Run attempts under virtual time: coroutines on the virtual loop, functions between its turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, cast

from typing_extensions import override

from dtqkit.model.jobs import Job
from dtqkit.model.outcomes import Outcome
from dtqkit.model.settings import Settings
from dtqkit.tasks.hooks import ProcessLifespan
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import Task
from dtqkit.testing.loop import VirtualClock, VirtualLoop
from dtqkit.worker.attempt import RunningAttempt
from dtqkit.worker.execute import Executor
from dtqkit.worker.pool import Pool
from dtqkit.worker.thread import ThreadRun


class VirtualAttempt(RunningAttempt):
    """An attempt whose time is virtual."""

    __slots__ = ("_began_s", "_clock")

    def __init__(self, job: Job, clock: VirtualClock) -> None:
        super().__init__(job)
        self._clock = clock
        self._began_s = clock.elapsed_s

    @override
    def begin(self, at: float | None = None) -> None:
        self._began_s = self._clock.elapsed_s
        super().begin(at)

    @override
    def ran_s(self) -> float:
        return 0.0 if self.started is None else self._clock.elapsed_s - self._began_s

    @override
    def run_ms(self) -> float | None:
        return None if self.started is None else round(self.ran_s() * 1000, 1)


class CallRun(ThreadRun):
    """One attempt of a function: it runs in the thread that waits for the queue, which is the test's.

    It cannot be interrupted. When it has run past its timeout, by the real or by the virtual clock, it has timed out.
    """

    def __init__(self, attempt: RunningAttempt, call: Callable[[], Any]) -> None:
        super().__init__(attempt, call)
        self._turns = cast(VirtualLoop, self._loop).turns

    @override
    async def ended(self) -> Outcome:
        self._turns.post(self._call_here)
        return await asyncio.shield(self.over)

    def _call_here(self) -> None:
        began = time.monotonic()
        self._run()
        self._late = self._late or time.monotonic() - began > self._attempt.job.timeout_s
        if self.error is not None and _is_for_the_test(self.error):
            raise self.error

    @override
    def time_out(self) -> None:
        self._late = True

    @override
    def stop(self) -> None:
        """Its context says so; what it does then is its own affair."""


def _is_for_the_test(error: BaseException) -> bool:
    """Ctrl-C, and what pytest.fail and pytest.skip raise, end the test, also in a task."""
    return isinstance(error, KeyboardInterrupt) or any(k.__module__ == "_pytest.outcomes" for k in type(error).__mro__)


class VirtualExecutor(Executor):
    """An Executor without child processes."""

    def __init__(
        self, settings: Settings, registry: TaskRegistry, now: Callable[[], datetime], life: ProcessLifespan
    ) -> None:
        no_pool = cast(Pool, None)  # nothing here runs in a child
        super().__init__(registry, no_pool, settings.max_result, now, life=life, in_thread=CallRun)

    @override
    def _process(self, task: Task[..., Any], attempt: RunningAttempt) -> Awaitable[Outcome]:
        return self._coroutine(task, attempt) if self._hooks.around_run else self._thread(task, attempt)
