"""The worker's log of its jobs: a line for each end, the traceback of a failure, and a sum where they come too fast."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Final

from dtqkit.model.jobs import Job
from dtqkit.model.outcomes import Change, wait_ms
from dtqkit.support.formatting import counted, few
from dtqkit.support.sanitize import escaped

log = logging.getLogger("dtqkit.jobs")

#: Lines in one second, and tracebacks among them; more are summed up.
LINES: Final = 200
TRACEBACKS: Final = 20
#: Characters of a traceback that are shown, from its end; the job's record has all of it.
MAX_TRACEBACK: Final = 4_000
MAX_MESSAGE: Final = 300

_WORDS: Final = {
    "completed": "completed",
    "failed": "failed",
    "timeout": "timed out",
    "crashed": "crashed",
    "released": "given back",
    "declined": "given back",
    "cancelled": "cancelled",
}


class JobLog:
    """Logs nothing unless the user has set up a handler, which a notebook has not."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._lines = 0
        self._tracebacks = 0
        self._more: Counter[str] = Counter()
        #: Jobs of this second that could not begin here, by task and reason: often all of a task, for the same one.
        self._declined: dict[tuple[str, str], list[str]] = {}
        self._second: asyncio.TimerHandle | None = None

    def ended(self, ends: Iterable[tuple[Job, Change]]) -> None:
        """These jobs ended in these ways."""
        # Not logging.lastResort: it would print into a notebook's cell.
        if not self._enabled or not log.isEnabledFor(logging.WARNING) or not log.hasHandlers():
            return
        for job, change in ends:
            level = logging.INFO if change.error is None or change.snoozes else logging.WARNING
            if log.isEnabledFor(level):
                self._log(job, change, level)

    def _log(self, job: Job, change: Change, level: int) -> None:
        if self._second is None:
            self._second = asyncio.get_running_loop().call_later(1.0, self._next_second)
        word = _WORDS.get(change.ending, change.ending)
        if change.ending == "declined" and change.status == "scheduled":
            word = "delayed by a policy"
        elif change.ending == "declined" and len(self._declined) < LINES:
            self._declined.setdefault((job.task, _reason(change)), []).append(job.id)
            return
        if self._lines >= LINES:
            self._more[word] += 1
            return
        self._lines += 1
        text = _line(job, change, word)
        if change.error is not None and change.error.traceback and self._tracebacks < TRACEBACKS:
            self._tracebacks += 1
            text += f"\n{_tail(change.error.traceback)}"
        log.log(level, "%s", escaped(text))

    def close(self) -> None:
        """Log what was held back."""
        if self._second is not None:
            self._second.cancel()
            self._next_second()

    def _next_second(self) -> None:
        more, self._more = self._more, Counter()
        declined, self._declined = self._declined, {}
        self._lines = self._tracebacks = 0
        self._second = None
        for (task, reason), ids in declined.items():
            jobs = counted(len(ids), "job", "jobs")
            log.warning("%s", escaped(f"{jobs} of {task} given back, left to other workers: {reason}: {few(ids)}"))
        if more:
            log.info("%s in the last second", ", ".join(f"{n:,} more jobs {word}" for word, n in more.items()))


def _line(job: Job, change: Change, word: str) -> str:
    ran = f" in {change.run_ms / 1000:.2f} s" if change.run_ms is not None else ""
    facts = [f"attempt {job.attempt}"]
    if (waited_ms := wait_ms(job, change)) is not None:
        facts.insert(0, f"waited {waited_ms / 1000:.2f} s")
    text = f"{job.task} {job.id} {word}{ran} ({', '.join(facts)})"
    if change.snoozes:
        return f"{text}; again in {_seconds(change.delay_s)}"
    if change.error is not None:
        text += f": {_reason(change)}"
    if change.failures:
        text += f"; failure {job.failures + change.failures} of {job.max_attempts}, "
        text += f"again in {_seconds(change.delay_s)}" if change.status == "scheduled" else "not tried again"
    if change.error is not None and change.error.final:
        text += f": {change.error.final}"
    return text


def _reason(change: Change) -> str:
    """Its error in one line."""
    error = change.error
    return "" if error is None else f"{error.type}: {(error.message.splitlines() or [''])[0][:MAX_MESSAGE]}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"


def _tail(traceback: str) -> str:
    text = traceback.rstrip()
    return text if len(text) <= MAX_TRACEBACK else f"… (the job's record has all of it)\n{text[-MAX_TRACEBACK:]}"
