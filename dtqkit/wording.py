"""Counts and lists of names in messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Names that a message lists.
FEW: Final = 5


def few(names: Sequence[str]) -> str:
    """`a, b, c, d, e and 7 more`; `none`."""
    more = f" and {len(names) - FEW:,} more" if len(names) > FEW else ""
    return f"{', '.join(names[:FEW])}{more}" if names else "none"


def counted(n: int, singular: str, plural: str) -> str:
    """`1 job is`, `no jobs are`, `3 jobs are`: counted(n, "job is", "jobs are")."""
    return f"1 {singular}" if n == 1 else f"{n or 'no'} {plural}"
