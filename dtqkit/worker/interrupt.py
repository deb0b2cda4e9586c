"""Interrupt the main thread of a child while a task runs there, and at no other time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from dtqkit.model.errors import TaskTimeout
from dtqkit.worker.child_messages import Why
from dtqkit.worker.report import TaskStopped

#: By default it is ignored, so it is safe for processes without a handler; and few programs use it.
SIGNAL: Final = signal.SIGURG


def leave_to_worker(_number: int, _frame: FrameType | None) -> None:
    """The handler of SIGTERM and SIGINT: the worker decides when to stop.

    A function and not SIG_IGN, which programs that the task starts would inherit.
    """


class Interrupter:
    """A signal, since its handler also ends what blocks in a system call: a sleep, a lock, a socket, a subprocess."""

    def __init__(self) -> None:
        self._main: Final = threading.main_thread().ident or 0
        #: The attempt, by its job's id and its number, that may be interrupted now.
        self._open: tuple[str, int] | None = None
        self._asked: tuple[tuple[str, int], Why] | None = None
        self._held = False

    def install(self) -> None:
        """Take the signals over; in the main thread."""
        signal.signal(signal.SIGTERM, leave_to_worker)
        signal.signal(signal.SIGINT, leave_to_worker)
        signal.signal(SIGNAL, self._on_signal)

    def release(self) -> None:
        """Give the signals their usual meaning again, in a process that the task has forked."""
        for number, usual in (
            (signal.SIGTERM, signal.SIG_DFL),
            (signal.SIGINT, signal.default_int_handler),
            (SIGNAL, signal.SIG_DFL),
        ):
            if signal.getsignal(number) in (leave_to_worker, self._on_signal):
                signal.signal(number, usual)

    def ask(self, job_id: str, attempt: int, why: Why) -> None:
        """Interrupt this attempt, once: now, or as soon as it begins. From any thread."""
        wanted = job_id, attempt
        if self._asked is None or self._asked[0] != wanted:
            self._asked = wanted, why
            signal.pthread_kill(self._main, SIGNAL)

    def open(self, job_id: str, attempt: int) -> None:
        """From now on the attempt may be interrupted; raises when that was asked for already."""
        self._open = job_id, attempt
        self._raise()

    def close(self) -> None:
        self._open = None

    @contextmanager
    def held(self) -> Generator[None]:
        """Interrupt nothing in here: a message that is cut in the middle would spoil all that come after it."""
        if self._held or threading.get_ident() != self._main:
            yield
            return
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._raise()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._raise()

    def _raise(self) -> None:
        asked = self._asked
        if asked is not None and asked[0] == self._open and not self._held:
            self._open = None  # once is enough: its clean-up is not interrupted
            raise TaskTimeout("ran for its timeout_s") if asked[1] == "timeout" else TaskStopped("stopped")


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
