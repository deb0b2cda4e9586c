"""A queue for threads: an AsyncTaskQueue on an event loop of its own, in a thread of its own."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from dtqkit.client.aio import LOOK_S, AsyncTaskQueue
from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.client.hooking import HookedQueue, would_block
from dtqkit.control import Control
from dtqkit.model.errors import DtqError, QueueClosed, WrongLoop
from dtqkit.model.jobs import Job
from dtqkit.model.settings import Settings
from dtqkit.support.background import Background, abandon
from dtqkit.tasks.registry import TaskRegistry

log: logging.Logger = logging.getLogger("dtqkit.queue")

T = TypeVar("T")

#: How long a job has waited, in seconds, before it is looked up whether it is paused, to show that.
PATIENCE_S: Final = 2.0
#: How long a hasty end of all queues may take.
LEAVE_S: Final = 1.0

_all: weakref.WeakSet[Driver] = weakref.WeakSet()
#: Those whose private loop runs.
_open: weakref.WeakKeyDictionary[Driver, Background] = weakref.WeakKeyDictionary()


@atexit.register
def _leave_all() -> None:
    """Close the connections of queues that nobody has closed, as far as that is quickly done."""
    left = dict(_open)
    for queue in left:
        queue.leave()
    until = time.monotonic() + LEAVE_S
    for background in left.values():
        background.join(max(0.0, until - time.monotonic()))


def _after_fork() -> None:
    _open.clear()
    for queue in list(_all):
        queue.after_fork()


# A forked child has the queues of its parent, but not the threads that they live on.
os.register_at_fork(after_in_child=_after_fork)


class Driver(HookedQueue):
    """What a TaskQueue does with its loop. Its methods may be called from any thread."""

    def __init__(self, settings: Settings | None, control: Control | None) -> None:
        super().__init__(TaskRegistry())
        self._settings = settings
        self._control = control
        #: Makes another one of the same kind, for a forked child.
        self._new_control: Callable[[], Control] | None = None
        self._forked = False
        self._lock = threading.Lock()
        self._background: Background | None = None
        self._core: AsyncTaskQueue | None = None
        #: What is closed with the queue.
        self._owned = ExitStack()
        self._closed = False
        _all.add(self)

    @property
    def settings(self) -> Settings:
        """Read from the environment at the first use, unless they were given."""
        if self._settings is None:
            self._settings = Settings.default()
        return self._settings

    @property
    def remote(self) -> bool:
        """Whether it is reached through a server, and not by its stores."""
        return self._control is not None

    @property
    def core(self) -> AsyncTaskQueue:
        """The asynchronous queue that this one drives; it lives on the private loop."""
        with self._lock:
            if self._closed:
                raise QueueClosed("this queue is closed")
            self._reconnect()
            if self._core is None:
                settings = None if self._control is not None else self.settings
                self._core = AsyncTaskQueue(settings, registry=self.registry, control=self._control, hooks=self.hooks)
            return self._core

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the private loop."""
        with self._lock:
            if self._closed:
                work.close()
                raise QueueClosed("this queue is closed")
            return self._loop().start(work)

    def _loop(self) -> Background:
        """The private loop, with its thread. Under the lock."""
        self._reconnect()
        if self._background is None:
            self._background = Background("dtqkit-queue")
            self._owned.callback(self._background.join)
            self._owned.callback(self._end)
            _open[self] = self._background
        return self._background

    def _reconnect(self) -> None:
        """At the first use in a forked child: connections of its own. Under the lock."""
        if self._forked and self._core is not None:
            self._control = self._new_control() if self._new_control is not None else self._control
            self._core.reconnect(self._control)
        self._forked = False

    def after_fork(self) -> None:
        """In a forked child, where the threads of this process are missing: forget what lives on them.

        The parent's workers and stores go on being the parent's: closing the queue here does not stop them.
        """
        abandon(self._background, self._owned)
        if self._core is not None:
            self._core.after_fork()
        self._lock = threading.Lock()  # one of those threads may have held it
        self._background = None
        self._lifespan_here = None
        self._owned = ExitStack()
        self._forked = True

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the private loop and wait for its result. Raises WrongLoop where that blocks a loop."""
        if self._would_block():
            work.close()
            raise WrongLoop(
                "a TaskQueue would block the event loop that it is called from: await asyncio.to_thread(…) with the "
                "call, or use AsyncTaskQueue"
            )
        future = self.start(work)
        try:
            return future.result()
        except CancelledError:
            raise QueueClosed("this queue was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def freshen(self, handles: Sequence[AsyncJobHandle[Any]]) -> None:
        """Have those of these handles whose record may be old looked at soon; nobody waits for it."""
        due = [handle for handle in handles if handle.is_due()]
        if not due:
            return

        def look() -> None:
            for handle in due:
                handle.look_soon()

        with self._lock:
            if not self._closed:
                self._loop().soon(look)

    def catch_up(self, handles: Sequence[AsyncJobHandle[Any]]) -> bool:
        """Look at these jobs, for at most LOOK_S; from now on their handles follow them. Whether that was done in time.

        For showing them: never raises, and what cannot be had in time is shown as it was last seen.
        """
        self.freshen(handles)
        behind = [handle for handle in handles if not handle.known.is_final]
        if not behind:
            return True

        async def look() -> bool:
            await self.core.look(behind)
            return True

        return not self._would_block() and self._look(look()) is not None

    def paused_by(self, job: Job) -> str:
        """Which pause holds a job that has waited for PATIENCE_S, for showing it; never raises, and takes LOOK_S at
        most. Empty: none does, or that cannot be had."""
        waited_s = (datetime.now(UTC) - (job.queued_at or job.created_at)).total_seconds()
        if job.status != "pending" or waited_s < PATIENCE_S or self._would_block():
            return ""
        return self._look(self.core.paused_by(job)) or ""

    def _look(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` brings within LOOK_S; None, with a line in the log, when it does not."""
        try:
            looking = self.start(work)
        except RuntimeError:
            return None  # closed
        try:
            return looking.result(LOOK_S)
        except (DtqError, TimeoutError) as error:
            looking.cancel()
            log.info("shown as last known, without asking the stores: %s", error or "no answer in time")
            return None

    def _would_block(self) -> bool:
        """Whether the caller is a coroutine on a worker's loop or on the queue's own."""
        return would_block()

    def _end(self) -> None:
        if self._background is not None:
            self._background.end(self._core.close if self._core else None)

    def close(self) -> None:
        """Close the connections; stop workers and stores that were started here. Jobs of other workers go on."""
        with self._lock:
            self._closed = True
        self._owned.close()

    def leave(self) -> None:
        """Begin to close, for an interpreter that ends: what is not done soon is left undone."""
        self._closed = True
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
