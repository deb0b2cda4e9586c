"""JSON values of payloads and results: how Python values become such and are read back.

A value is None, a bool, an int of 64 bits, a finite float, a str, a list, or a dict with str keys. Text holds
no NUL and no lone surrogate; containers nest at most MAX_DEPTH deep. JSON cannot write the other floats: they are
written `{"$float": "nan"}` (or "inf", "-inf"), in the record as over HTTP, and are floats again in a task's arguments
and in `result()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

from dtqkit.model.errors import InvalidPayload, InvalidResult
from dtqkit.model.plain import INT_MAX, INT_MIN, NotSerializable, no_json, shown, simpler, step_for, type_name

__all__ = [
    "FLOAT",
    "INT_MAX",
    "INT_MIN",
    "MAX_DEPTH",
    "Json",
    "NotSerializable",
    "as_payload",
    "as_result",
    "check_payload",
    "from_json",
    "shown",
    "to_json",
    "type_name",
]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

#: Containers inside each other, the outermost (the payload itself) counted.
MAX_DEPTH: Final = 32
#: The key of an object that represents a float which JSON cannot write.
FLOAT: Final = "$float"

_NOT_FINITE: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_type_of: Callable[[Any], type[Any]] = type  # of Any, the builtin gives a type that is not known
_SCALARS: Final = frozenset({type(None), bool, int, float, str})


def as_result(value: object) -> Json:
    """A task's return value as a JSON value; InvalidResult names the part that has none, and the cure."""
    try:
        return to_json(value)
    except NotSerializable as error:
        raise InvalidResult(error.path, error.detail) from None


def check_payload(task: str, payload: Mapping[str, Any]) -> None:
    """Raises InvalidPayload for JSON from outside that cannot be stored."""
    try:
        _scan(payload, 1)
    except NotSerializable as error:
        raise InvalidPayload(task, error.path, error.detail) from None


