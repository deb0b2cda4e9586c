"""Counts, times and lists of names, as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Names that a message lists.
FEW: Final = 5


def duration(seconds: float | None, *, unknown: str = "") -> str:
    """`3.2 ms`, `1.25 s`, `4 min 10 s`, `2 h 5 min`; `unknown` for None."""
    if seconds is None:
        return unknown
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def few(names: Sequence[str]) -> str:
    """`a, b, c, d, e and 7 more`; `none`."""
    more = f" and {len(names) - FEW:,} more" if len(names) > FEW else ""
    return f"{', '.join(names[:FEW])}{more}" if names else "none"


def counted(n: int, singular: str, plural: str) -> str:
    """`1 job is`, `no jobs are`, `3 jobs are`: counted(n, "job is", "jobs are")."""
    return f"1 {singular}" if n == 1 else f"{n or 'no'} {plural}"


def storable(text: str) -> str:
    """`text` in a form that can be stored: no lone surrogates, no NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")
