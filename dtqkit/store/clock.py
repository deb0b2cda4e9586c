"""MongoDB's time, without asking it each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

#: A difference that is no error of measurement: somebody has set MongoDB's clock, in seconds.
STEP_S: Final = 2.0
#: Differences that are not worth a correction, in seconds.
_JITTER_S: Final = 0.01


def steady_s() -> float:
    """Seconds on a clock that nobody sets; where the system has one, it goes on while the machine sleeps."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Step(NamedTuple):
    """MongoDB's clock was set: when that was noticed, by the steady clock, and by how much."""

    noticed: float
    by_s: float


class Clock:
    """MongoDB's clock, set by its answers and carried on by a steady one: this machine's wall clock moves no job."""

    def __init__(self, steady: Callable[[], float] = steady_s) -> None:
        self._steady = steady
        # Until it is set, this machine's own time has to do.
        self._zero = datetime.now(UTC) - timedelta(seconds=steady())
        self._is_set = False
        #: The last step of MongoDB's clock that was noticed.
        self.step: Step | None = None

    def read(self) -> float:
        """The steady clock, in seconds."""
        return self._steady()

    def set(self, theirs: datetime, between: tuple[float, float]) -> None:
        """It was `theirs` at MongoDB at some moment between two readings."""
        zero = theirs - timedelta(seconds=sum(between) / 2)
        by_s = (zero - self._zero).total_seconds()
        uncertain_s = (between[1] - between[0]) / 2
        if self._is_set and abs(by_s) <= max(uncertain_s, _JITTER_S):
            return  # as exact as it was
        if self._is_set and abs(by_s) > STEP_S + uncertain_s:
            self.step = Step(between[1], by_s)
        self._zero = zero
        self._is_set = True

    def now(self) -> datetime:
        """MongoDB's time as well as this machine knows it, in whole milliseconds as BSON keeps it."""
        now = self._zero + timedelta(seconds=self._steady())
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