def as_payload(task: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Python values as a payload of JSON values; InvalidPayload names the part that has none."""
    if not isinstance(cast("object", payload), Mapping):
        raise InvalidPayload(task, "$", f"payload is {shown(payload)}; it is a dict of the task's arguments")
    try:
        return cast("dict[str, Any]", to_json(dict(payload)))
    except NotSerializable as error:
        raise InvalidPayload(task, error.path, error.detail) from None


def to_json(value: Any) -> Any:
    """A value as JSON values; raises NotSerializable. An object of scalars, as most payloads are, is not copied."""
    kind = _type_of(value)
    if kind is not dict:
        return _json(value, 1)
    for key, item in value.items():
        if type(key) is not str or not key.isidentifier():
            break
        kind = _type_of(item)
        if kind is int:
            if not INT_MIN <= item <= INT_MAX:
                break
        elif kind is str:
            if not item.isascii() or "\0" in item:
                break
        elif kind is float:
            if not math.isfinite(item):
                break
        elif kind is not bool and item is not None:
            break
    else:
        return value
    return _object(value, 1)


def from_json(value: Any) -> Any:
    """A JSON value with its floats decoded; the same object where it is flat and has none."""
    if not value:
        return value
    kind = _type_of(value)
    if kind is dict:
        if len(value) == 1 and FLOAT in value and (item := value[FLOAT]).__class__ is str and item in _NOT_FINITE:
            return _NOT_FINITE[item]
        if _SCALARS.issuperset(map(type, value.values())):
            return value
        return {key: from_json(item) for key, item in value.items()}
    if kind is list:
        return value if _SCALARS.issuperset(map(type, value)) else [from_json(item) for item in value]
    return value


def _json(value: Any, depth: int) -> Any:
    """`value`, at `depth`, as a JSON value."""
    kind = _type_of(value)
    if kind is str:
        if not value.isascii() or "\0" in value:
            _check_text(value)
        return value
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise _too_long(value)
        return value
    if kind is float:
        return value if math.isfinite(value) else {FLOAT: repr(value)}
    if value is None or kind is bool:
        return value
    if kind is dict:
        return _object(value, depth)
    if kind is list or kind is tuple:
        return _array(value, depth)
    return _json(simpler(value), depth)


def _object(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _too_deep()
    key: Any = None
    made: dict[str, Any] = {}
    try:
        for key, item in value.items():
            text = key if type(key) is str and key.isidentifier() and key.isascii() else _key(key)
            if text in made:
                raise _twice(key, text)
            made[text] = item if type(item) is int and INT_MIN <= item <= INT_MAX else _json(item, depth + 1)
    except NotSerializable as error:
        error.steps.append(key)
        raise
    return made


def _array(value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
    if depth > MAX_DEPTH:
        raise _too_deep()
    made: list[Any] = []
    add = made.append
    try:
        for item in value:
            add(item if type(item) is int and INT_MIN <= item <= INT_MAX else _json(item, depth + 1))
    except NotSerializable as error:
        error.steps.append(len(made))
        raise
    return made


def _key(key: Any) -> str:
    """A dict's key as text; an annotation such as dict[int, str] reads it back."""
    plain = key
    while (kind := _type_of(plain)) not in _SCALARS:
        step = step_for(kind)
        if step is None or isinstance(plain, list | tuple | dict):
            raise NotSerializable(f"the key {_spelled(key)} has no text form: use a text, or a list of pairs")
        plain = simpler(plain)
    if kind is not str:
        return {None: "null", True: "true", False: "false"}[plain] if kind in (bool, type(None)) else repr(plain)
    _check_text(plain)
    return plain


def _spelled(key: Any) -> str:
    """A key of a kind that is refused; a tuple as it is written, if that is short."""
    parts = cast("tuple[Any, ...]", key) if isinstance(key, tuple) else ()
    return f"({', '.join(map(shown, parts))})" if 0 < len(parts) <= 4 else shown(cast("object", key))


def _scan(value: Any, depth: int) -> None:
    """Raise NotSerializable unless `value`, at `depth`, consists of exact JSON types that can be stored."""
    kind = _type_of(value)
    if kind is str:
        if not value.isascii() or "\0" in value:
            _check_text(value)
    elif kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise _too_long(value)
    elif kind is float:
        if not math.isfinite(value):
            raise NotSerializable(f"{value!r} is not a JSON number: write {{{FLOAT!r}: {repr(value)!r}}}")
    elif kind is dict or kind is list:
        if depth > MAX_DEPTH:
            raise _too_deep()
        (_scan_object if kind is dict else _scan_array)(value, depth + 1)
    elif value is not None and kind is not bool:
        raise no_json(value)


def _scan_object(value: dict[Any, Any], depth: int) -> None:
    key: Any = None
    try:
        for key, item in value.items():
            if type(key) is not str or not key.isidentifier() or not key.isascii():
                _check_key(key)
            if type(item) is not int or not INT_MIN <= item <= INT_MAX:  # the commonest value, without a call
                _scan(item, depth)
    except NotSerializable as error:
        error.steps.append(key)
        raise


def _scan_array(value: list[Any], depth: int) -> None:
    index = 0
    try:
        for index, item in enumerate(value):  # noqa: B007 - for the path
            _scan(item, depth)
    except NotSerializable as error:
        error.steps.append(index)
        raise


def _check_key(key: object) -> None:
    if type(key) is not str:
        raise NotSerializable(f"the key {shown(key)} is not a string")
    _check_text(key)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise NotSerializable(f"the text {shown(text)} has a NUL character in it: use text.replace('\\0', …), or bytes")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotSerializable(
            f"the text {shown(text)} has a lone surrogate at {error.start}: use bytes, such as os.fsencode(…) of it"
        ) from None


def _twice(key: object, text: str) -> NotSerializable:
    return NotSerializable(f"two keys are {shown(text)} as text: {shown(key)} is one of them")


def _too_deep() -> NotSerializable:
    return NotSerializable(f"it is nested more than {MAX_DEPTH} levels deep")


def _too_long(value: int) -> NotSerializable:
    return NotSerializable(f"{shown(value)} does not fit a signed integer of 64 bits: use its text, str(n)")
