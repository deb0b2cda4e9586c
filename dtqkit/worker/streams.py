"""The standard streams of a child: a real pipe to its worker, whose lines go to the log of the job that runs."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import select
import sys
from contextvars import ContextVar
from typing import IO, Any, Final, cast

from dtqkit.worker.context import JobContext, current_job
from dtqkit.worker.lines import marked

_format: Final = logging.Formatter("%(levelname)s %(name)s: %(message)s").format


class _Seen:
    """Whether the handlers of a log record have written to a standard stream."""

    def __init__(self) -> None:
        self.written = False


_handling: ContextVar[_Seen | None] = ContextVar("dtqkit_handlers", default=None)


class _File(io.FileIO):
    """Descriptor 1 or 2."""

    def write(self, data: Any, /) -> int:
        if (seen := _handling.get()) is not None:
            seen.written = True
        return super().write(data) or 0


class Streams:
    """Made once, in the main thread of a child, whose descriptors 1 and 2 are the same pipe."""

    def __init__(self) -> None:
        #: A copy of our own: a task may close or redirect the others.
        self._pipe = os.dup(1)
        self._libc = ctypes.CDLL(None)
        self._install()
        _install_logging()

    def _install(self) -> None:
        sys.stdout = sys.__stdout__ = _text(1, "<stdout>")
        sys.stderr = sys.__stderr__ = _text(2, "<stderr>")
        self._ours = (sys.stdout, sys.stderr)

    def log(self, line: str) -> None:
        """Write a line of the job's log, behind what was printed before."""
        for stream in self._ours:
            with contextlib.suppress(ValueError, OSError):
                stream.flush()
        data = marked(line)
        while data:
            try:
                data = data[os.write(self._pipe, data) :]
            except BlockingIOError:  # a program that the task has started may have made the pipe so
                select.select([], [self._pipe], [])

    def finish(self) -> None:
        """Send what is held back to the worker, and make the streams what they were. At the end of a job."""
        for stream in {*self._ours, sys.stdout, sys.stderr}:
            with contextlib.suppress(Exception):
                stream.flush()
        with contextlib.suppress(Exception):
            self._libc.fflush(None)
        os.dup2(self._pipe, 1)
        os.dup2(self._pipe, 2)
        os.set_blocking(self._pipe, True)
        if any(stream.closed for stream in self._ours):
            self._install()
        elif (sys.stdout, sys.stderr) != self._ours:
            sys.stdout, sys.stderr = self._ours


def _text(descriptor: int, name: str) -> io.TextIOWrapper:
    raw = _File(descriptor, "w", closefd=False)
    raw.name = name  # pyright: ignore[reportAttributeAccessIssue] - as Python's own are called
    buffer = io.BufferedWriter(cast("io.RawIOBase", raw))
    # What cannot be encoded must not fail a task that prints it.
    stream = io.TextIOWrapper(cast("IO[bytes]", buffer), "utf-8", "backslashreplace", line_buffering=True)
    cast(Any, stream).mode = "w"
    return stream


def _install_logging() -> None:
    """A record of a job goes to its log, unless a handler has written it to a standard stream, which is the same."""
    original = logging.Logger.callHandlers

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        job: JobContext | None = current_job()
        if job is None:
            original(self, record)
            return
        seen = _Seen()
        if self.hasHandlers():
            token = _handling.set(seen)
            try:
                original(self, record)
            finally:
                _handling.reset(token)
        if not seen.written and record.name.partition(".")[0] != "dtqkit":
            job.log(_format(record))

    logging.Logger.callHandlers = call_handlers
