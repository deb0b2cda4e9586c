"""Checks of parameters. Each raises InvalidOption with the parameter's name, the value given and what is allowed."""

# pyright: reportUnnecessaryIsInstance=false
# (a caller without a type checker may pass anything)

import math
from collections.abc import Iterable
from typing import Final

from dtqkit.model.errors import InvalidOption

#: Seconds of each unit that `seconds` reads.
UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def positive(name: str, value: float) -> float:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
        raise InvalidOption(f"{name} must be a finite number above 0, got {value!r}")
    return float(value)


def not_negative(name: str, value: float) -> float:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
        raise InvalidOption(f"{name} must be a finite number of at least 0, got {value!r}")
    return float(value)


def probability(name: str, value: float) -> float:
    if not (isinstance(value, (int, float)) and 0 <= value < 1):
        raise InvalidOption(f"{name} must be at least 0 and below 1, got {value!r}")
    return float(value)


def between_0_and_1(name: str, value: float) -> float:
    if not (isinstance(value, (int, float)) and 0 < value < 1):
        raise InvalidOption(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return float(value)


def whole(name: str, value: int, *, least: int = 1, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        and_most = f" and at most {most:,}" if most is not None else ""
        raise InvalidOption(f"{name} must be a whole number of at least {least}{and_most}, got {value!r}")
    return value


def one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    known = tuple(allowed)
    if value not in known:
        raise InvalidOption(f"{name} must be one of {', '.join(known)}; got {value!r}")
    return value


def seconds(name: str, value: float | str) -> float:
    """`90`, `"90s"`, `"15min"`, `"8h"`, `"1d"` or `"2w"`, in seconds."""
    if not isinstance(value, str):
        return positive(name, value)
    number = value.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = value.strip()[len(number) :]
    try:
        return positive(name, float(number) * UNITS[unit])
    except (KeyError, ValueError):
        raise InvalidOption(
            f"{name} must be seconds or a number with one of {', '.join(UNITS)} (such as 1d); got {value!r}"
        ) from None
