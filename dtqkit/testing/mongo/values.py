"""BSON values: their order, and the fields of documents by their paths."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, cast

from bson import ObjectId


class _Missing:
    """Stands for a field that is not there."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()

#: The names of types by rank; all numbers are one here.
TYPES: Final = ("missing", "null", "number", "string", "object", "array", "binData", "objectId", "bool", "date")


def copied(value: Any) -> Any:
    """A deep copy of a document."""
    if type(value) is dict:
        return {key: copied(part) for key, part in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [copied(part) for part in cast("list[Any]", value)]
    return value


def rank(value: Any) -> int:
    """The place of its type in BSON's order of types."""
    match value:
        case _Missing():
            return 0
        case None:
            return 1
        case bool():
            return 8
        case int() | float():
            return 2
        case str():
            return 3
        case dict():
            return 4
        case list():
            return 5
        case bytes():
            return 6
        case ObjectId():
            return 7
        case datetime():
            return 9
        case _:
            raise NotImplementedError(f"values of type {type(cast('object', value)).__name__} in a record in memory")


def order(value: Any) -> tuple[Any, ...]:
    """A key by which values of all types sort."""
    match value:
        case dict():
            items = cast("dict[str, Any]", value).items()
            return (4, tuple((rank(part), key, order(part)) for key, part in items))
        case list():
            return (5, tuple(order(part) for part in cast("list[Any]", value)))
        case None | _Missing():
            return (rank(value),)
        case _:
            return (rank(value), value)


def at(value: Any, path: str) -> Any:
    """The value at a path in an expression; of an array's documents, the array of theirs."""
    for part in path.split("."):
        if type(value) is dict:
            value = cast("dict[str, Any]", value).get(part, MISSING)
        elif type(value) is list:
            found = [at(one, part) for one in cast("list[Any]", value)]
            value = [one for one in found if one is not MISSING]
        else:
            return MISSING
    return value


def reached(value: Any, path: str) -> Iterator[Any]:
    """The values at a path that a filter looks at: those of all of an array's documents."""
    first, _, rest = path.partition(".")
    if type(value) is dict:
        found = cast("dict[str, Any]", value).get(first, MISSING)
        if not rest:
            yield found
        else:
            yield from reached(found, rest)
    elif type(value) is list:
        for one in cast("list[Any]", value):
            yield from reached(one, path)
    else:
        yield MISSING


def put(doc: dict[str, Any], path: str, value: Any) -> None:
    """Set the field at `path`; MISSING removes it."""
    *parents, last = path.split(".")
    for part in parents:
        inner = doc.get(part)
        if type(inner) is not dict:
            if value is MISSING:
                return
            inner = doc[part] = {}
        doc = cast("dict[str, Any]", inner)
    if value is MISSING:
        doc.pop(last, None)
    else:
        doc[last] = value


def projected(doc: dict[str, Any], fields: dict[str, Any] | None) -> dict[str, Any]:
    """A copy of `doc` with the fields that a projection names."""
    if not fields:
        return copied(doc)
    if not all(fields[name] in (0, 1, True, False) for name in fields):
        raise NotImplementedError(f"the projection {fields!r}")
    left_out = [name for name, wanted in fields.items() if not wanted]
    if len(left_out) == len(fields) or (left_out == ["_id"] and len(fields) == 1):
        whole = copied(doc)
        for name in left_out:
            put(whole, name, MISSING)
        return whole
    found: dict[str, Any] = {} if "_id" in left_out else {"_id": doc["_id"]}
    for name in fields:
        first, _, rest = name.partition(".")
        if name in left_out or first not in doc:
            continue
        found[first] = _merged(found.get(first), _part(doc[first], rest)) if rest else copied(doc[first])
    return found


def _part(value: Any, path: str) -> Any:
    if type(value) is list:
        return [_part(one, path) for one in cast("list[Any]", value)]
    if type(value) is not dict:
        return value
    first, _, rest = path.partition(".")
    inner = cast("dict[str, Any]", value)
    if first not in inner:
        return {}
    return {first: _part(inner[first], rest) if rest else copied(inner[first])}


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return cast("dict[str, Any]", old) | cast("dict[str, Any]", new)
    if isinstance(old, list) and isinstance(new, list):
        pairs = zip(cast("list[Any]", old), cast("list[Any]", new), strict=True)
        return [_merged(one, other) for one, other in pairs]
    return new
