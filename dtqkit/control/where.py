"""The `where` of a pause and of a bulk: its checks, by itself and against the tasks that are known. Pure.

All raise WrongWhere, which says what is wrong and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from dtqkit.model.errors import InvalidPayload
from dtqkit.model.values import INT_MAX, INT_MIN, NotSerializable, shown, to_json
from dtqkit.model.where import MAX_TEXT, MAX_WHERE, PayloadMatch, Scalar, WrongWhere, same
from dtqkit.tasks.schema import PayloadValidator

_VALUES: Final = "a parameter is compared with a text, a number, true, false or null"


def where_of(given: object) -> dict[str, Scalar]:
    """The checked form of an argument of Python, as it is in a payload."""
    if not isinstance(given, Mapping):
        raise WrongWhere(f"is {shown(given)}; it is a dict, as in where={{'customer': 7}}")
    values = cast("Mapping[object, object]", given)
    where = {_name(name): scalar(name, value) for name, value in values.items()}
    check_where(where)
    return where


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise WrongWhere(f"names {shown(name)}; the name of a parameter is a text")
    return name


def scalar(name: object, value: object) -> Scalar:
    """As it is in a payload, if it is one that is compared."""
    try:
        found = to_json(value)
    except NotSerializable as error:
        raise WrongWhere(f"has a value for {shown(name)} that no payload has: {error.detail}") from None
    if not isinstance(found, Scalar):
        what = f"{value}, which is equal to no number" if isinstance(value, float) else shown(value)
        raise WrongWhere(f"has {what}, for {shown(name)}; {_VALUES}")
    return found


def check_where(where: Mapping[str, Scalar]) -> None:
    """Each part can be sent to MongoDB, and each name be a parameter."""
    if len(where) > MAX_WHERE:
        raise WrongWhere(f"has {len(where)} parameters; at most {MAX_WHERE} are compared")
    for name, value in where.items():
        check_text(name)
        check_text(scalar(name, value))


def check_names(where: Mapping[str, Scalar]) -> None:
    """Each name can be that of a parameter."""
    if wrong := next((name for name in where if not name.isidentifier()), None):
        raise WrongWhere(f"names {wrong[:60]!r}, which cannot be a parameter")


def check_text(text: object) -> None:
    """MongoDB can hold it, and a claim carry it."""
    if isinstance(text, str) and len(text) > MAX_TEXT:
        raise WrongWhere(f"has a text of {len(text):,} characters; at most {MAX_TEXT} are kept: shorten it")
    try:
        to_json(text)
    except NotSerializable as error:
        raise WrongWhere(f"cannot be kept: {error.detail}") from None


def comparable_defaults(where: Iterable[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Of these parameters, the task's own defaults.

    A default that no value can equal is left out: a claim may not be able to carry it.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    defaults = {name: properties[name]["default"] for name in where if "default" in properties.get(name, {})}
    return {name: value for name, value in defaults.items() if _is_comparable(name, value)}


def _is_comparable(name: str, value: object) -> bool:
    try:
        check_text(scalar(name, value))
    except WrongWhere:
        return False
    return True


def check_parameters(task: str, names: Iterable[str], schema: Mapping[str, Any]) -> None:
    """The task has these parameters."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    if schema.get("additionalProperties"):
        return
    if (unknown := next((name for name in names if name not in properties), None)) is not None:
        there = ", ".join(properties) or "none"
        raise WrongWhere(f"names {unknown[:60]!r}, which task {task!r} does not have; it has {there}")


def check_fits(task: str, where: Mapping[str, Scalar], schema: Mapping[str, Any]) -> None:
    """The task has these parameters, and they can have these values."""
    check_parameters(task, where, schema)
    for name, value in where.items():
        if name in schema.get("properties", {}):
            _check_value(task, name, value, schema)


def _check_value(task: str, name: str, value: Scalar, schema: Mapping[str, Any]) -> None:
    only: dict[str, Any] = {**schema, "properties": {name: schema["properties"][name]}, "required": []}
    validator = PayloadValidator(task, only)
    if (why := _misfit(validator, name, value)) is None:
        return
    cures = [other for other in _others(value) if _misfit(validator, name, other) is None]
    cure = (
        f"write {_json(cures[0])} (on the command line: '{name}={_json(cures[0])}')"
        if cures
        else "give a value of that type"
    )
    raise WrongWhere(f"has {_json(value)} for {name!r}, which no job of task {task!r} can have: {why}; {cure}")


def _misfit(validator: PayloadValidator, name: str, value: Scalar) -> str | None:
    """Why no payload has this value; None: it may."""
    try:
        # 7.0 is equal to 7, which an int may be.
        if isinstance(value, float) and value.is_integer() and INT_MIN <= value <= INT_MAX:
            value = int(value)
        validator.check({name: value})
    except InvalidPayload as error:
        return error.detail.partition(", given ")[0]
    return None


def _others(value: Scalar) -> Iterator[Scalar]:
    """What may have been meant: "3" for 3, or the other way round."""
    if not isinstance(value, str):
        yield _json(value)
        return
    try:
        meant: object = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError):
        return
    if isinstance(meant, Scalar):
        yield meant


def _json(value: Scalar) -> str:
    return msgspec.json.encode(value).decode()


def match_of(where: Mapping[str, Scalar], task: str | None, known: Mapping[str, Mapping[str, Any]]) -> PayloadMatch:
    """What to look for, given the schemas of the known tasks by their names.

    A task that is not known is not checked: its code may be gone, and its jobs still there. Without a task, one of the
    known tasks has all these parameters, and they can have these values.
    """
    check_where(where)
    check_names(where)
    if task is None:
        known = _candidates(where, known)
    else:
        known = {task: known[task]} if task in known else {}
        for name, schema in known.items():
            check_fits(name, where, schema)
    found: dict[str, dict[str, Scalar]] = {}
    for name, schema in known.items():
        if equal := {
            key: value for key, value in comparable_defaults(where, schema).items() if same(value, where[key])
        }:
            found[name] = equal
    return PayloadMatch(where, found)


def _candidates(where: Mapping[str, Scalar], known: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    fit: dict[str, Mapping[str, Any]] = {}
    wrong: WrongWhere | None = None
    for task, schema in known.items():
        if where.keys() <= schema.get("properties", {}).keys() or schema.get("additionalProperties"):
            try:
                check_fits(task, where, schema)
            except WrongWhere as error:
                wrong = error
            else:
                fit[task] = schema
    if not fit:
        names = " and ".join(repr(name[:60]) for name in where)
        none = f"names {names}, which no known task has; name the task, if its code is gone"
        raise wrong or WrongWhere(none)
    return fit
