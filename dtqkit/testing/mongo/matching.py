"""The filters of finds and writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from dtqkit.testing.mongo.expressions import Variables, evaluate, true
from dtqkit.testing.mongo.values import MISSING, TYPES, order, rank, reached


def matches(doc: Mapping[str, Any], query: Mapping[str, Any], variables: Variables) -> bool:
    """Whether a document fits a filter."""
    for name, condition in query.items():
        match name:
            case "$and":
                fits = all(matches(doc, part, variables) for part in condition)
            case "$or":
                fits = any(matches(doc, part, variables) for part in condition)
            case "$nor":
                fits = not any(matches(doc, part, variables) for part in condition)
            case "$expr":
                fits = true(evaluate(condition, doc, variables))
            case _ if name.startswith("$"):
                raise NotImplementedError(f"the filter {name} in a record in memory (dtqkit.testing.mongo.matching)")
            case _:
                fits = _field(list(reached(doc, name)), condition, variables)
        if not fits:
            return False
    return True


def _field(values: list[Any], condition: Any, variables: Variables) -> bool:
    """Whether one of the values that a field has fits."""
    if not (isinstance(condition, dict) and any(str(name).startswith("$") for name in cast("Any", condition))):
        return _equals(values, condition)
    return all(_operator(values, name, wanted, variables) for name, wanted in cast("Any", condition).items())


def _operator(values: list[Any], name: str, wanted: Any, variables: Variables) -> bool:
    match name:
        case "$eq":
            return _equals(values, wanted)
        case "$ne":
            return not _equals(values, wanted)
        case "$in":
            return any(_equals(values, one) for one in wanted)
        case "$nin":
            return not any(_equals(values, one) for one in wanted)
        case "$exists":
            return any(value is not MISSING for value in values) == bool(wanted)
        case "$not":
            return not _field(values, wanted, variables)
        case "$elemMatch":
            return any(_element(one, wanted, variables) for v in values if isinstance(v, list) for one in _items(v))
        case "$regex":
            return any(isinstance(value, str) and re.search(wanted, value) for value in _each(values))
        case "$type":
            return any(TYPES[rank(value)] == wanted for value in _each(values))
        case "$all":
            return all(_equals(values, one) for one in wanted)
        case "$size":
            return any(isinstance(value, list) and len(_items(value)) == wanted for value in values)
        case _ if name in _ORDERS:
            return any(_compare(value, wanted, _ORDERS[name]) for value in _each(values))
        case _:
            raise NotImplementedError(f"the filter {name} in a record in memory (dtqkit.testing.mongo.matching)")


def _element(value: Any, condition: Any, variables: Variables) -> bool:
    """Whether an element of an array fits: by operators, or as a document."""
    if all(name.startswith("$") for name in condition):
        return _field([value], condition, variables)
    return isinstance(value, dict) and matches(cast("dict[str, Any]", value), condition, variables)


def _items(value: Any) -> list[Any]:
    return cast("list[Any]", value)


def _each(values: list[Any]) -> list[Any]:
    """The values, and the elements of those that are arrays."""
    return [*values, *(one for value in values if isinstance(value, list) for one in _items(value))]


def _equals(values: list[Any], wanted: Any) -> bool:
    if wanted is None:
        return any(value is None or value is MISSING for value in _each(values)) or not values
    if isinstance(wanted, re.Pattern):
        pattern = cast("re.Pattern[str]", wanted)
        return any(isinstance(value, str) and pattern.search(value) for value in _each(values))
    key = order(wanted)
    return any(order(value) == key for value in _each(values) if value is not MISSING)


def _compare(value: Any, wanted: Any, holds: Callable[[Any, Any], bool]) -> bool:
    """Only values of one type are compared."""
    if wanted is None:
        return holds((1,), (1,)) and (value is None or value is MISSING)
    return rank(value) == rank(wanted) and holds(order(value), order(wanted))


_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}
