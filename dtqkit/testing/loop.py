"""An event loop whose time is virtual, run by whichever thread waits for it.

Time passes only when nothing else can happen: it jumps to the next timer. While a thread that the loop waits for runs,
or a running job has a socket open, time is real.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from typing_extensions import override

T = TypeVar("T")

#: How long a look at sockets and threads may take while time is real, in seconds.
LOOK_S: Final = 0.05
#: Timers so close to now are due, in seconds: sums of floats are not exact.
RESOLUTION_S: Final = 1e-6


class VirtualClock:
    """The time of a TestQueue."""

    def __init__(self, start: datetime | None = None) -> None:
        start = datetime.now(UTC) if start is None else start.astimezone(UTC)
        self._start = start.replace(microsecond=start.microsecond // 1000 * 1000)
        #: Seconds since the start.
        self.elapsed_s: float = 0.0

    def now(self) -> datetime:
        """The time in whole milliseconds, as MongoDB has it."""
        now = self._start + timedelta(seconds=self.elapsed_s)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def seconds_at(self, when: datetime) -> float:
        """`elapsed_s` at this time."""
        return (when - self._start).total_seconds()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on the time of a VirtualClock."""

    def __init__(self, clock: VirtualClock, turns: Turns) -> None:
        self.turns: Final = turns
        self._clock = clock
        super().__init__(_Selector(clock, turns))
        self._clock_resolution = RESOLUTION_S

    @override
    def time(self) -> float:
        return self._clock.elapsed_s

    def __del__(self) -> None:
        if not self.is_closed():  # nothing outside of memory is lost, so there is nothing to warn of
            self.close()

    @override
    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        # Time is real until its result is here, and not only until the thread has it.
        self.turns.work(1)
        future = super().run_in_executor(executor, self.turns.marked(func), *args)
        future.add_done_callback(lambda _: self.turns.work(-1))
        return future

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> Any:
        parent: Any = super()
        made: Any = await parent._make_subprocess_transport(*args, **kwargs)
        # Its end may come by a thread of asyncio's own.
        self.turns.work(1)
        self.create_task(made._wait()).add_done_callback(self._process_ended)
        return made

    def _process_ended(self, _: object) -> None:
        self.turns.work(-1)


class _Selector(selectors.DefaultSelector):
    """Decides what happens when all that was ready has run."""

    def __init__(self, clock: VirtualClock, turns: Turns) -> None:
        super().__init__()
        self._clock = clock
        self._turns = turns

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if self._turns.idle(forever=False):
            return []
        if self._turns.busy(sockets=len(self.get_map()) - 1):  # one is the loop's own
            began = time.monotonic()
            found = super().select(LOOK_S if timeout is None else min(timeout, LOOK_S))
            self._clock.elapsed_s += time.monotonic() - began
        elif timeout is not None:
            self._clock.elapsed_s += timeout
        elif not self._turns.idle(forever=True):
            found = super().select(LOOK_S)  # until another thread has something
        return found


def running() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Turns:
    """Threads take turns to run one virtual loop: each while it waits for something there.

    What is `posted` is called between two turns, in the thread that had the last one, while the loop stands still: so
    a task's function runs in the thread of the test, and can use the queue like any other code.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.loop: Final = VirtualLoop(clock, self)
        #: Running jobs.
        self.jobs: int = 0
        self._turn = threading.Condition()
        self._taken = False
        self._posted: deque[Callable[[], None]] = deque()
        #: Functions of tasks, and of executors, that run and do not wait for the loop themselves.
        self._working = 0
        self._here = threading.local()
        #: Resolved when nothing else can run now; and when nothing ever will.
        self._idle: list[asyncio.Future[None]] = []
        self._stuck: list[asyncio.Future[None]] = []

    # -- from any thread

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop, and what else there is meanwhile; its result."""
        if running():
            return self.start(work).result()
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            self._until(future)
        except BaseException:
            future.cancel()
            raise
        return future.result()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` on the loop, in another thread."""
        answer: Future[T] = Future()
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        answer.add_done_callback(lambda done: done.cancelled() and future.cancel())

        def wait() -> None:
            with suppress(InvalidStateError):  # the answer was cancelled
                try:
                    self._until(future)
                    answer.set_result(future.result())
                except InvalidStateError:
                    raise
                except BaseException as error:
                    answer.set_exception(error)

        threading.Thread(target=wait, name="dtqkit-test-queue", daemon=True).start()
        return answer

    def here(self) -> bool:
        """Whether the caller runs on the loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def close(self) -> None:
        """Cancel what still runs on the loop, and close it."""
        if self.loop.is_closed():
            return
        self.run(self._cancel_all())
        self.run(self.loop.shutdown_asyncgens())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _until(self, future: Future[Any]) -> None:
        """Take turns until `future` is done."""
        works: int = getattr(self._here, "works", 0)
        self._here.works = 0
        self.work(-works)
        # It works again from the moment on at which it could, not only once it does.
        future.add_done_callback(lambda _: self._done(works))
        try:
            while self._take(future):
                try:
                    if not self._posted:
                        self.loop.run_forever()
                finally:
                    with self._turn:
                        self._taken = False
                        posted = self._posted.popleft() if self._posted else None
                        self._working += posted is not None
                        self._turn.notify_all()
                if posted is not None:
                    try:
                        copy_context().run(self.marked(posted))
                    finally:
                        self.work(-1)
        finally:
            self._here.works = works

    def _take(self, future: Future[Any]) -> bool:
        """Wait for the turn; False when `future` is done."""
        with self._turn:
            self._turn.wait_for(lambda: future.done() or not self._taken)
            if future.done():
                return False
            self._taken = True
            return True

    def _done(self, works: int) -> None:
        self.work(works)
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.loop.stop)
        with self._turn:
            self._turn.notify_all()

    def work(self, more: int) -> None:
        """So many more functions run outside of the loop: while any does, time is real."""
        with self._turn:
            self._working += more

    def marked(self, function: Callable[..., T]) -> Callable[..., T]:
        """`function`, which counts as one of them: but not while it waits for the loop itself."""

        def run(*args: Any) -> T:
            before, self._here.works = getattr(self._here, "works", 0), 1
            try:
                return function(*args)
            finally:
                self._here.works = before

        return run

    # -- on the loop

    def post(self, function: Callable[[], None]) -> None:
        """Have `function` called between two turns."""
        self._posted.append(function)
        self.loop.stop()

    async def until_idle(self, work: asyncio.Future[Any]) -> None:
        """Until `work` is done, or nothing else can run before time passes."""
        await self._first(work, self._idle)

    async def until_stuck(self, change: asyncio.Future[Any]) -> bool:
        """Wait for `change`; True when nothing is left that could bring it."""
        await self._first(change, self._stuck)
        return not change.done()

    async def _first(self, work: asyncio.Future[Any], waiters: list[asyncio.Future[None]]) -> None:
        waiter = self.loop.create_future()
        waiters.append(waiter)
        try:
            await asyncio.wait({work, waiter}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if waiter in waiters:
                waiters.remove(waiter)
            waiter.cancel()

    def idle(self, *, forever: bool) -> bool:
        """Wake one that waits for that; False when none does."""
        waiters = self._stuck if forever else self._idle
        while waiters:
            if not (waiter := waiters.pop(0)).done():
                waiter.set_result(None)
                return True
        return False

    def busy(self, *, sockets: int) -> bool:
        """Whether something goes on outside of the loop."""
        return self._working > 0 or (self.jobs > 0 and sockets > 0)
