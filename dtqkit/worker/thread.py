"""A task in a thread of the worker's process. A thread cannot be killed: its attempt lasts until it is over."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec

from dtqkit.model.errors import TaskTimeout
from dtqkit.model.outcomes import Failure, Outcome, Released, Success
from dtqkit.worker.attempt import RunningAttempt
from dtqkit.worker.childprocess import grace_s
from dtqkit.worker.context import enter
from dtqkit.worker.report import TaskStopped, error_of

log = logging.getLogger("dtqkit.worker")

#: How long a task that is asked to stop may take to see it, before TaskStopped is raised in its thread, in seconds.
NOTICE_S: Final = 0.5
#: How often a thread that runs on is logged, in seconds.
AGAIN_S: Final = 60.0


class ThreadRun:
    """One attempt in a thread: `call` runs there and gives the result."""

    def __init__(self, attempt: RunningAttempt, call: Callable[[], Any]) -> None:
        self._attempt = attempt
        self._call = call
        self._loop = asyncio.get_running_loop()
        #: How it ended.
        self.over: asyncio.Future[Outcome] = self._loop.create_future()
        #: What `call` raised, if it did.
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"dtqkit-{attempt.job.task}", daemon=True)
        # Guards the time in which something may be raised in the thread.
        self._window = threading.Lock()
        self._open = True
        self._late = False
        self._asked = False
        self._timers: list[asyncio.TimerHandle] = []

    async def outcome(self) -> Outcome:
        """Start it, and wait until it is over."""
        attempt = self._attempt
        attempt.stopper = self.stop
        attempt.begin()
        self._later(attempt.job.timeout_s, self.time_out)
        return await self.ended()

    async def ended(self) -> Outcome:
        """The same for an attempt that has begun; the caller handles its timeout and stops."""
        self._thread.start()
        return await asyncio.shield(self.over)  # the waiting coroutine may be cancelled while the thread runs on

    def _finish(self, outcome: Outcome) -> None:
        if not self.over.done():
            self.over.set_result(outcome)
        for timer in self._timers:
            timer.cancel()

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        if not self.over.done():
            self._timers.append(self._loop.call_later(seconds, do))

    # -- in the thread

    def _run(self) -> None:
        attempt = self._attempt
        try:
            try:
                enter(attempt.context)
                outcome: Outcome = Success(self._call(), attempt.run_ms() or 0.0)
            finally:
                with self._window:
                    self._open = False
        except BaseException as error:
            self._open = False
            self.error = error
            found = error_of(error, attempt.rules)
            if isinstance(error, TaskTimeout):
                found = msgspec.structs.replace(found, message=attempt.timeout().message)
            outcome = Failure(found, attempt.run_ms())
        attempt.context.finish()
        # The loop may be closed by the time that an abandoned thread ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, outcome)

    def _raise(self, error: type[BaseException]) -> None:
        """Raise it in the thread at its next bytecode; what blocks in C notices when it returns."""
        with self._window:
            if self._open and self._thread.ident is not None:
                identity = ctypes.c_ulong(self._thread.ident)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(error))

    # -- on the loop

    def _end(self, outcome: Outcome) -> None:
        late = self._late and isinstance(outcome, Success)
        self._finish(Failure(self._attempt.timeout(), self._attempt.run_ms()) if late else outcome)

    def time_out(self) -> None:
        """It has run for its time."""
        self._raise(TaskTimeout)
        self._later(grace_s(self._attempt.job.timeout_s), self._runs_on)

    def _runs_on(self) -> None:
        """It has ignored its timeout, or blocks in C: it holds its slot, and no other attempt of its job begins."""
        job = self._attempt.job
        if not self._late:
            self._late = True
            self._attempt.context.cancel()
        else:
            self._raise(TaskTimeout)
        log.warning(
            "job %s (%s) runs past timeout_s=%g in a thread, which cannot be killed: it holds its slot until it ends",
            *(job.id, job.task, job.timeout_s),
        )
        self._later(AGAIN_S, self._runs_on)

    def stop(self) -> None:
        """Its context says so; soon TaskStopped is raised in it. When called again, the thread is abandoned."""
        if self._asked:
            self._abandon()
            return
        self._asked = True
        self._later(NOTICE_S, self._interrupt)
        if self._attempt.reason == "release":  # this process ends before the thread does
            self._later(NOTICE_S + grace_s(self._attempt.job.timeout_s), self._abandon)

    def _interrupt(self) -> None:
        self._raise(TaskStopped)
        self._later(AGAIN_S, self._interrupt)

    def _abandon(self) -> None:
        late = self._late or self._attempt.reason is None
        run_ms = self._attempt.run_ms()
        self._finish(Failure(self._attempt.timeout(), run_ms) if late else Released(run_ms))
