"""How numbers, times and values are put in few words."""

from __future__ import annotations

import json
from typing import Any, Final

#: Characters of a payload, a result or a message that a card shows.
SHORT: Final = 200


def duration(seconds: float | None) -> str:
    """`3 ms`, `1.4 s`, `2 min 5 s`, `3 h 10 min`; a dash for what is not known."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def short(value: str, limit: int = SHORT) -> str:
    """`value`, cut to `limit` characters."""
    return value if len(value) <= limit else value[: limit - 1] + "…"


def as_json(value: Any, limit: int = SHORT) -> str:
    """A JSON value on one line, cut to `limit` characters."""
    return short(json.dumps(value, ensure_ascii=False, default=str), limit)


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`, `12,000 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
