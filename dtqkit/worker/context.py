"""The context of a running task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final

from typing_extensions import override

from dtqkit.support.formatting import storable
from dtqkit.tasks.context import Context
from dtqkit.worker.lines import Cutter

#: Longest line of a job's log and longest progress message; more is cut.
MAX_LINE: Final = 2000

#: Called with (progress, message) or (None, log line).
Reporter = Callable[[float | None, str], None]

#: Called with the ids of the jobs that a job waits for; with none when it goes on.
Lend = Callable[[Sequence[str]], None]

_current: ContextVar[JobContext | None] = ContextVar("dtqkit_context", default=None)
#: The job of this process, in a child: for the threads that its task starts.
_of_process: JobContext | None = None


def _nobody(ids: Sequence[str]) -> None:
    pass


class JobContext(Context):
    """The Context of one attempt."""

    state: Any = None
    scheduled_for: datetime | None = None

    def __init__(self, job_id: str, task: str, attempt: int, worker: str, report: Reporter, lend: Lend) -> None:
        self.job_id = job_id
        self.task = task
        self.attempt = attempt
        self.worker = worker
        self._report = report
        self._lend = lend
        self._cancelled = False
        #: Whether the task has seen that it should stop: then its return is no success.
        self.noticed: bool = False
        self._printed: Cutter | None = None

    @property
    def cancelled(self) -> bool:
        if self._cancelled:
            self.noticed = True
        return self._cancelled

    def cancel(self) -> None:
        """Make `cancelled` true, for tasks that check it."""
        self._cancelled = True

    def progress(self, fraction: float, message: str = "") -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress goes from 0 to 1, not {fraction!r}")
        self._report(float(fraction), shortened(message))

    def log(self, message: str) -> None:
        for line in str(message).splitlines() or [""]:
            self._report(None, shortened(line))

    def lends(self, ids: Sequence[str]) -> None:
        """Report that the job waits for these jobs, or (no ids) goes on: meanwhile its worker runs others.

        From any thread of the job.
        """
        self._lend(ids)

    def end(self) -> None:
        """The attempt is over. It holds this, and this must not hold it: there are thousands a second."""
        self._lend = _nobody

    def write(self, text: str) -> None:
        """Add printed text: each line of it, once it has its end or is long, is one of the log."""
        if self._printed is None:
            self._printed = Cutter()
        for line in self._printed.feed(text):
            self._report(None, shortened(line))

    def finish(self) -> None:
        """Add what was printed without an end of line."""
        if self._printed is not None:
            for line in self._printed.finish():
                self._report(None, shortened(line))


class MiddlewareContext(JobContext):
    """The same context as middlewares have it: that one of them looks at `cancelled` says nothing of the task."""

    def __init__(self, context: JobContext) -> None:
        self.__dict__ = context.__dict__

    @property
    @override
    def cancelled(self) -> bool:
        return self._cancelled


def shortened(text: str) -> str:
    """`text` in a form that can be stored: at most MAX_LINE characters, no lone surrogates, no NUL."""
    text = str(text)
    if len(text) > MAX_LINE:
        text = f"{text[:MAX_LINE]}… ({len(text) - MAX_LINE} more characters)"
    return storable(text)


def current_context() -> Context | None:
    """The context of the job that runs here, or None outside one."""
    return _current.get()


def current_job() -> JobContext | None:
    """The same, as the worker knows it; in a child, also in the threads that a task has started."""
    return _current.get() or _of_process


def enter(context: JobContext) -> None:
    """Make `context` the current one of this thread or coroutine, for as long as it lives."""
    _current.set(context)


def enter_process(context: JobContext | None) -> None:
    """Make `context` the job of this whole process, which is a child."""
    global _of_process  # noqa: PLW0603 - a process has one
    _of_process = context
