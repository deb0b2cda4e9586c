"""Payloads and results with keys that MongoDB or its driver cannot store: kept as JSON text.

Pipelines, queries, drivers and tools take a key that is empty, has a dot or begins with `$` for a field path, an
operator or a DBRef. A value that has such a key anywhere is stored as `{"": text}`, a form that no other value has.
Everything else is stored as it is, and can be queried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

_TEXT: Final = ""
_type_of: Callable[[Any], type[Any]] = type
_SCALARS: Final = frozenset({type(None), bool, int, float, str})


def pack(value: Any) -> Any:
    """The stored form of a JSON value."""
    return {_TEXT: msgspec.json.encode(value).decode()} if _has_odd_key(value) else value


def unpack(stored: Any) -> Any:
    """The JSON value of a stored form."""
    if _type_of(stored) is dict and len(stored) == 1 and _TEXT in stored:
        return msgspec.json.decode(cast(str, stored[_TEXT]))
    return stored


def is_packed(value: Any) -> bool:
    """Whether a JSON value is stored as text, which MongoDB cannot look into."""
    return _has_odd_key(value)


def _has_odd_key(value: Any) -> bool:
    kind = _type_of(value)
    if kind is dict:
        # Plain loops: this runs for each job, and most payloads have few names.
        for key in value:
            if not key.isidentifier() and _is_odd(key):
                return True
        for part in value.values():  # noqa: SIM110 - a generator would take twice as long
            if _type_of(part) not in _SCALARS and _has_odd_key(part):
                return True
        return False
    return kind is list and not _SCALARS.issuperset(map(type, value)) and any(map(_has_odd_key, value))


def _is_odd(key: str) -> bool:
    return not key or key[0] == "$" or "." in key
