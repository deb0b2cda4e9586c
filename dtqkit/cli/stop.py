"""SIGTERM and Ctrl-C: the first signal asks to stop; a deliberate second one ends the process at once."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final, Literal

from dtqkit.support.formatting import counted

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: A SIGTERM within this many seconds of the first signal is the same request: a host signals every process, and the
#: supervisor signals its workers again.
SAME_S: Final = 5.0
#: So is a SIGINT within this time of another: Ctrl-C reaches the whole process group, and the parent passes it on.
ECHO_S: Final = 0.25
#: A SIGINT after that may come from a slow parent or be a person's second Ctrl-C: it is answered with STILL and stops
#: nothing yet. One later than this, or after that answer, stops the process at once.
DOUBT_S: Final = 1.0
STILL: Final = "still stopping; press Ctrl-C once more to stop at once"


class StopRequests:
    """Distinguishes a second request from an echo of the first."""

    def __init__(self, *, supervised: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        #: The supervisor ends this process in time: repeated signals do not.
        self._supervised = supervised
        self._clock = clock
        self._first_at: float | None = None
        #: When the last signal came that was not an echo; and whether STILL was printed.
        self._last_at = 0.0
        self._answered = False

    def on(self, number: int) -> Literal["stop", "same", "again", "at once"]:
        """ "again": print STILL."""
        now = self._clock()
        if self._first_at is None:
            self._first_at = self._last_at = now
            return "stop"
        if self._supervised:
            return "same"
        if number == signal.SIGTERM:
            return "same" if now - self._first_at < SAME_S else "at once"
        if now - self._last_at < ECHO_S:
            return "same"
        if self._answered or now - self._first_at >= DOUBT_S:
            return "at once"
        self._last_at, self._answered = now, True
        return "again"


def stopping(busy: int | None, grace_s: float, *, by_keyboard: bool) -> str:
    """The message that a stop has begun; `busy` jobs run, None when their number is not known."""
    if busy == 0:
        return "stopping: no jobs are running"
    what = "jobs may be running" if busy is None else counted(busy, "job is running", "jobs are running")
    again = "; press Ctrl-C again to stop at once" if by_keyboard else ""
    return f"stopping: {what}; waiting up to {grace_s:g} s{again}"


def stopped_at_once(given_back: int, left: int, recovered_s: float) -> str:
    """The message after a stop at once: what happens to the jobs that were running."""
    parts = [counted(given_back, "job goes", "jobs go") + " back to the queue"] if given_back else []
    if left:
        parts.append(f"{counted(left, 'job is', 'jobs are')} recovered within {recovered_s:.0f} s")
    return f"stopped at once: {', '.join(parts) or 'no jobs were running'}"


def write_stderr(text: str) -> None:
    """For signal handlers, where print is not safe: the interrupted code may be printing."""
    try:
        os.write(2, f"dtqkit: {text}\n".encode())
    except OSError:
        pass  # it is closed, or full


class StopSignal:
    """Handles both signals; `wait()` returns whether one has come."""

    def __init__(self) -> None:
        # A pipe and not a lock: the handler runs on the main thread, which may hold that lock.
        self._read_end, self._write_end = os.pipe()
        self._requests = StopRequests()
        #: Called before a second request ends this process: for what must not outlive it.
        self.at_once: Callable[[], None] = lambda: None
        #: Whether the first request came from a terminal.
        self.by_keyboard = False
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        match self._requests.on(number):
            case "stop":
                self.by_keyboard = number == signal.SIGINT
                os.write(self._write_end, b"!")
            case "same":
                pass
            case "again":
                write_stderr(STILL)
            case "at once":
                self.at_once()
                os._exit(1)

    def over(self) -> None:
        """Ignore signals from now on: a late one must not change the exit status. SIG_IGN outlasts the interpreter."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s`; returns whether a signal has come."""
        return bool(select.select([self._read_end], [], [], timeout_s)[0])


@contextmanager
def nothing_to_stop() -> Generator[None]:
    """During start-up, a signal ends this process with status 0: nothing runs yet that would have to stop."""
    before = {number: signal.signal(number, end_now) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_now(_number: int, _frame: FrameType | None) -> None:
    """A signal handler for a process in which nothing runs."""
    os._exit(0)
