"""The jobs whose payload has certain values, as a filter: the same meaning as `dtqkit.model.where`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dtqkit.model.where import PayloadMatch, Scalar
from dtqkit.store.documents import Document

#: An expression: the payload is stored as text (`store.packing`), which MongoDB cannot look into.
PACKED: Final[Document] = {"$eq": [{"$type": {"$getField": {"field": "", "input": "$payload"}}}, "string"]}


def has_values(where: Mapping[str, Scalar], defaults: Mapping[str, Any]) -> Document:
    """An expression: the payload has all these values. False for one that is stored as text."""
    return {"$and": [_equals(name, value, defaults) for name, value in where.items()]}


def _equals(name: str, value: Scalar, defaults: Mapping[str, Any]) -> Document:
    found: Any = f"$payload.{name}"
    if name in defaults:
        absent = {"$and": [{"$eq": [{"$type": found}, "missing"]}, {"$not": [PACKED]}]}
        found = {"$cond": [absent, {"$literal": defaults[name]}, found]}
    return {"$eq": [found, {"$literal": value}]}


def matching(match: PayloadMatch) -> Document:
    """An expression: the job matches. False for one whose payload is stored as text."""
    by_defaults: dict[tuple[tuple[str, Scalar], ...], list[str]] = {}
    for task, defaults in match.defaults.items():
        by_defaults.setdefault(tuple(defaults.items()), []).append(task)
    ways = [has_values(match.where, {})]
    for defaults, tasks in by_defaults.items():
        ways.append({"$and": [{"$in": ["$task", tasks]}, has_values(match.where, dict(defaults))]})
    return {"$or": ways}


def may_match(match: PayloadMatch) -> Document:
    """An expression: the job matches, or its payload is stored as text, so that it has to be read to know."""
    return {"$or": [PACKED, matching(match)]}
