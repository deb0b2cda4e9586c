"""What the rounds of recovery did, and when: stored in Redis for inspection."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec


class Round(msgspec.Struct):
    """One kind of round: when it last ran, and how many repairs it made since this leader began."""

    at: datetime
    repaired: int = 0


class Rounds:
    """The rounds of one leader."""

    def __init__(self, leader: str) -> None:
        self._leader = leader
        self._rounds: dict[str, Round] = {}
        self.changed = False

    def record(self, name: str, repaired: int) -> None:
        """Round `name` has run, with so many repairs."""
        if name in ("sweep", "mend") and not repaired:
            return  # these run every second
        known = self._rounds.setdefault(name, Round(datetime.now(UTC)))
        known.at = datetime.now(UTC)
        known.repaired += repaired
        self.changed = True

    def encode(self) -> bytes:
        self.changed = False
        return msgspec.json.encode({"leader": self._leader, "rounds": self._rounds})
