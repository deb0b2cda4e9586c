"""Who has fallen silent: judged by the watcher's own clock, never by Redis's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class _Seen(NamedTuple):
    score: str
    since: float


class MissedHeartbeats:
    """Watches the workers' scores. A worker is silent once its score has stood still for `silence_s`, with an answer
    at least every `gap_s`: a longer pause, of Redis or of the watcher, starts every watch anew.
    """

    def __init__(self, silence_s: float, gap_s: float) -> None:
        self._silence_s = silence_s
        self._gap_s = gap_s
        self._seen: dict[str, _Seen] = {}
        self._last: float | None = None

    def observe(self, scores: Mapping[str, str], now: float) -> None:
        """An answer: the score of each worker that is present. One that is absent is unknown, never dead."""
        if self._last is None or now - self._last > self._gap_s:
            self._seen.clear()
        self._last = now
        seen = self._seen
        self._seen = {
            worker: seen[worker] if worker in seen and seen[worker].score == score else _Seen(score, now)
            for worker, score in scores.items()
        }

    def missing(self, now: float) -> dict[str, str]:
        """Ids and scores of those that are silent."""
        return {w: s.score for w, s in self._seen.items() if now - s.since >= self._silence_s}

    def unchanged(self, worker: str, score: str) -> bool:
        """Whether the last answer had this very score."""
        return worker in self._seen and self._seen[worker].score == score
