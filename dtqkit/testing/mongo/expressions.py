"""The expressions of pipelines, evaluated on a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, cast

from bson import ObjectId

from dtqkit.testing.mongo.values import MISSING, TYPES, at, copied, order, rank

Document: TypeAlias = dict[str, Any]
#: Values of `$$NAME`: NOW, and what $let defines.
Variables: TypeAlias = Mapping[str, Any]


def evaluate(expression: Any, doc: Any, variables: Variables) -> Any:
    """The value of an expression; MISSING where it names a field that is not there, or is $$REMOVE."""
    if isinstance(expression, str):
        return _named(expression, doc, variables) if expression.startswith("$") else expression
    if isinstance(expression, list | tuple):
        found = [evaluate(part, doc, variables) for part in cast("list[Any]", expression)]
        return [None if part is MISSING else part for part in found]
    if not isinstance(expression, dict):
        return expression
    fields = cast("dict[str, Any]", expression)
    name = next(iter(fields), "")
    if not name.startswith("$"):
        made = {key: evaluate(part, doc, variables) for key, part in fields.items()}
        return {key: part for key, part in made.items() if part is not MISSING}
    argument = fields[name]
    if (special := _SPECIAL.get(name)) is not None:
        return special(argument, doc, variables)
    if (function := _FUNCTIONS.get(name)) is None:
        raise NotImplementedError(f"the expression {name} in a record in memory (dtqkit.testing.mongo.expressions)")
    if isinstance(argument, list | tuple):
        return function([evaluate(part, doc, variables) for part in cast("list[Any]", argument)])
    return function([evaluate(argument, doc, variables)])


def _named(name: str, doc: Any, variables: Variables) -> Any:
    if not name.startswith("$$"):
        return at(doc, name[1:])
    variable, _, path = name[2:].partition(".")
    if variable == "REMOVE":
        return MISSING
    value = doc if variable in ("ROOT", "CURRENT") else variables[variable]
    return at(value, path) if path else value


def true(value: Any) -> bool:
    """As pipelines take a value: only false, null, 0 and what is missing are false."""
    return not (value is MISSING or value is None or value is False or (type(value) is not bool and value == 0))


def _is_none(value: Any) -> bool:
    return value is None or value is MISSING


# -- those that do not evaluate all of their arguments


def _cond(argument: Any, doc: Any, variables: Variables) -> Any:
    parts: list[Any] = argument
    if isinstance(argument, dict):
        fields = cast(Document, argument)
        parts = [fields["if"], fields["then"], fields["else"]]
    condition, yes, no = parts
    return evaluate(yes if true(evaluate(condition, doc, variables)) else no, doc, variables)


def _let(argument: Any, doc: Any, variables: Variables) -> Any:
    defined = {name: evaluate(part, doc, variables) for name, part in argument["vars"].items()}
    return evaluate(argument["in"], doc, {**variables, **defined})


def _switch(argument: Any, doc: Any, variables: Variables) -> Any:
    for branch in argument["branches"]:
        if true(evaluate(branch["case"], doc, variables)):
            return evaluate(branch["then"], doc, variables)
    return evaluate(argument["default"], doc, variables)


def _set_field(argument: Any, doc: Any, variables: Variables) -> Any:
    found = evaluate(argument["input"], doc, variables)
    value = evaluate(argument["value"], doc, variables)
    if _is_none(found):
        return None
    changed = {name: part for name, part in found.items() if name != argument["field"]}
    return changed if value is MISSING else {**found, argument["field"]: value}


def _get_field(argument: Any, doc: Any, variables: Variables) -> Any:
    found = evaluate(argument["input"], doc, variables)
    return cast(Document, found).get(argument["field"], MISSING) if isinstance(found, dict) else MISSING


def _unset_field(argument: Any, doc: Any, variables: Variables) -> Any:
    return _set_field({**argument, "value": "$$REMOVE"}, doc, variables)


def _if_null(argument: Any, doc: Any, variables: Variables) -> Any:
    value: Any = MISSING
    for part in argument:
        value = evaluate(part, doc, variables)
        if not _is_none(value):
            break
    return value


def _filter(argument: Any, doc: Any, variables: Variables) -> Any:
    found = evaluate(argument["input"], doc, variables)
    name = argument.get("as", "this")
    if _is_none(found):
        return None
    return [one for one in found if true(evaluate(argument["cond"], doc, {**variables, name: one}))]


def _map(argument: Any, doc: Any, variables: Variables) -> Any:
    found = evaluate(argument["input"], doc, variables)
    name = argument.get("as", "this")
    return None if _is_none(found) else [evaluate(argument["in"], doc, {**variables, name: one}) for one in found]


def _date_trunc(argument: Any, doc: Any, variables: Variables) -> Any:
    if argument["unit"] != "minute":
        raise NotImplementedError(f"$dateTrunc by {argument['unit']}")
    when = _to_date([evaluate(argument["date"], doc, variables)])
    return None if when is None else when.replace(second=0, microsecond=0)


def _literal(argument: Any, _: Any, __: Variables) -> Any:
    return copied(argument)


_SPECIAL: Final[Mapping[str, Callable[[Any, Any, Variables], Any]]] = {
    "$cond": _cond,
    "$let": _let,
    "$ifNull": _if_null,
    "$switch": _switch,
    "$getField": _get_field,
    "$setField": _set_field,
    "$unsetField": _unset_field,
    "$filter": _filter,
    "$map": _map,
    "$dateTrunc": _date_trunc,
    "$literal": _literal,
}


# -- the others


def _add(values: list[Any]) -> Any:
    if any(map(_is_none, values)):
        return None
    dates = [value for value in values if isinstance(value, datetime)]
    total = sum(value for value in values if not isinstance(value, datetime))
    return dates[0] + timedelta(milliseconds=round(total)) if dates else total


def _subtract(values: list[Any]) -> Any:
    left, right = values
    if _is_none(left) or _is_none(right):
        return None
    if isinstance(left, datetime):
        if isinstance(right, datetime):
            return round((left - right) / timedelta(milliseconds=1))
        return left - timedelta(milliseconds=round(right))
    return left - right


def _multiply(values: list[Any]) -> Any:
    product: Any = 1
    for value in values:
        if _is_none(value):
            return None
        product *= value
    return product


def _divide(values: list[Any]) -> Any:
    left, right = values
    return None if _is_none(left) or _is_none(right) else left / right


def _abs(values: list[Any]) -> Any:
    return None if _is_none(values[0]) else abs(values[0])


def _extreme(choose: Callable[..., Any]) -> Callable[[list[Any]], Any]:
    def function(values: list[Any]) -> Any:
        if len(values) == 1 and isinstance(values[0], list):
            values = cast("list[Any]", values[0])
        known = [value for value in values if not _is_none(value)]
        return choose(known, key=order) if known else None

    return function


def _concat_arrays(values: list[Any]) -> Any:
    return None if any(map(_is_none, values)) else [one for value in values for one in value]


def _slice(values: list[Any]) -> Any:
    found: Any = values[0]
    if _is_none(found):
        return None
    if len(values) == 2:
        n = values[1]
        return found[:n] if n >= 0 else found[n:]
    start = values[1] if values[1] >= 0 else max(0, len(found) + values[1])
    return found[start : start + values[2]]


def _element(values: list[Any]) -> Any:
    found, index = values
    if _is_none(found):
        return None
    return found[index] if -len(found) <= index < len(found) else MISSING


def _to_date(values: list[Any]) -> datetime | None:
    value = values[0]
    if isinstance(value, ObjectId):
        return value.generation_time.astimezone(UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1000, UTC)
    return value if isinstance(value, datetime) else None


def _merge(values: list[Any]) -> Any:
    merged: Document = {}
    for value in values:
        merged |= {} if _is_none(value) else value
    return merged


def _concat(values: list[Any]) -> Any:
    return None if any(map(_is_none, values)) else "".join(values)


def _size(values: list[Any]) -> int:
    return len(values[0])


def _contains(values: list[Any]) -> bool:
    value, within = values
    return any(order(value) == order(one) for one in within)


def _compared(holds: Callable[[Any, Any], bool]) -> Callable[[list[Any]], bool]:
    return lambda values: holds(order(values[0]), order(values[1]))


_FUNCTIONS: Final[Mapping[str, Callable[[list[Any]], Any]]] = {
    "$add": _add,
    "$subtract": _subtract,
    "$multiply": _multiply,
    "$divide": _divide,
    "$abs": _abs,
    "$max": _extreme(max),
    "$min": _extreme(min),
    "$concatArrays": _concat_arrays,
    "$slice": _slice,
    "$arrayElemAt": _element,
    "$first": lambda values: _element([*values, 0]),
    "$last": lambda values: _element([*values, -1]),
    "$toDate": _to_date,
    "$mergeObjects": _merge,
    "$concat": _concat,
    "$type": lambda values: "int" if type(values[0]) is int else TYPES[rank(values[0])],
    "$isNumber": lambda values: TYPES[rank(values[0])] == "number",
    "$isArray": lambda values: isinstance(values[0], list),
    "$size": _size,
    "$in": _contains,
    "$and": lambda values: all(map(true, values)),
    "$or": lambda values: any(map(true, values)),
    "$not": lambda values: not true(values[0]),
    "$eq": _compared(lambda a, b: a == b),
    "$ne": _compared(lambda a, b: a != b),
    "$gt": _compared(lambda a, b: a > b),
    "$gte": _compared(lambda a, b: a >= b),
    "$lt": _compared(lambda a, b: a < b),
    "$lte": _compared(lambda a, b: a <= b),
}
