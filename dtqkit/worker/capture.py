"""Send what a task prints and logs to its job's log.

Only while a worker runs in this process, and only where a job runs: in its coroutine and in its own thread. For all
else `sys.stdout`, `sys.stderr` and logging are as they were, also in a notebook's kernel.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Final

from dtqkit.worker.context import current_job

#: Set while a record goes to its handlers: what they write to a console, the job's log has already.
_handling: ContextVar[bool] = ContextVar("dtqkit_handling", default=False)
#: What a text stream has, for one that has not: a notebook's, a test's.
_USUAL: Final = {"encoding": "utf-8", "errors": "backslashreplace", "mode": "w", "newlines": None}
_format: Final = logging.Formatter("%(levelname)s %(name)s: %(message)s").format


class _Bytes:
    """The `buffer` of a Split."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self.closed: Final = False

    def write(self, data: Any, /) -> int:
        self._split.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        self._split.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._split.fileno()


class Split:
    """Stands for a standard stream: what a job writes goes to its log, everything else to the stream."""

    def __init__(self, stream: Any, descriptor: int) -> None:
        self.stream = stream
        self._descriptor = descriptor
        self._bytes = _Bytes(self)

    def write(self, text: str, /) -> int:
        job = current_job()
        if job is None or handling():
            return self.stream.write(text)
        job.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        if current_job() is None:
            self.stream.close()

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return current_job() is None and self.stream.isatty()

    def fileno(self) -> int:
        """The stream's own: what a program writes there is the worker's output. A descriptor belongs to no job."""
        try:
            return self.stream.fileno()
        except (AttributeError, OSError):  # in a notebook's kernel there may be none
            return self._descriptor

    @property
    def buffer(self) -> Any:
        return self.stream.buffer if current_job() is None else self._bytes

    def reconfigure(self, **changes: Any) -> None:
        """One job must not change what another prints."""
        if current_job() is None:
            self.stream.reconfigure(**changes)

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self.stream, name) and (name in _USUAL or name == "name"):
            return _USUAL.get(name, f"<{('stdout', 'stderr')[self._descriptor - 1]}>")
        return getattr(self.stream, name)


def handling() -> bool:
    """Whether a log record goes to its handlers here and now."""
    return _handling.get()


@contextmanager
def split_streams() -> Generator[None]:
    splits = {name: Split(getattr(sys, name), number) for number, name in ((1, "stdout"), (2, "stderr"))}
    for name, split in splits.items():
        setattr(sys, name, split)
    try:
        yield
    finally:
        for name, split in splits.items():
            if getattr(sys, name) is split:  # else another program has replaced it, and ours passes everything through
                setattr(sys, name, split.stream)


@contextmanager
def split_logging() -> Generator[None]:
    """Records reach a job's log before their handlers.

    A handler of our own would not do: with one, `logging.basicConfig` does nothing, and warnings that nobody handles
    are not printed any more.
    """
    original = logging.Logger.callHandlers

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        job = current_job()
        if job is None or record.name.partition(".")[0] == "dtqkit":
            original(self, record)
            return
        job.log(_format(record))
        if self.hasHandlers():
            token = _handling.set(True)
            try:
                original(self, record)
            finally:
                _handling.reset(token)

    logging.Logger.callHandlers = call_handlers
    try:
        yield
    finally:
        if logging.Logger.callHandlers is call_handlers:
            logging.Logger.callHandlers = original


class Capture:
    """Both, while at least one worker runs in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers = 0
        self._installed = ExitStack()

    @contextmanager
    def worker(self) -> Generator[None]:
        with self._lock:
            self._workers += 1
            if self._workers == 1:
                self._installed.enter_context(split_streams())
                self._installed.enter_context(split_logging())
        try:
            yield
        finally:
            with self._lock:
                self._workers -= 1
                if not self._workers:
                    self._installed.close()


#: One for the process, since the streams and logging are the process's.
capture: Final = Capture()
