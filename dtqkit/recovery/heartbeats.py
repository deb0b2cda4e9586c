"""Which workers miss their heartbeats, by this process's own clock, never by that of Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class _Seen(NamedTuple):
    score: str
    since: float


class MissedHeartbeats:
    """A worker misses its heartbeats if its score has not changed for `silence_s`, with an answer of Redis at least
    every `gap_s`. A longer gap, of Redis or of this process, restarts the measurement for all workers.
    """

    def __init__(self, silence_s: float, gap_s: float) -> None:
        self._silence_s = silence_s
        self._gap_s = gap_s
        self._seen: dict[str, _Seen] = {}
        self._last: float | None = None

    def observe(self, scores: Mapping[str, str], now: float) -> None:
        """Note an answer: the score of each listed worker. A worker that is not listed is unknown, never dead."""
        if self._last is None or now - self._last > self._gap_s:
            self._seen.clear()
        self._last = now
        seen = self._seen
        self._seen = {
            worker: seen[worker] if worker in seen and seen[worker].score == score else _Seen(score, now)
            for worker, score in scores.items()
        }

    def missing(self, now: float) -> dict[str, str]:
        """Ids and scores of the workers whose heartbeats are missing."""
        return {w: s.score for w, s in self._seen.items() if now - s.since >= self._silence_s}

    def unchanged(self, worker: str, score: str) -> bool:
        """Whether the last answer had exactly this score."""
        return worker in self._seen and self._seen[worker].score == score
