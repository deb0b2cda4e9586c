"""Names similar to an unknown one, for an error: found with bounded work, however long the name is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

#: Names that are compared, and how long a name may be for that: comparing takes time by the square of it.
MAX_NAMES: Final = 64
MAX_LENGTH: Final = 64


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """At most three of `names`, the most alike first."""
    if len(name) > MAX_LENGTH:
        return []
    alike = sorted((other for other in names if len(other) <= MAX_LENGTH), key=lambda other: _unlike(name, other))
    return difflib.get_close_matches(name, alike[:MAX_NAMES], n=3)


def _unlike(name: str, other: str) -> int:
    """A first guess: how much the lengths differ, less for those that begin alike."""
    return abs(len(name) - len(other)) - (name[:2].lower() == other[:2].lower()) * MAX_LENGTH
