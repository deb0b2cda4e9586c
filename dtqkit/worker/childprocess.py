"""One child process, seen from its worker: a socket, a pipe with its output, and a process to wait for."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import termios
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Self, cast

import msgspec

from dtqkit.model.settings import without_secrets
from dtqkit.tasks.lifespan import LEAVE_S
from dtqkit.worker import child_messages
from dtqkit.worker.context import shortened
from dtqkit.worker.interrupt import signal_name
from dtqkit.worker.lines import Output, to_stderr

log = logging.getLogger("dtqkit.worker")

#: How long a child may take to import the tasks' modules, in seconds, and when a slow import is first logged.
IMPORT_S: Final = 600.0
SLOW_IMPORT_S: Final = 60.0
#: How long we wait for the last output of a child that has ended, in seconds.
_LAST_OUTPUT_S: Final = 0.05
_CHUNK: Final = 65_536
#: Lines of output before the first job that are kept, to say why a child did not start.
_KEPT_LINES: Final = 12

#: The path is set before anything else is imported; PYTHONPATH stays what it is, for what a task starts.
_PROGRAM: Final = "import sys; sys.path[:] = sys.argv[2:]; from dtqkit.child import main; main(int(sys.argv[1]))"

#: Runs a coroutine as a named background task whose errors are handled.
Spawn = Callable[[Coroutine[Any, Any, None], str], object]


def grace_s(timeout_s: float) -> float:
    """How long a task that was interrupted may clean up, in seconds."""
    return min(5.0, max(0.5, 0.1 * timeout_s))


class ChildDied(Exception):
    """The child ended while it ran a job, or did not start."""


class Conversation:
    """One job on a child: what is called while it runs, and how it ends."""

    def __init__(
        self,
        order: child_messages.Run,
        timeout_s: float,
        *,
        report: Callable[[float | None, str], None],
        begun: Callable[[float], None],
        waiting: Callable[[Sequence[str]], None],
    ) -> None:
        self.order = order
        self.timeout_s = timeout_s
        self.report = report
        self.begun = begun
        self.waiting = waiting
        self.started: float | None = None
        self.answer: child_messages.Done | ChildDied | None = None
        self.answered = asyncio.Event()

    def end(self, answer: child_messages.Done | ChildDied) -> None:
        self.answer = self.answer or answer
        self.answered.set()


class ChildProcess(asyncio.Protocol):
    """`start`, then `imported()` once; then a job at a time by `run`."""

    def __init__(self, output: int, gone: Callable[[ChildProcess], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.Transport | None = None
        self._output: int | None = output
        self._received = bytearray()
        self._ready: asyncio.Future[child_messages.Ready] = self._loop.create_future()
        self._lines = Output()
        self._gone = gone
        self._job: Conversation | None = None
        self._over = asyncio.Event()
        self._first_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        #: It was killed because its job ran for too long.
        self.killed = False
        #: What it prints while it has no job is not shown: it is the same as what the last one printed.
        self.quiet = False
        #: Its process has ended.
        self.dead = False
        #: Its job was interrupted.
        self.interrupted = False
        #: It can run no other job: its socket is closed, or it has sent what cannot be read.
        self.broken = False
        self.jobs_run = 0
        #: Modules that it could not import.
        self.errors: dict[str, str] = {}
        #: It has a lifespan to leave.
        self.leaves = False
        #: It was asked to.
        self.leaving = False

    @classmethod
    async def start(cls, setup: child_messages.Setup, watch: Spawn, gone: Callable[[ChildProcess], None]) -> Self:
        """A child that has begun to import; `gone` is called once its process has ended. Raises OSError."""
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        try:
            os.set_blocking(read, False)
            child = cls(read, gone)
            child._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _PROGRAM,
                str(theirs.fileno()),
                *[path for path in sys.path if "\0" not in path],
                pass_fds=(theirs.fileno(),),
                env=without_secrets(os.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                start_new_session=True,  # so that what a task starts can be killed with it
            )
        except BaseException:
            ours.close()
            os.close(read)
            raise
        finally:
            theirs.close()
            os.close(write)
        child._loop.add_reader(read, child._read)
        await child._loop.create_connection(lambda: child, sock=ours)
        watch(child._wait(), f"wait for child {child.pid}")
        child.send(setup)
        return child

    @property
    def pid(self) -> int:
        return -1 if self._process is None else self._process.pid

    async def imported(self) -> child_messages.Ready:
        """Wait until it has imported everything, however long that takes. Raises ChildDied."""
        slow = self._loop.call_later(SLOW_IMPORT_S, self._slow)
        try:
            async with asyncio.timeout(IMPORT_S):
                return await self._ready
        except TimeoutError:
            self.kill()
            raise ChildDied(f"did not finish its imports within {IMPORT_S:.0f} s") from None
        finally:
            slow.cancel()

    def _slow(self) -> None:
        log.warning(
            "child %d still imports the tasks' modules or enters the lifespan after %.0f s; its jobs wait",
            self.pid,
            SLOW_IMPORT_S,
        )

    # -- what comes from it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        at, head = 0, child_messages.LENGTH.size
        while len(received) - at >= head:
            (length,) = child_messages.LENGTH.unpack_from(received, at)
            if len(received) - at < head + length:
                break
            body = bytes(received[at + head : at + head + length])
            at += head + length
            try:
                self._receive(child_messages.decode_from_child(body))
            except msgspec.DecodeError:
                self._break("sent something that is no message: a task wrote to its worker's socket")
                return
        del received[:at]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        """It has ended, which `_wait` notices; or a task has closed every descriptor and goes on."""
        if not self.broken:
            self._loop.call_later(1.0, self._break, "closed its connection to the worker")

    def _receive(self, message: child_messages.FromChild) -> None:
        if isinstance(message, child_messages.Ready):
            if not self._ready.done():
                self._ready.set_result(message)
            return
        job = self._job
        if job is None or message.job_id != job.order.job_id:
            return  # from a thread that an earlier job has left behind
        match message:
            case child_messages.Progress(_, fraction, text):
                job.report(fraction, text)
            case child_messages.Begun(_, at):
                job.started = at
                job.begun(at)
            case child_messages.Waiting(_, ids):
                job.waiting(ids)
            case child_messages.Done(_, pid) if pid == self.pid:
                job.end(message)
            case _:
                pass  # from a process that the child has forked

    def _read(self) -> None:
        """Some of its output: to the log of its job, or between jobs to where the worker's own log goes."""
        try:
            data = os.read(self._output, _CHUNK) if self._output is not None else b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._print(data)
        else:
            self._close_output()

    def _print(self, data: bytes) -> None:
        self._report(self._lines.feed(data))

    def _report(self, lines: list[str]) -> None:
        if self._job is not None:
            for line in lines:
                self._job.report(None, shortened(line))
        else:
            self._first_lines.extend(lines)
            if not self.quiet:
                to_stderr(lines)

    def _drain(self) -> None:
        """Read what it has written so far, and no more: processes that it has started may go on writing."""
        if self._output is None:
            return
        waiting = array.array("i", [0])
        try:
            fcntl.ioctl(self._output, termios.FIONREAD, waiting)
            left = waiting[0]
            while left > 0 and (data := os.read(self._output, min(left, _CHUNK))):
                self._print(data)
                left -= len(data)
        except OSError:
            pass

    def _finish_output(self) -> None:
        """Flush a last line without an end, of a job or of what came before it."""
        self._report(self._lines.finish())

    def _close_output(self) -> None:
        if self._output is not None:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = None

    # -- its end

    async def _wait(self) -> None:
        """Wait for the process, not only for its socket: a process that a task has forked may keep that open."""
        if self._process is None:
            return
        try:
            code = await self._process.wait()
            self.dead = True
            self._gone(self)
            # End what it had started, if only the child itself was killed.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.sleep(_LAST_OUTPUT_S)
            self._drain()
            self._break(f"was killed by {signal_name(-code)}" if code < 0 else f"exited with status {code}")
        finally:
            self._close_output()
            self._over.set()

    def _break(self, why: str) -> None:
        if self.broken:
            return
        self.broken = True
        self._finish_output()
        died = ChildDied(why)
        if self._job is not None:
            self._job.end(died)
        if not self._ready.done():
            printed = "; its last output:\n" + "\n".join(self._first_lines) if self._first_lines else ""
            self._ready.set_exception(ChildDied(f"{why} before it was ready{printed}"))
            self._ready.exception()  # marks it as seen: perhaps nothing waits for it
        if self._transport is not None:
            self._transport.abort()
        self.kill()

    @property
    def fit(self) -> bool:
        """Whether it may run another job: not when one was interrupted and has left processes behind."""
        return not (self.dead or self.broken or (self.interrupted and not self._alone()))

    def _alone(self) -> bool:
        """Whether nothing else is in its process group, as far as that can be known."""
        for process in Path("/proc").glob("[0-9]*/stat"):
            try:
                group = process.read_text().rpartition(")")[2].split()[2]
            except (OSError, ValueError):
                continue
            if int(group) == self.pid and process.parent.name != str(self.pid):
                return False
        return Path("/proc/self/stat").exists()

    def kill(self) -> None:
        """End it, and what it has started, now."""
        if self._process is not None and not self._over.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def leave(self) -> None:
        """End it: at once, or, if it is idle and has a lifespan, after leaving the lifespan."""
        if self.leaving:
            return
        if self.leaves and self._job is None and self.fit:
            self.leaving = True
            self.send(child_messages.Leave())
            self._loop.call_later(LEAVE_S + 1.0, self.kill)
        else:
            self.kill()

    async def close(self) -> None:
        """The same, and wait until it is over."""
        self.leave()
        await self._over.wait()

    # -- a job

    def send(self, message: child_messages.ToChild) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(child_messages.frame(message))

    async def run(self, job: Conversation) -> child_messages.Done:
        """Run a job to its end. Raises ChildDied.

        Cancelled, it interrupts the task, gives it a while to clean up, and returns its end all the same; cancelled
        again, it kills the child.
        """
        self._drain()
        self._finish_output()
        self._job = job
        self.jobs_run += 1
        self.interrupted = False
        self.send(job.order)
        unbegun = self._loop.call_later(IMPORT_S, self._kill_late)
        timers = [unbegun]

        def begun(at: float, notify: Callable[[float], None] = job.begun) -> None:
            unbegun.cancel()
            notify(at)
            timers.append(self._loop.call_later(job.timeout_s, self._interrupt, job, "timeout", timers))

        job.begun = begun
        if self.broken:
            job.end(ChildDied("died while it was idle"))
        try:
            try:
                await job.answered.wait()
            except asyncio.CancelledError:
                self._interrupt(job, "stop", timers)
                await job.answered.wait()
        except asyncio.CancelledError:
            self.kill()
            raise
        finally:
            for timer in timers:
                timer.cancel()
            self._drain()
            self._finish_output()
            self._job = None
        if isinstance(job.answer, child_messages.Done):
            return job.answer
        raise job.answer or ChildDied("gave no answer")

    def _interrupt(self, job: Conversation, why: child_messages.Why, timers: list[asyncio.TimerHandle]) -> None:
        self.interrupted = True
        self.send(child_messages.Interrupt(job.order.job_id, job.order.claim_number, why))
        timers.append(self._loop.call_later(grace_s(job.timeout_s), self._kill_late))

    def _kill_late(self) -> None:
        self.killed = True
        self.kill()
