"""The program of a child process: it runs one job at a time, on its main thread, until its worker goes away.

Started as `python -m dtqkit.worker.child FD`, where FD is its end of a socket pair.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import queue
import signal
import socket
import sys
import threading
import time
from typing import Any

import msgspec

from dtqkit.errors import UnknownTask
from dtqkit.tasks import Task
from dtqkit.worker import wire
from dtqkit.worker.capture import handling, split_logging
from dtqkit.worker.context import JobContext, enter
from dtqkit.worker.report import TaskTimeout, checked_result, elapsed_ms, error_of


class _Lines(io.TextIOBase):
    """Standard output and error while a job runs, of whatever thread: each line goes to the job's log."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not handling():
            self._context.write(text)
        return len(text)


class Child:
    """The child's side of the conversation."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._jobs: queue.SimpleQueue[wire.Run | wire.Warm] = queue.SimpleQueue()
        self._tasks: dict[str, Task[..., Any]] = {}
        self._main = threading.get_ident()
        # Guards the window in which a timeout may be raised in the main thread.
        self._window = threading.Lock()
        self._running: str | None = None

    def run(self) -> None:
        threading.Thread(target=self._read, name="dtqkit-child-read", daemon=True).start()
        while True:
            match self._jobs.get():
                case wire.Warm(refs):
                    for ref in refs:
                        # A module that cannot be imported fails its jobs, not the child.
                        with contextlib.suppress(BaseException):
                            self._task(ref)
                    self._send(wire.Ready())
                case wire.Run() as order:
                    self._run_job(order)

    def _read(self) -> None:
        stream = self._sock.makefile("rb")
        try:
            while head := stream.read(wire.LENGTH.size):
                message = wire.decode_to_child(stream.read(*wire.LENGTH.unpack(head)))
                if isinstance(message, wire.TimeOut):
                    self._time_out(message.job_id)
                else:
                    self._jobs.put(message)
        finally:
            os._exit(0)  # the worker is gone: nobody would take a result

    def _time_out(self, job_id: str) -> None:
        with self._window:
            if self._running == job_id:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._main), ctypes.py_object(TaskTimeout))

    def _send(self, message: wire.FromChild) -> None:
        with self._sending:
            self._sock.sendall(wire.frame(message))

    def _task(self, ref: str) -> Task[..., Any]:
        if ref not in self._tasks:
            module, _, qualname = ref.partition(":")
            found: Any = importlib.import_module(module)
            for part in qualname.split("."):
                found = getattr(found, part)
            if not isinstance(found, Task):
                raise UnknownTask(ref)
            self._tasks[ref] = found
        return self._tasks[ref]

    def _run_job(self, order: wire.Run) -> None:
        def report(fraction: float | None, text: str) -> None:
            self._send(wire.Report(order.job_id, fraction, text))

        context = JobContext(order.job_id, order.task, order.attempt, order.worker, report)
        enter(context)
        lines = _Lines(context)
        started = time.perf_counter()
        directory = os.getcwd()  # noqa: PTH109 - a plain string, to go back to
        result: Any = None
        error: dict[str, Any] | None = None
        try:
            with contextlib.redirect_stdout(lines), contextlib.redirect_stderr(lines):
                try:
                    with self._window:
                        self._running = order.job_id
                    result = self._call(order, context)
                finally:
                    with self._window:
                        self._running = None
        except BaseException as raised:
            error = msgspec.to_builtins(error_of(raised, skip_frames=2))
        run_ms = elapsed_ms(started)
        with contextlib.suppress(OSError):
            os.chdir(directory)
        context.finish()
        self._send(wire.Done(order.job_id, run_ms, result, error))

    def _call(self, order: wire.Run, context: JobContext) -> Any:
        task = self._task(order.ref)
        arguments = task.decode_payload(order.payload)
        value = task.call(context, arguments)
        return checked_result(value, order.max_result)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides when to stop
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `python -m` of the app would have it
    with split_logging():
        Child(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
