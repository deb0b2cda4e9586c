"""SIGTERM and Ctrl-C: the first asks to stop, a deliberate second one ends the process at once."""

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
#: A SIGTERM that comes within so many seconds of the first signal is the same request: a host signals every process,
#: its supervisor the same ones again.
SAME_S: Final = 5.0
#: So is a SIGINT so soon after another: a terminal's Ctrl-C reaches a whole group, whose parent passes it on.
ECHO_S: Final = 0.25
#: A later one may still be an echo, of a slow parent, or a person's second Ctrl-C: it is answered, and does not stop
#: anything yet. One after that time, or after the answer, is meant.
DOUBT_S: Final = 1.0
STILL: Final = "still stopping; press Ctrl-C once more to stop at once"


class StopRequests:
    """Tells a second request from an echo of the first."""

    def __init__(self, *, supervised: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        #: A supervisor ends this process when it is time: no signal does so before.
        self._supervised = supervised
        self._clock = clock
        self._first_at: float | None = None
        #: When the last signal came that was no echo, and whether one was answered.
        self._last_at = 0.0
        self._answered = False

    def on(self, number: int) -> Literal["stop", "same", "again", "at once"]:
        """ "again": to be answered with STILL."""
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
    """What is waited for; `busy` jobs run, None: it is not known how many."""
    if busy == 0:
        return "stopping: no jobs are running"
    what = "jobs may be running" if busy is None else counted(busy, "job is running", "jobs are running")
    again = "; press Ctrl-C again to stop at once" if by_keyboard else ""
    return f"stopping: {what}; waiting up to {grace_s:g} s{again}"


def stopped_at_once(given_back: int, left: int, recovered_s: float) -> str:
    """What became of the jobs that were running."""
    parts = [counted(given_back, "job goes", "jobs go") + " back to the queue"] if given_back else []
    if left:
        parts.append(f"{counted(left, 'job is', 'jobs are')} recovered within {recovered_s:.0f} s")
    return f"stopped at once: {', '.join(parts) or 'no jobs were running'}"


def say_now(text: str) -> None:
    """On standard error, from a signal handler: what runs may be within a print of its own."""
    try:
        os.write(2, f"dtqkit: {text}\n".encode())
    except OSError:
        pass  # it is closed, or full


class StopSignal:
    """Takes both signals over; `wait()` returns whether one has come."""

    def __init__(self) -> None:
        # A pipe, since a lock that the main thread holds must not be wanted by a handler that runs on it.
        self._asked, self._tell = os.pipe()
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
                os.write(self._tell, b"!")
            case "same":
                pass
            case "again":
                say_now(STILL)
            case "at once":
                self.at_once()
                os._exit(1)

    def over(self) -> None:
        """All has stopped: a late signal must not end the process in another way. SIG_IGN outlives the interpreter."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def wait(self, timeout_s: float) -> bool:
        """Whether a signal has come, at the latest after `timeout_s`."""
        return bool(select.select([self._asked], [], [], timeout_s)[0])


@contextmanager
def nothing_to_stop() -> Generator[None]:
    """Until a handler of its own is there, a signal ends this process as an orderly stop: nothing runs yet."""
    before = {number: signal.signal(number, end_now) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_now(_number: int, _frame: FrameType | None) -> None:
    """Of a process in which nothing runs."""
    os._exit(0)
