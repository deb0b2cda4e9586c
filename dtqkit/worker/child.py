"""A child process from inside: it runs one job at a time, on its main thread, until its worker goes away."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import msgspec

from dtqkit.model.jobs import JobError
from dtqkit.tasks.hooks import Hooks
from dtqkit.worker import child_messages, source
from dtqkit.worker.childhooks import ChildHooks
from dtqkit.worker.context import JobContext, enter, enter_process
from dtqkit.worker.imports import Attach, Tasks
from dtqkit.worker.interrupt import Interrupter
from dtqkit.worker.report import checked_result, elapsed_ms, error_of
from dtqkit.worker.restore import Surroundings
from dtqkit.worker.streams import Streams


class Child:
    """The child's side of the conversation: `setup`, `warm`, then `run`, which does not return."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._stream = sock.makefile("rb")
        self._sending = threading.Lock()
        self._jobs: queue.SimpleQueue[child_messages.Run | child_messages.Leave] = queue.SimpleQueue()
        self._interrupter = Interrupter()
        self._pid = os.getpid()
        self._interrupter.install()
        self._streams = Streams()
        os.register_at_fork(after_in_child=self._forked)

    def setup(self) -> child_messages.Setup:
        """The first message of the worker."""
        message = self._receive()
        if not isinstance(message, child_messages.Setup):
            raise TypeError(f"the worker began with {message!r}")
        return message

    def warm(self, setup: child_messages.Setup, attach: Attach, hooks: Hooks) -> None:
        """Import everything, and report it to the worker.

        `attach` is called with each task; `hooks` become those of the APP.
        """
        threading.Thread(target=self._read, name="dtqkit-child-read", daemon=True).start()
        self._tasks = Tasks(attach)
        errors = self._tasks.warm(setup)
        hooks.take(self._tasks.hooks)
        self._hooks = ChildHooks(hooks)
        failure = "" if errors else self._begin()
        # A module may have installed handlers of its own.
        self._interrupter.install()
        code = source.hashes(source.modules_of(setup.app, setup.tasks.values()))
        self._surroundings = Surroundings()
        self._streams.finish()
        self._send(child_messages.Ready(self._pid, errors, code, failure, self._hooks.entered))

    def run(self) -> NoReturn:
        while isinstance(order := self._jobs.get(), child_messages.Run):
            self._run_job(order)
        self._leave()

    def _begin(self) -> str:
        """Enter the lifespan. Returns why it could not be entered, or an empty text."""
        try:
            self._hooks.begin()
        except BaseException as error:
            return str(error) or type(error).__name__
        return ""

    def _leave(self) -> NoReturn:
        """Leave the lifespan, and end."""
        status = 0
        try:
            self._hooks.end()
        except BaseException as error:
            status = 1
            sys.stderr.write(f"{error}\n")
        self._streams.finish()
        os._exit(status)

    def _receive(self) -> child_messages.ToChild | None:
        head = self._stream.read(child_messages.LENGTH.size)
        return child_messages.decode_to_child(self._stream.read(*child_messages.LENGTH.unpack(head))) if head else None

    def _read(self) -> None:
        try:
            while (message := self._receive()) is not None:
                if isinstance(message, child_messages.Interrupt):
                    self._interrupter.ask(message.job_id, message.claim_number, message.why)
                elif isinstance(message, child_messages.Run | child_messages.Leave):
                    self._jobs.put(message)
        finally:
            # The worker is gone: nothing would receive a result, or end the processes that the task has started.
            if os.getpgrp() == self._pid:
                os.killpg(self._pid, signal.SIGKILL)
            os._exit(1)

    def _send(self, message: child_messages.FromChild) -> None:
        with self._interrupter.held(), self._sending:
            self._sock.sendall(child_messages.frame(message))

    def _forked(self) -> None:
        """Runs in a process that a task has forked: the usual signals end it, and it must not wait for our locks."""
        self._sending = threading.Lock()
        self._interrupter.release()

    def _context(self, order: child_messages.Run) -> JobContext:
        def report(fraction: float | None, text: str) -> None:
            if fraction is None:
                with self._interrupter.held():
                    self._streams.log(text)
            else:
                self._send(child_messages.Progress(order.job_id, fraction, text))

        def waiting(ids: Sequence[str]) -> None:
            if os.getpid() == self._pid:
                self._send(child_messages.Waiting(order.job_id, ids))

        context = JobContext(order.job_id, order.task, order.attempt, order.worker, report, waiting)
        context.state = self._hooks.state
        context.scheduled_for = order.scheduled_for
        return context

    def _run_job(self, order: child_messages.Run) -> None:
        context = self._context(order)
        enter(context)
        enter_process(context)
        attempt = _TaskRun(self, order, context)
        try:
            try:
                attempt.run(self._tasks, self._hooks, self._interrupter)
            finally:
                self._interrupter.close()
        except BaseException as raised:  # it was interrupted at its very end
            self._interrupter.close()
            attempt.error = error_of(raised)
        if os.getpid() != self._pid:
            self._leave_fork(attempt.error)
        enter_process(None)
        self._streams.finish()
        self._surroundings.restore()
        error = msgspec.to_builtins(attempt.error) if attempt.error is not None else None
        self._send(child_messages.Done(order.job_id, self._pid, attempt.started, attempt.run_ms, attempt.result, error))

    def begin(self, job_id: str, at: float) -> None:
        self._send(child_messages.Begun(job_id, at))

    def _leave_fork(self, error: JobError | None) -> NoReturn:
        """A process that the task has forked has returned from the task's function: it is not the job."""
        if error is not None:
            with contextlib.suppress(Exception):
                sys.stderr.write(f"{error.traceback or error.message}\n")
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(0 if error is None else 1)


class _TaskRun:
    """One run of a task in this process."""

    def __init__(self, child: Child, order: child_messages.Run, context: JobContext) -> None:
        self._child = child
        self._order = order
        self._context = context
        self.started: float | None = None
        self.run_ms: float | None = None
        self.result: Any = None
        self.error: JobError | None = None

    def run(self, tasks: Tasks, hooks: ChildHooks, interrupter: Interrupter) -> None:
        order = self._order
        try:
            task = tasks.get(order.task, order.ref)
            arguments = task.decode_payload(order.payload)
        except BaseException as error:
            self.error = _not_begun(error)
            return
        try:
            interrupter.open(order.job_id, order.claim_number)
            self.started = time.monotonic()
            self._child.begin(order.job_id, self.started)
            interrupt = partial(interrupter.ask, order.job_id, order.claim_number, "stop")
            value = hooks.call(self._context, partial(task.call, self._context, arguments), interrupt)
            interrupter.close()
            self.result = checked_result(value, order.max_result)
        except BaseException as error:
            interrupter.close()
            self.error = error_of(error, task.defaults)
        finally:
            if self.started is not None:
                self.run_ms = elapsed_ms(self.started)


def _not_begun(error: BaseException) -> JobError:
    """A payload that does not fit, an unknown task, or a module that cannot be imported now."""
    found = error_of(error)
    if found.kind != "exception":
        return found
    lines = traceback.format_exception_only(error)
    return JobError("unknown_task", found.type, f"the task's module cannot be imported: {lines[-1].strip()}"[:2000])
