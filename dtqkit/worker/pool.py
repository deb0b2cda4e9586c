"""The warm pool of child processes that run `def` tasks, one job at a time each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from dtqkit.jobs import JobError
from dtqkit.lifecycle import Failure, Outcome, Success
from dtqkit.worker import wire
from dtqkit.worker.context import Report

#: How long a child may take to start and to import the tasks' modules, in seconds.
START_S: Final = 60.0


def hard_limit_s(timeout_s: float) -> float:
    """Seconds after which a child is killed: its soft timeout, and a while to clean up in."""
    return timeout_s + min(5.0, max(0.5, 0.1 * timeout_s))


class ChildDied(Exception):
    """The child ended while it ran a job, or did not start."""


class Child:
    """One child process, seen from the worker."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.jobs_run = 0
        #: Why it was killed, if it was: a job's stop, or its hard timeout.
        self.killed = False

    @classmethod
    async def start(cls, refs: list[str]) -> Child:
        """A child that has imported the modules of `refs`. Raises ChildDied."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "dtqkit.worker.child",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # what a C library prints goes where the worker's log goes
                start_new_session=True,  # so that what a task starts can be killed with it
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        child = cls(process, reader, writer)
        try:
            child.send(wire.Warm(refs))
            async with asyncio.timeout(START_S):
                await child.receive()
        except BaseException as error:
            await child.close()
            if isinstance(error, TimeoutError):
                raise ChildDied(f"did not start within {START_S:.0f} s") from None
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has closed its side: killed while it was idle, for want of memory, say."""
        return self._reader.at_eof() or self._process.returncode is not None

    def send(self, message: wire.ToChild) -> None:
        self._writer.write(wire.frame(message))

    async def receive(self) -> wire.FromChild:
        """The next message. Raises ChildDied, which says how it ended."""
        try:
            (length,) = wire.LENGTH.unpack(await self._reader.readexactly(wire.LENGTH.size))
            return wire.decode_from_child(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            # A task that closes every descriptor has closed ours too, and may live on.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._process.wait()
            raise ChildDied(self._ending()) from None
        except msgspec.DecodeError:
            raise ChildDied("sent something that is no message: a task wrote to its worker's socket") from None

    def _ending(self) -> str:
        code = self._process.returncode
        if code is None:
            return "closed its connection to the worker"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def kill(self) -> None:
        """End it, and what it has started, now."""
        self.killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        self.kill()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await self._process.wait()


class Pool:
    """`size` children, started when first needed, replaced when killed, dead, or used up."""

    def __init__(self, size: int, jobs_per_child: int, refs: Callable[[], list[str]], watch: Watch) -> None:
        self._jobs_per_child = jobs_per_child
        self._refs = refs
        self._watch = watch
        self._size = size
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Child] = []
        self._busy: set[Child] = set()

    def pids(self) -> list[int]:
        return [child.pid for child in (*self._idle, *self._busy)]

    async def warm_up(self) -> None:
        """Start one child ahead of its first job."""
        async with self._slots:
            if not self._idle:
                with contextlib.suppress(ChildDied, OSError):
                    self._idle.append(await Child.start(self._refs()))

    @property
    def ready(self) -> int:
        return self._size

    @property
    def unusable(self) -> dict[str, str]:
        return {}

    def lend(self, extra: int) -> None:
        pass

    async def run(self, order: wire.Run, timeout_s: float, report: Report, begun: Callable[[], None]) -> Outcome:
        """Run `order` on a child. Cancelling this kills the child."""
        async with self._slots:
            loop = asyncio.get_running_loop()
            started = loop.time()
            try:
                child = self._take_idle() or await Child.start(self._refs())
            except (ChildDied, OSError) as error:
                return Failure(JobError("crash", "ChildDied", f"a child process {error}"), 0.0)
            self._busy.add(child)
            begun()
            child.jobs_run += 1
            whole = False
            try:
                started = loop.time()
                done = await self._converse(child, order, timeout_s, report)
                whole = True
            except ChildDied as died:
                return _death(died, timeout_s, (loop.time() - started) * 1000, killed=child.killed)
            finally:
                self._busy.discard(child)
                if whole and child.jobs_run < self._jobs_per_child:
                    self._idle.append(child)
                else:
                    child.kill()
                    self._watch(child.close(), "close a child")
        if done.error is not None:
            return Failure(msgspec.convert(done.error, JobError), done.run_ms)
        return Success(done.result, done.run_ms)

    def _take_idle(self) -> Child | None:
        """An idle child that lives: a job must not fail for one that died before it."""
        while self._idle:
            child = self._idle.pop()
            if not child.ended:
                return child
            self._watch(child.close(), "close a child")
        return None

    async def _converse(self, child: Child, order: wire.Run, timeout_s: float, report: Report) -> wire.Done:
        loop = asyncio.get_running_loop()
        timers = (
            loop.call_later(timeout_s, child.send, wire.TimeOut(order.job_id)),
            loop.call_later(hard_limit_s(timeout_s), child.kill),
        )
        try:
            child.send(order)
            while True:
                match await child.receive():
                    case wire.Report(job_id, fraction, text) if job_id == order.job_id:
                        report(fraction, text)
                    case wire.Done(job_id) as done if job_id == order.job_id:
                        return done
                    case _:
                        pass  # the last words of a thread that an earlier job has left behind
        finally:
            for timer in timers:
                timer.cancel()

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for child in idle:
            await child.close()


#: Runs a coroutine as a named background task that somebody watches.
Watch = Callable[[Coroutine[Any, Any, None], str], object]


def _death(died: ChildDied, timeout_s: float, run_ms: float, *, killed: bool) -> Failure:
    if killed:
        message = f"ran longer than timeout_s={timeout_s:g} and its process was killed"
        return Failure(JobError("timeout", "TaskTimeout", message), run_ms)
    return Failure(JobError("crash", "ChildDied", f"the process that ran the task {died}"), run_ms)
