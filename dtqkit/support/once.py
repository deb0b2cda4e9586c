"""What is said once, however often it is met."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final


class Once:
    """Remembers what it was asked about, the last `MOST` of them."""

    MOST: Final = 1_000

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, ...], None] = {}

    def first(self, *what: Hashable) -> bool:
        """Whether this is asked for the first time."""
        if what in self._known:
            return False
        if len(self._known) >= self.MOST:
            del self._known[next(iter(self._known))]
        self._known[what] = None
        return True
