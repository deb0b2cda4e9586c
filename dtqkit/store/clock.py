"""MongoDB's time, without asking it each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def steady_s() -> float:
    """Seconds on a clock that nobody sets; where the system has one, it goes on while the machine sleeps."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Clock:
    """Set by MongoDB's clock once, then carried on by a steady one: a wall clock that is set meanwhile moves no job."""

    def __init__(self, steady: Callable[[], float] = steady_s) -> None:
        self._steady = steady
        # Until it is set, this machine's own time has to do.
        self._zero = datetime.now(UTC) - timedelta(seconds=steady())

    def read(self) -> float:
        """The steady clock, in seconds."""
        return self._steady()

    def set(self, theirs: datetime, between: tuple[float, float]) -> None:
        """It was `theirs` at MongoDB at some moment between two readings."""
        self._zero = theirs - timedelta(seconds=sum(between) / 2)

    def now(self) -> datetime:
        """MongoDB's time as well as this machine knows it, in whole milliseconds as BSON keeps it."""
        now = self._zero + timedelta(seconds=self._steady())
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
