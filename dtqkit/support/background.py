"""An event loop on a thread of its own, for those who have none or must not block theirs."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Runs from its making to `close`. The thread is a daemon: an interpreter that ends does not wait for it."""

    def __init__(self, name: str) -> None:
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._loop, self._over = self._started.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except RuntimeError:
            # At the interpreter's end, Python 3.12 starts no thread, not even the one that ends the loop's executor.
            # The loop is closed all the same.
            if not self._started.done() or not self._started.result()[1].is_set():
                raise

    async def _main(self) -> None:
        over = asyncio.Event()
        self._started.set_result((asyncio.get_running_loop(), over))
        await over.wait()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run it there. Raises RuntimeError when the loop has ended."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise

    def soon(self, call: Callable[[], object]) -> None:
        """Call it there, at its next turn, unless the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def end(self, first: Callable[[], Awaitable[None]] | None = None) -> None:
        """Cancel what still runs there, once `first` is done; does not wait for it."""

        async def end() -> None:
            try:
                if first is not None:
                    await first()
            finally:
                self._over.set()

        with suppress(RuntimeError):
            self.start(end())

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end, at most `timeout` seconds."""
        self._thread.join(timeout)


def abandon(*things: object) -> None:
    """In a forked child: keep what it has of its parent's loop and connections as they are, to the end and beyond.

    Were they destroyed, their destructors would take the parent's sockets out of the epoll that both processes share.
    """
    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
