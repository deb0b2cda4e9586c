"""The pool of child processes that run `def` tasks, one job at a time each: some are ready before their job comes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from dtqkit.model.jobs import JobError
from dtqkit.model.outcomes import Failure, Outcome, Released, Success
from dtqkit.worker import child_messages, childprocess, source
from dtqkit.worker.childprocess import ChildDied, ChildProcess, Conversation, Spawn
from dtqkit.worker.context import Reporter

log = logging.getLogger("dtqkit.worker")

#: Pause in seconds before a child is started after one that could not start or import; doubled up to the maximum.
MIN_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 30.0
#: A child that dies so soon without a job counts as one that could not start.
SOON_S: Final = 1.0
#: How often we check whether a child should be started, in seconds; it is also checked after each change.
LOOK_S: Final = 0.5
#: How long lent children are kept after the last wait ends, in seconds: the next wait finds them ready.
WARM_S: Final = 8.0
#: Children that may die before they have begun a job, until it is the job that has failed.
TRIES: Final = 3
#: How long a job waits for a child before it is given back, in seconds: while nothing can be started.
PATIENCE_S: Final = 30.0


def _nothing() -> None:
    pass


def _go_on(files: Sequence[str]) -> bool:
    log.warning("source files have changed since this worker started: new children run the new code: %s", list(files))
    return True


class Pool:
    """At most `size` children, and those lent. `keep` starts them; `run` runs a job on one.

    `changed` is called whenever `ready` may have changed; `outdated` with the files that a new child has loaded in
    another version than this worker: it says whether that child may be used all the same.
    """

    def __init__(
        self,
        size: int,
        jobs_per_child: int,
        setup: Callable[[], child_messages.Setup],
        watch: Spawn,
        *,
        changed: Callable[[], None] = _nothing,
        outdated: Callable[[Sequence[str]], bool] | None = None,
    ) -> None:
        self._size = size
        self._lent = 0
        #: Until then, this many children beyond `size` are kept, though fewer are lent.
        self._warm = 0
        self._warm_until = 0.0
        self._jobs_per_child = jobs_per_child
        self._setup = setup
        self._watch = watch
        self._changed = changed
        self._outdated = outdated or _go_on
        self._idle: list[ChildProcess] = []
        self._busy: set[ChildProcess] = set()
        #: Those that still import; None for one whose process is not there yet.
        self._starting: set[ChildProcess] = set()
        self._launching = 0
        #: Those that leave their lifespan.
        self._leaving: set[ChildProcess] = set()
        self._waiters: deque[asyncio.Future[ChildProcess]] = deque()
        self._look = asyncio.Event()
        self._closing = False
        #: A child had other code than this worker, which must be started again: no more children.
        self._stale = False
        self._code: dict[str, str] = {}
        self._pause_s = 0.0
        self._start_at = 0.0
        self._logged = ""
        self._unusable: dict[str, str] = {}
        self._born: dict[ChildProcess, float] = {}

    @property
    def ready(self) -> int:
        """How many children could begin a job now: those that are kept warm for a wait are no more slots."""
        return min(len(self._idle), max(0, self._size + self._lent - len(self._busy)))

    @property
    def unusable(self) -> Mapping[str, str]:
        """Tasks that the newest child could not import, by name, and why."""
        return self._unusable

    def lend(self, extra: int) -> None:
        """Let so many children exist beyond `size`, in place of those whose jobs wait for other jobs."""
        if extra < self._lent:
            now = asyncio.get_running_loop().time()
            self._warm = max(self._lent, self._warm if now < self._warm_until else 0)
            self._warm_until = now + WARM_S
        self._lent = extra
        self._look.set()
        self._changed()

    def _most(self) -> int:
        """Children that may exist now."""
        warm = self._warm if asyncio.get_running_loop().time() < self._warm_until else 0
        return self._size + max(self._lent, warm)

    def _count(self) -> int:
        return len(self._idle) + len(self._busy) + len(self._starting) + self._launching

    # -- start them

    async def keep(self) -> None:
        """Have a child ready before its job comes, until cancelled."""
        while True:
            self._fill()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()

    def _fill(self) -> None:
        """Start what is missing: one ahead; more at a time once several work, so that a burst soon has them all."""
        now = asyncio.get_running_loop().time()
        while self._idle and self._count() > self._most():
            self._discard(self._idle.pop(0))
        if self._stale and not self._unusable and not self._count():
            self._unusable = dict.fromkeys(self._setup().tasks, "its code has changed, and the new cannot be imported")
        if self._closing or self._stale or now < self._start_at or self._starting or self._launching:
            return
        room = self._most() - self._count()
        if self._unusable:
            if room <= 0 and not self._idle:
                return
            wanted = 1  # perhaps what could not be imported can be now
        elif self._idle or room <= 0:
            return
        else:
            wanted = min(room, max(1, min(len(self._busy), os.cpu_count() or 1)))
        setup = self._setup()
        if not setup.tasks:
            return
        modules = source.modules_of(setup.app, setup.tasks.values())
        self._code = source.hashes(modules, self._code) | self._code
        for _ in range(wanted):
            self._launching += 1
            self._watch(self._start(setup), "start a child")

    async def _start(self, setup: child_messages.Setup) -> None:
        child: ChildProcess | None = None
        try:
            try:
                child = await ChildProcess.start(setup, self._watch, self._gone)
                self._starting.add(child)
                child.quiet = bool(self._logged)
            finally:
                self._launching -= 1
            if self._closing:
                child.kill()
            ready = await child.imported()
        except (ChildDied, OSError) as error:
            self._failed(f"a child process {error}" if isinstance(error, ChildDied) else f"no child starts: {error}")
        else:
            self._starting.discard(child)
            self._accept(child, ready, setup)
        finally:
            if child is not None and child in self._starting:
                self._starting.discard(child)
                child.kill()
            self._look.set()

    def _accept(self, child: ChildProcess, ready: child_messages.Ready, setup: child_messages.Setup) -> None:
        """Take a child that has imported everything, unless it cannot run jobs."""
        if self._closing:
            child.kill()
            return
        if files := source.changed(self._code, ready.code):
            if not self._outdated(files):
                self._stale = True
                child.kill()
                return
            self._code |= {file: ready.code[file] for file in files}
        if failure := _failure(ready, setup):
            child.kill()
            if not self._idle and not self._busy:
                self._unusable = dict.fromkeys(setup.tasks, failure[1])
            self._failed("".join(failure))
            return
        self._unusable = child.errors = dict(ready.errors)
        if ready.errors:
            causes: dict[str, list[str]] = {}
            for name, why in ready.errors.items():
                causes.setdefault(why, []).append(name)
            texts = (f"{', '.join(names)}:\n{why}" for why, names in causes.items())
            self._failed("a child process could not import " + "\n".join(texts))
        else:
            self._pause_s, self._logged = 0.0, ""
        # It replaces a child that could import fewer modules.
        for older in [c for c in self._idle if c.errors and self._count() >= self._most()]:
            self._idle.remove(older)
            self._discard(older)
        child.quiet, child.leaves = False, ready.leaves
        self._born[child] = asyncio.get_running_loop().time()
        self._offer(child)

    def _failed(self, cause: str) -> None:
        """Log it once and try again with growing pauses. Jobs are not failed for it."""
        if self._closing:
            return
        if cause != self._logged:
            self._logged = cause
            log.error("%s", cause)
        self._pause_s = min(MAX_PAUSE_S, max(MIN_PAUSE_S, self._pause_s * 2))
        self._start_at = asyncio.get_running_loop().time() + self._pause_s

    def _offer(self, child: ChildProcess) -> None:
        """A child has nothing to do."""
        if not child.fit or self._closing or self._count() >= self._most():
            self._discard(child)
        else:
            while self._waiters:
                waiter = self._waiters.popleft()
                if not waiter.done():
                    self._busy.add(child)
                    waiter.set_result(child)
                    break
            else:
                self._idle.append(child)
        self._look.set()
        self._changed()

    def _discard(self, child: ChildProcess) -> None:
        child.leave()
        if child.leaving and not child.dead:
            self._leaving.add(child)

    def _gone(self, child: ChildProcess) -> None:
        """A child's process has ended."""
        born = self._born.pop(child, None)
        self._leaving.discard(child)
        if child in self._idle:
            self._idle.remove(child)
            log.warning("child %d died while it was idle and is replaced", child.pid)
            if not child.jobs_run and born is not None and asyncio.get_running_loop().time() - born < SOON_S:
                self._failed("a child process died as soon as it was ready")
            self._changed()
        self._look.set()

    # -- run a job

    async def run(
        self,
        order: child_messages.Run,
        timeout_s: float,
        report: Reporter,
        begun: Callable[[float], None],
        waiting: Callable[[Sequence[str]], None],
    ) -> Outcome:
        """Run `order` on a child. `begun` is called with the monotonic time at which its first line ran.

        Cancelled once, it interrupts the task and waits until it is over, or for a grace and kills the child.
        """
        outcome: Outcome = Released(None)
        for _ in range(TRIES):
            child = await self._take()
            if child is None:
                break
            job = Conversation(order, timeout_s, report=report, begun=begun, waiting=waiting)
            outcome = await self._run(child, job)
            if job.started is not None or not isinstance(job.answer, ChildDied) or child.killed:
                break  # else the child had ended before the job began, which does not count against the job
        return outcome

    async def _run(self, child: ChildProcess, job: Conversation) -> Outcome:
        self._changed()
        self._look.set()
        whole = False
        try:
            done = await child.run(job)
            whole = True
        except ChildDied as died:
            return _death(died, job, killed=child.killed)
        finally:
            self._busy.discard(child)
            if whole and child.jobs_run < self._jobs_per_child:
                self._offer(child)
            else:
                self._discard(child)
                self._look.set()
                self._changed()
        if done.error is not None:
            error = msgspec.convert(done.error, JobError)
            if error.kind == "timeout":
                error = msgspec.structs.replace(error, message=f"ran longer than timeout_s={job.timeout_s:g}")
            return Failure(error, done.run_ms)
        return Success(done.result, done.run_ms or 0.0)

    async def _take(self) -> ChildProcess | None:
        """A child that lives, now busy; None when none can be had."""
        while self._idle:
            child = self._idle.pop()
            if child.fit:
                self._busy.add(child)
                return child
            self._discard(child)
        waiter: asyncio.Future[ChildProcess] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._look.set()
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await asyncio.shield(waiter)
            except TimeoutError:
                if self._busy or self._starting or self._launching:
                    continue
                waiter.cancel()
                return None
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._busy.discard(waiter.result())
                    self._offer(waiter.result())
                waiter.cancel()
                raise

    async def close(self) -> None:
        """End all of them."""
        self._closing = True
        children = [*self._idle, *self._busy, *self._starting, *self._leaving]
        self._idle.clear()
        await asyncio.gather(*(child.close() for child in children))


def _failure(ready: child_messages.Ready, setup: child_messages.Setup) -> tuple[str, str] | None:
    """Why a child can run nothing: what it could not do, and the reason."""
    if setup.app is not None and setup.app in ready.errors:
        return f"a child process could not import {setup.app}:\n", ready.errors[setup.app]
    return ("a child process does not start: ", ready.lifespan) if ready.lifespan else None


def _death(died: ChildDied, job: Conversation, *, killed: bool) -> Failure:
    run_ms = None
    if job.started is not None:
        run_ms = round((asyncio.get_running_loop().time() - job.started) * 1000, 1)
    if killed and job.started is None:
        return Failure(JobError("timeout", "TaskTimeout", f"did not begin within {childprocess.IMPORT_S:g} s"), None)
    if killed:
        message = f"ran longer than timeout_s={job.timeout_s:g} and its process was killed"
        return Failure(JobError("timeout", "TaskTimeout", message), run_ms)
    return Failure(JobError("crash", "ChildDied", f"the process that ran the task {died}"), run_ms)
