"""What may cross the wire: JSON values that BSON can hold, and nothing else. Nothing is ever pickled."""

from __future__ import annotations

import math
from typing import Final, TypeAlias, cast

import msgspec

from dtqkit.errors import InvalidResult

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

#: Lists and objects inside each other.
MAX_DEPTH: Final = 32
_MAX_INT: Final = 2**63 - 1
_MIN_INT: Final = -(2**63)


class Unsuitable(ValueError):
    """A value that cannot be stored: `path` says where it is, as in `$.pages[3].width`."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{detail} (at {path})")
        self.path = path
        self.detail = detail


def check(value: object, path: str = "$") -> Json:
    """`value` itself if it is made of None, bool, 64-bit int, finite float, str, list and dict; tuples become lists.

    Raises Unsuitable.
    """
    return _check(value, path, 0)


def _check(value: object, path: str, depth: int) -> Json:
    kind = type(value)
    if kind is str:
        _check_text(cast(str, value), path, "a string")
    elif kind is int:
        if not _MIN_INT <= cast(int, value) <= _MAX_INT:
            raise Unsuitable(path, f"the integer {shown(value)} does not fit in 64 bits")
    elif kind is float:
        if not math.isfinite(cast(float, value)):
            raise Unsuitable(path, f"{value} is not a JSON number")
    elif value is None or kind is bool:
        pass
    elif kind is dict or kind is list or kind is tuple:
        if depth >= MAX_DEPTH:
            raise Unsuitable(path, f"lists and objects are nested more than {MAX_DEPTH} deep")
        if kind is dict:
            return _check_object(cast(dict[object, object], value), path, depth + 1)
        items = cast("list[object] | tuple[object, ...]", value)
        return [_check(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(items)]
    else:
        raise Unsuitable(path, f"a {_name(kind)} is not a JSON value: {shown(value)}")
    return cast(Json, value)


def _check_object(value: dict[object, object], path: str, depth: int) -> Json:
    checked: dict[str, Json] = {}
    for key, item in value.items():
        if type(key) is not str:
            raise Unsuitable(path, f"a key of an object is a string, not the {_name(type(key))} {shown(key)}")
        _check_text(key, path, "a key")
        if key.startswith("$") or "." in key:
            raise Unsuitable(path, f"the key {shown(key)} begins with $ or has a dot in it")
        checked[key] = _check(item, f"{path}.{key}", depth)
    return checked


def _check_text(text: str, path: str, what: str) -> None:
    if "\0" in text:
        raise Unsuitable(path, f"{what} has a NUL character in it")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unsuitable(path, f"{what} has half of a surrogate pair in it") from None


def to_builtins(value: object, path: str = "$") -> Json:
    """`value` as a JSON value; dates, enums, dataclasses, structs and the like are converted. Raises Unsuitable."""
    try:
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_refuse)
    except Unsuitable as error:
        raise Unsuitable(_find(value, path), error.detail) from None
    except RecursionError:
        raise Unsuitable(path, "lists and objects are nested too deep, or contain themselves") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise Unsuitable(path, str(error)) from None
    return check(plain, path)


def to_wire(value: object) -> Json:
    """A task's return value as it is recorded. Raises InvalidResult, which names the part that cannot be."""
    try:
        return to_builtins(value)
    except Unsuitable as error:
        raise InvalidResult(error.path, error.detail) from None


def _refuse(value: object) -> object:
    raise Unsuitable("$", f"a {_name(type(value))} cannot be recorded: {shown(value)}")


def _find(value: object, path: str) -> str:
    """Where in plain lists and dicts the value stands that a conversion refused."""
    children: list[tuple[str, object]] = []
    if isinstance(value, dict):
        children = [(f"{path}.{key}", item) for key, item in cast(dict[object, object], value).items()]
    elif isinstance(value, list | tuple):
        children = [(f"{path}[{i}]", item) for i, item in enumerate(cast(list[object], value))]
    for child_path, child in children:
        try:
            msgspec.to_builtins(child, str_keys=True, enc_hook=_refuse)
        except Unsuitable:
            return _find(child, child_path)
        except Exception:  # noqa: S112 - another part is wrong as well; this one is looked for
            continue
    return path


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def shown(value: object) -> str:
    """A short text of `value` for an error; never raises."""
    try:
        text = repr(value)
    except Exception:
        return f"<{_name(type(value))}>"
    return text if len(text) <= 60 else f"{text[:57]}…"
