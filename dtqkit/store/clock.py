"""MongoDB's time, estimated without a round trip."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

#: A difference in seconds that is too large for a measurement error: MongoDB's clock was set.
STEP_S: Final = 2.0
#: Smaller differences are not corrected, in seconds.
_JITTER_S: Final = 0.01


#: On systems that have one: a monotonic clock that also counts while the machine sleeps.
_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def steady_s() -> float:
    """Seconds on a monotonic clock; on systems that have one, a clock that also counts while the machine sleeps."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class Step(NamedTuple):
    """MongoDB's clock was set: when that was noticed (by the steady clock), and by how many seconds."""

    noticed: float
    by_s: float


class Clock:
    """MongoDB's clock: set by its answers, advanced by a monotonic clock. This machine's wall clock does not matter."""

    def __init__(self, steady: Callable[[], float] = steady_s) -> None:
        self._steady = steady
        # Until it is set, use this machine's time.
        self._zero = datetime.now(UTC) - timedelta(seconds=steady())
        self._zero_s = self._zero.timestamp()
        self._is_set = False
        #: The last step of MongoDB's clock that this process noticed.
        self.step: Step | None = None

    def read(self) -> float:
        """The steady clock, in seconds."""
        return self._steady()

    def set(self, theirs: datetime, between: tuple[float, float]) -> None:
        """MongoDB's time was `theirs` at some moment between these two readings of the steady clock."""
        zero = theirs - timedelta(seconds=sum(between) / 2)
        by_s = (zero - self._zero).total_seconds()
        uncertain_s = (between[1] - between[0]) / 2
        if self._is_set and abs(by_s) <= max(uncertain_s, _JITTER_S):
            return  # no more exact than the present value
        if self._is_set and abs(by_s) > STEP_S + uncertain_s:
            self.step = Step(between[1], by_s)
        self._zero = zero
        self._zero_s = zero.timestamp()
        self._is_set = True

    def now(self) -> datetime:
        """MongoDB's time, as estimated here, in whole milliseconds as BSON stores it."""
        return datetime.fromtimestamp(int((self._zero_s + self._steady()) * 1000) / 1000, UTC)
