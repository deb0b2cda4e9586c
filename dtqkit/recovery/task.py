"""A kind of round as a task of its own: a long one holds up neither the leader's ticks nor the other kinds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from dtqkit.broker.broker import Tick
from dtqkit.model.errors import StoreUnavailable
from dtqkit.support.cancel import end

log = logging.getLogger("dtqkit.recovery")

#: Without progress for this time, a round has hung, in seconds: longer than a store may take for its answers.
HUNG_S: Final = 60.0


class RoundTask:
    """Runs `run` whenever it is `due`, one at a time. What fails stays due, so that a later tick tries it again.

    `put_off` is called when a store is away. `run` calls `moved` after each piece of its work.
    """

    def __init__(
        self,
        name: str,
        due: Callable[[Tick], bool],
        run: Callable[[Tick], Awaitable[None]],
        *,
        pause_s: float = 0.0,
        put_off: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._due = due
        self._run = run
        #: Seconds without another try after one that failed.
        self._pause_s = pause_s
        self._on_put_off = put_off
        self._put_off = False
        self._not_before = float("-inf")
        self._moved_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def tick(self, tick: Tick) -> None:
        """Begin a round if one is due and none is under way."""
        now = asyncio.get_running_loop().time()
        if self._task is not None and not self._task.done():
            return
        if now >= self._not_before and self._due(tick):
            self._moved_at = now
            self._task = asyncio.create_task(self._guarded(tick), name=f"recovery: {self._name}")

    def moved(self) -> None:
        """The round has made progress."""
        self._moved_at = asyncio.get_running_loop().time()

    def check(self, patience_s: float) -> None:
        """Raise RuntimeError when a round has made no progress for so long: better a process that is started again."""
        stood_s = asyncio.get_running_loop().time() - self._moved_at
        if self._task is not None and not self._task.done() and stood_s > patience_s:
            raise RuntimeError(f"a round of recovery has hung for {stood_s:.0f} s ({self._name})")

    async def end(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _guarded(self, tick: Tick) -> None:
        try:
            await self._run(tick)
        except StoreUnavailable as error:
            if not self._put_off:
                log.warning("recovery is postponed (%s): %s", self._name, error)
            self._put_off = True
            if self._on_put_off is not None:
                self._on_put_off()
        except Exception:
            log.exception("a round of recovery broke (%s); the next one tries again", self._name)
        else:
            self._put_off = False
            return
        self._not_before = asyncio.get_running_loop().time() + self._pause_s


class Progress:
    """A line in the log now and then while much is to be done, and one at its end."""

    #: Seconds between two lines.
    EVERY_S: Final = 30.0

    def __init__(self, text: str) -> None:
        #: With a place for the number.
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
