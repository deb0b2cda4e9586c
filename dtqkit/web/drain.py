"""How a server process stops: from its first signal, through the drain for load balancers, to the last answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

#: A second signal ends the drain, unless it comes so soon after the first that it is the same request: a host and a
#: supervisor both signal.
SAME_S: Final = 0.25


class Drain:
    """Begun by signals, watched by the handlers: `begun` is true from the first one on."""

    def __init__(self, wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait_s = wait_s
        self._clock = clock
        self._first_at: float | None = None
        #: A stop was asked for.
        self.stop = asyncio.Event()
        #: New connections are not waited for any more.
        self.over = asyncio.Event()
        #: Requests that are under way are not waited for any more.
        self.cut = asyncio.Event()
        #: Whether the first signal was a Ctrl-C.
        self.by_keyboard = False

    @property
    def begun(self) -> bool:
        return self.stop.is_set()

    def ask(self, *, at_once: bool = False) -> None:
        """Stop: after the drain, or `at_once` as for Ctrl-C in a terminal, where nothing balances any load."""
        now = self._clock()
        if self._first_at is None:
            self._first_at = now
            self.by_keyboard = at_once
            self.stop.set()
            if at_once or not self._wait_s:
                self.over.set()
        elif at_once or now - self._first_at > SAME_S:
            if self.over.is_set() and now - self._first_at > SAME_S:
                self.cut.set()
            self.over.set()

    async def wait(self) -> None:
        """After the first signal: serve for the time of the drain, or until a second one."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self.over.wait()
        except TimeoutError:
            self.over.set()
