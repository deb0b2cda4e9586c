"""Run a kind of round in its own task: a long one delays neither the leader's ticks nor other rounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from dtqkit.broker.broker import Tick
from dtqkit.model.errors import StoreUnavailable
from dtqkit.support.cancel import end

log = logging.getLogger("dtqkit.recovery")

#: A round without progress for this time hangs, in seconds: longer than the timeout of any store.
HUNG_S: Final = 60.0


class RoundTask:
    """Runs `run` whenever it is `due`, one at a time. A round that fails stays due, so that a later tick retries it.

    `when_postponed` is called when a store is unreachable. `run` calls `progressed` after each piece of its work.
    """

    def __init__(
        self,
        name: str,
        due: Callable[[Tick], bool],
        run: Callable[[Tick], Awaitable[None]],
        *,
        pause_s: float = 0.0,
        when_postponed: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._due = due
        self._run = run
        #: Pause after a failure, in seconds.
        self._pause_s = pause_s
        self._when_postponed = when_postponed
        self._postponed = False
        self._not_before = float("-inf")
        self._progressed_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def tick(self, tick: Tick) -> None:
        """Begin a round if one is due and none is running."""
        now = asyncio.get_running_loop().time()
        if self._task is not None and not self._task.done():
            return
        if now >= self._not_before and self._due(tick):
            self._progressed_at = now
            self._task = asyncio.create_task(self._guarded(tick), name=f"recovery: {self._name}")

    def progressed(self) -> None:
        """The round has made progress."""
        self._progressed_at = asyncio.get_running_loop().time()

    def check(self, patience_s: float) -> None:
        """Raise RuntimeError when a round has made no progress for so long: the process is to be restarted."""
        stood_s = asyncio.get_running_loop().time() - self._progressed_at
        if self._task is not None and not self._task.done() and stood_s > patience_s:
            raise RuntimeError(f"a round of recovery has hung for {stood_s:.0f} s ({self._name})")

    async def end(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _guarded(self, tick: Tick) -> None:
        try:
            await self._run(tick)
        except StoreUnavailable as error:
            if not self._postponed:
                log.warning("recovery postponed (%s): %s", self._name, error)
            self._postponed = True
            if self._when_postponed is not None:
                self._when_postponed()
        except Exception:
            log.exception("a round of recovery failed (%s); the next one tries again", self._name)
        else:
            self._postponed = False
            return
        self._not_before = asyncio.get_running_loop().time() + self._pause_s


class ProgressLog:
    """Logs a line periodically during long work, and one at its end."""

    #: Seconds between two lines.
    EVERY_S: Final = 30.0

    def __init__(self, text: str) -> None:
        #: Format with a place for the number.
        self._text = text
        self._done = 0
        self._shown_at = asyncio.get_running_loop().time()

    def add(self, done: int) -> None:
        self._done += done
        now = asyncio.get_running_loop().time()
        if now - self._shown_at > self.EVERY_S:
            self._shown_at = now
            log.info(f"{self._text}, and more to do", self._done)

    def end(self) -> None:
        if self._done:
            log.warning(self._text, self._done)
