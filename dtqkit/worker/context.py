"""What a running task can know and say of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Final

from dtqkit.tasks import Context

#: Longest line of a job's log and longest progress message; more is cut.
MAX_LINE: Final = 2000

#: Characters of a printed line without an end that are held back before they are logged.
MAX_HELD: Final = 4000

#: Called with (progress, message) or (None, log line).
Report = Callable[[float | None, str], None]

_current: ContextVar[JobContext | None] = ContextVar("dtqkit_context", default=None)


class JobContext(Context):
    """The Context of one attempt."""

    def __init__(self, job_id: str, task: str, attempt: int, worker: str, report: Report) -> None:
        self.job_id = job_id
        self.task = task
        self.attempt = attempt
        self.worker = worker
        self._report = report
        self._cancelled = False
        self._line = ""

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Tell a task that looks that it should stop."""
        self._cancelled = True

    def progress(self, fraction: float, message: str = "") -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress goes from 0 to 1, not {fraction!r}")
        self._report(float(fraction), shortened(message))

    def log(self, message: str) -> None:
        for line in str(message).splitlines() or [""]:
            self._report(None, shortened(line))

    def write(self, text: str) -> None:
        """Add printed text: each line of it, once it has its end or is long, is one of the log."""
        *lines, self._line = (self._line + text).split("\n")
        if len(self._line) > MAX_HELD:
            lines.append(self._line)
            self._line = ""
        for line in lines:
            self.log(line)

    def lends(self, ids: Sequence[str]) -> None:
        """Say which jobs this one waits for now; none: it waits no more. May be called from any thread."""

    def finish(self) -> None:
        """Add what was printed without an end of line."""
        if self._line:
            self.log(self._line)
            self._line = ""


def shortened(text: str) -> str:
    """`text` in a form that can be stored: at most MAX_LINE characters, no lone surrogates, no NUL."""
    text = str(text)
    if len(text) > MAX_LINE:
        text = f"{text[:MAX_LINE]}… ({len(text) - MAX_LINE} more characters)"
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def current_context() -> Context | None:
    """The context of the job that runs here, or None outside one."""
    return _current.get()


def current_job() -> JobContext | None:
    """The same, as the worker knows it."""
    return _current.get()


def enter(context: JobContext) -> None:
    """Make `context` the current one of this thread or coroutine, for as long as it lives."""
    _current.set(context)
