"""Selects which of the jobs that running jobs wait for are checked next: some at a time, at growing intervals."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from bson import ObjectId

#: Ids of one look.
LOOK: Final = 256
#: Pauses between looks that start nothing, in seconds: doubled up to the longest.
MIN_PAUSE_S: Final = 0.25
MAX_PAUSE_S: Final = 2.0


class Awaited:
    """One worker's looks. A job that is over is looked at no more; nor is one that this worker runs."""

    def __init__(self) -> None:
        self._over: set[ObjectId] = set()
        self._start = 0
        #: What could have been started when it was looked at.
        self._ready: list[ObjectId] = []
        self._at = 0.0
        self._pause_s = MIN_PAUSE_S

    def soon(self) -> None:
        """A slot is lent, or one that was lent is free again."""
        self._at = 0.0
        self._pause_s = MIN_PAUSE_S

    def wait_s(self, now: float) -> float:
        """Until the next look, in seconds."""
        return max(0.0, self._at - now)

    def next(self, awaited: Sequence[ObjectId], most: int) -> list[ObjectId]:
        """What to look at now, of all that is waited for: at most so many of those that could be started before."""
        if self._ready:
            wanted = set(awaited)
            self._ready = [job for job in self._ready if job in wanted]
        if self._ready:
            return self._ready[:most]
        self._over.intersection_update(awaited)
        left = [job for job in awaited if job not in self._over] if self._over else list(awaited)
        if self._start >= len(left):
            self._start = 0
        return left[self._start : self._start + LOOK]

    def looked(
        self, now: float, seen: Sequence[ObjectId], over: Collection[ObjectId], ready: Sequence[ObjectId], started: int
    ) -> None:
        """After a look at `seen`: what was over, what could be started, and how many of that were."""
        again = bool(self._ready)
        self._over.update(over)
        self._ready = self._ready[len(seen) :] if again else list(ready[started:])
        if started:
            self._pause_s = MIN_PAUSE_S
        else:
            if not again:
                self._start += len(seen) - len(over)
            self._at = now + self._pause_s
            self._pause_s = min(MAX_PAUSE_S, self._pause_s * 2)
