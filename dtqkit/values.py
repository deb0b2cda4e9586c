"""What may cross the wire: JSON values that MongoDB can hold, and how Python values become such.

A value is None, a bool, an int of 64 bits, a finite float, a str, a list, or a dict with str keys. Text holds
no NUL and no lone surrogate; a key is not empty, does not start with `$` and has no `.`; containers nest at
most MAX_DEPTH deep.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec

from dtqkit.errors import InvalidPayload, InvalidResult

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

#: Containers inside each other, the outermost (the payload itself) counted.
MAX_DEPTH: Final = 32
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
#: Characters of an offending value that an error shows.
MAX_SHOWN: Final = 60

_type_of: Callable[[Any], type[Any]] = type  # of Any, the builtin gives a type that is not known
_SCALARS: Final = frozenset({type(None), bool, int, float, str})


def to_wire(value: object) -> Json:
    """A task's return value as a JSON value; InvalidResult names the part that has none.

    Enums become their value; dates, times and durations ISO 8601 text; UUID and Decimal text; bytes base64;
    dataclasses and structs objects; tuples and sets arrays.
    """
    try:
        return wire(value)
    except Unfit as unfit:
        raise InvalidResult(unfit.path, unfit.detail) from None


def check_payload(task: str, payload: Mapping[str, Any]) -> None:
    """Refuse, with InvalidPayload, what came as JSON from elsewhere and cannot be kept."""
    try:
        _scan(payload, 1)
    except Unfit as unfit:
        raise InvalidPayload(task, unfit.path, unfit.detail) from None


class Unfit(ValueError):
    """A value cannot cross the wire; becomes InvalidPayload or InvalidResult where it is known which."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        #: Keys and indexes from the innermost out: filled while the error rises.
        self.steps: list[object] = []

    @property
    def path(self) -> str:
        return "$" + "".join(map(_step, reversed(self.steps)))


def wire(value: Any) -> Any:
    """As `to_wire`, raising Unfit. An object of scalars, as most payloads are, is checked without a copy."""
    kind = _type_of(value)
    if kind not in _SCALARS and not (kind is dict and _SCALARS.issuperset(map(type, value.values()))):
        try:
            value = _lists(msgspec.to_builtins(value))
        except RecursionError:
            raise _too_deep() from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _locate(value, error, 1) from None
    _scan(value, 1)
    return value


def _lists(value: Any) -> Any:
    """`value` with lists for the tuples that msgspec leaves."""
    kind = _type_of(value)
    if kind is dict:
        return {key: _lists(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_lists(item) for item in value]
    return value


def shown(value: object) -> str:
    """`value` as an error may show it: short, and never raising."""
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else value[: MAX_SHOWN - 1] + "…")
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        return f"an integer of {value.bit_length()} bits"
    if type(value) in _SCALARS:
        return repr(value)
    return type_name(value)


def type_name(value: object) -> str:
    """The name of its type, with the module unless it is a builtin: `a decimal.Decimal`."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _scan(value: Any, depth: int) -> None:
    """Raise Unfit unless `value`, at `depth`, consists of exact JSON types that may cross."""
    kind = _type_of(value)
    if kind is str:
        if not value.isascii() or "\0" in value:
            _check_text(value)
    elif kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise Unfit(f"{shown(value)} is beyond the 64 bits of an integer")
    elif kind is float:
        if not math.isfinite(value):
            raise Unfit(f"{value!r} is not a JSON number")
    elif kind is dict or kind is list:
        if depth > MAX_DEPTH:
            raise _too_deep()
        (_scan_object if kind is dict else _scan_array)(value, depth + 1)
    elif value is not None and kind is not bool:
        raise _no_json(value)


def _scan_object(value: dict[Any, Any], depth: int) -> None:
    key: Any = None
    try:
        for key, item in value.items():
            if type(key) is not str or not key.isidentifier():
                _check_key(key)
            if type(item) is not int or not INT_MIN <= item <= INT_MAX:  # the commonest value, without a call
                _scan(item, depth)
    except Unfit as unfit:
        unfit.steps.append(key)
        raise


def _scan_array(value: list[Any], depth: int) -> None:
    index = 0
    try:
        for index, item in enumerate(value):  # noqa: B007 - for the path
            _scan(item, depth)
    except Unfit as unfit:
        unfit.steps.append(index)
        raise


def _check_key(key: object) -> None:
    if type(key) is not str:
        raise Unfit(f"the key {shown(key)} is not a string")
    if not key:
        raise Unfit("a key is empty")
    if key[0] == "$":
        raise Unfit(f"the key {shown(key)} starts with $")
    if "." in key:
        raise Unfit(f"the key {shown(key)} has a dot in it")
    _check_text(key)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise Unfit(f"the text {shown(text)} has a NUL character in it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unfit(f"the text {shown(text)} has a lone surrogate at {error.start}") from None


def _too_deep() -> Unfit:
    return Unfit(f"it is nested more than {MAX_DEPTH} levels deep")


def _no_json(value: object) -> Unfit:
    hint = ": use its .tolist()" if hasattr(value, "tolist") else ""
    return Unfit(f"{type_name(value)} has no JSON form{hint}")


def _locate(value: Any, error: Exception, depth: int) -> Unfit:
    """The Unfit that names the part of `value` whose conversion raised `error`."""
    if depth > MAX_DEPTH:
        return _too_deep()
    for step, part in _parts(value):
        try:
            msgspec.to_builtins(part)
        except RecursionError:
            unfit = _too_deep()
        except (TypeError, ValueError, AttributeError, OverflowError) as inner:
            unfit = _locate(part, inner, depth + 1)
        else:
            continue
        unfit.steps.append(step)
        return unfit
    if not isinstance(error, TypeError):
        return Unfit(f"{type_name(value)} cannot be converted: {error}")
    if isinstance(value, dict):
        for key in cast("dict[Any, Any]", value):
            if not isinstance(key, str):
                return Unfit(f"the key {shown(key)} is not a string")
    return _no_json(cast("object", value))


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from cast("dict[Any, Any]", value).items()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from enumerate(cast("Iterable[Any]", value))
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield name, getattr(value, name, None)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield field.name, getattr(value, field.name, None)


def _step(step: object) -> str:
    if type(step) is int:
        return f"[{step}]"
    if isinstance(step, str) and step.isidentifier():
        return f".{step}"
    return f"[{shown(step)}]"
