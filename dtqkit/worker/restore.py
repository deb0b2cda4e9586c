"""Undo what a job has changed in its process, so that it does not reach the next job."""

from __future__ import annotations

import contextlib
import locale
import os
import signal
from typing import Any, Final

#: Signals that a task may have set handlers for.
_SIGNALS: Final = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG),
)


class Surroundings:
    """The directory, umask, environment, locale and signal handlers of this process, as they were when made."""

    def __init__(self) -> None:
        self._directory = os.getcwd()  # noqa: PTH109 - a plain string, to go back to
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._environment = dict(os.environ)
        self._locale = locale.setlocale(locale.LC_ALL)
        self._handlers: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore(self) -> None:
        """In the main thread, between two jobs."""
        with contextlib.suppress(OSError):
            os.chdir(self._directory)
        os.umask(self._umask)
        if dict(os.environ) != self._environment:
            self._restore_environment()
        if locale.setlocale(locale.LC_ALL) != self._locale:
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, self._locale)
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that is still to come
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    def _restore_environment(self) -> None:
        for name in set(os.environ) - set(self._environment):
            del os.environ[name]
        os.environ.update(self._environment)
