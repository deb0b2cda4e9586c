"""Unique jobs: what the options of a task and of a call say together, and the key of a payload, or of a part. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, Protocol, cast

import msgspec
from msgspec import Meta

from dtqkit.model.errors import InvalidOption
from dtqkit.model.jobs import OnDuplicate, UniqueWhile
from dtqkit.model.values import INT_MAX, INT_MIN, shown

#: Digits of a payload's hash that a key has.
_HASH_DIGITS: Final = 32
_OF_PAYLOAD: Final = re.compile(rf"payload:[0-9a-f]{{{_HASH_DIGITS}}}")
_OF_ARGUMENTS: Final = re.compile(rf"by:(?P<names>[^:]+):[0-9a-f]{{{_HASH_DIGITS}}}")
_NAMES: Final = ("unique", "unique_for_s", "unique_key", "unique_by", "on_duplicate", "debounce_s", "debounce_max_s")
#: A call that sets one of these says itself how its job is unique: the task's other options do not apply.
_HOW: Final = ("unique", "debounce_s")
#: Two ways to say which jobs are the same: one that a call gives stands instead of the task's.
_WHICH: Final = frozenset({"unique_key", "unique_by"})
#: Arguments that `unique_by` may name.
MAX_BY: Final = 20
Argument = Annotated[str, Meta(min_length=1, max_length=100)]
Arguments = Annotated[tuple[Argument, ...], Meta(max_length=MAX_BY)]


class UniqueOptions(Protocol):
    """The options of a task, or of a call."""

    @property
    def unique(self) -> UniqueWhile | None: ...
    @property
    def unique_for_s(self) -> float | None: ...
    @property
    def unique_key(self) -> str | None: ...
    @property
    def unique_by(self) -> tuple[str, ...] | None: ...
    @property
    def on_duplicate(self) -> OnDuplicate | None: ...
    @property
    def debounce_s(self) -> float | None: ...
    @property
    def debounce_max_s(self) -> float | None: ...


class CallUniqueOptions(UniqueOptions, Protocol):
    """The options of a call."""

    @property
    def delay_s(self) -> float: ...
    @property
    def starts_at(self) -> datetime | None: ...


class Unique(NamedTuple):
    """How one job is unique."""

    during: UniqueWhile
    on_duplicate: OnDuplicate
    #: None: by task and payload; or by these arguments.
    key: str | None
    by: tuple[str, ...] | None
    #: Of `window`.
    for_s: float | None
    #: Seconds from the last submit, and from the first one at most, until a debounced job may start.
    debounce_s: float | None
    debounce_max_s: float | None


def unique_of(call: CallUniqueOptions, task: UniqueOptions) -> Unique | None:
    """How a job of this call is unique; None: it is not. Raises InvalidOption, which names the option and the cure."""
    if (
        call.unique is None
        and call.unique_key is None
        and call.unique_by is None
        and call.debounce_s is None
        and task.unique is None
        and task.debounce_s is None
        and call.on_duplicate is None
        and call.unique_for_s is None
        and call.debounce_max_s is None
    ):
        return None
    of_call = _given(call)
    merged = of_call
    if not of_call.keys() & set(_HOW):
        of_task = _given(task)
        if of_call.keys() & _WHICH:
            of_task = {name: value for name, value in of_task.items() if name not in _WHICH}
        merged = {**of_task, **of_call}
    if "debounce_s" in merged and call.starts_at is not None:
        raise InvalidOption(
            f"starts_at is {call.starts_at.isoformat(sep=' ')}, but debounce_s is {merged['debounce_s']:g}: "
            "a debounced job starts debounce_s after the last submit; leave out starts_at"
        )
    if "debounce_s" in merged and call.delay_s:
        raise InvalidOption(
            f"delay_s is {call.delay_s:g}, but debounce_s is {merged['debounce_s']:g}: a debounced job starts "
            "debounce_s after the last submit; leave out delay_s"
        )
    return _checked(merged)


def check_unique(options: UniqueOptions) -> None:
    """Raises InvalidOption unless these options of a task go together."""
    if given := _given(options):
        _checked(given)


def _given(options: UniqueOptions) -> dict[str, Any]:
    return {name: value for name in _NAMES if (value := getattr(options, name)) is not None}


def _checked(given: dict[str, Any]) -> Unique:
    if "debounce_s" in given:
        _check_debounce(given)
        given = {"unique": "waiting", "on_duplicate": "replace", **given}
    elif "debounce_max_s" in given:
        raise InvalidOption(f"debounce_max_s is {given['debounce_max_s']:g}, but debounce_s is missing: add debounce_s")
    during: UniqueWhile | None = given.get("unique")
    if during is None:
        name, value = next(iter(given.items()))
        raise InvalidOption(
            f"{name} is {shown(value)}, but unique is missing: add unique='waiting', unique='active', or "
            "unique='window' with unique_for_s"
        )
    for_s: float | None = given.get("unique_for_s")
    if during == "window" and for_s is None:
        raise InvalidOption(
            "unique is 'window', but unique_for_s is missing: add the window's seconds, unique_for_s=60"
        )
    if during != "window" and for_s is not None:
        raise InvalidOption(
            f"unique_for_s is {for_s:g}, but unique is {during!r}: only unique='window' ends after a time; leave out "
            "unique_for_s, or use unique='window'"
        )
    on_duplicate: OnDuplicate = given.get("on_duplicate", "return")
    if on_duplicate == "replace" and during != "waiting":
        raise InvalidOption(
            f"on_duplicate is 'replace', but unique is {during!r}: only a job that has not started can be replaced; "
            "use unique='waiting', or on_duplicate='return' or 'raise'"
        )
    key, by = _fit(given.get("unique_key")), given.get("unique_by")
    if by is not None:
        _check_by(by, key)
    return Unique(during, on_duplicate, key, by, for_s, given.get("debounce_s"), given.get("debounce_max_s"))


def by_of(given: object) -> tuple[str, ...]:
    """`unique_by` as a tuple. Raises InvalidOption for what is no list of names."""
    if isinstance(given, str) or not isinstance(given, list | tuple):
        example = (given[:60],) if isinstance(given, str) else ("user_id",)
        raise InvalidOption(f"unique_by is {shown(given)}; it is a tuple of parameters, as in unique_by={example!r}")
    return tuple(cast("list[str]", given))


def _check_by(by: tuple[str, ...], key: str | None) -> None:
    if key is not None:
        raise InvalidOption(
            f"unique_by is {repr(by)[:100]}, but unique_key is {shown(key)}: both say which jobs are the same; leave "
            "one of them out"
        )
    if not by:
        raise InvalidOption("unique_by is (): it names at least one parameter, or is left out")
    if twice := next((name for name in by if by.count(name) > 1), None):
        raise InvalidOption(f"unique_by is {repr(by)[:100]}: it names {twice!r} twice")


def check_by(task: str, by: tuple[str, ...], schema: Mapping[str, Any]) -> None:
    """Raises InvalidOption for a name that is no parameter of the task."""
    there: Mapping[str, Any] = schema.get("properties", {})
    if unknown := next((name for name in by if name not in there), None):
        has = ", ".join(there) or "none"
        raise InvalidOption(f"unique_by names {unknown!r}, which task {task!r} does not have; it has {has}")


def _check_debounce(given: Mapping[str, Any]) -> None:
    debounce_s, max_s = given["debounce_s"], given.get("debounce_max_s")
    if (during := given.get("unique", "waiting")) != "waiting":
        raise InvalidOption(
            f"debounce_s is {debounce_s:g}, but unique is {during!r}: a debounced job is unique while it waits; "
            "leave out unique, or debounce_s"
        )
    if (on_duplicate := given.get("on_duplicate", "replace")) != "replace":
        raise InvalidOption(
            f"debounce_s is {debounce_s:g}, but on_duplicate is {on_duplicate!r}: each submit of a debounced job "
            "replaces the one before; leave out on_duplicate, or debounce_s"
        )
    if max_s is not None and max_s < debounce_s:
        raise InvalidOption(
            f"debounce_max_s is {max_s:g}, but debounce_s is {debounce_s:g}: the longest delay is at least debounce_s"
        )


def _fit(key: str | None) -> str | None:
    """`key`, if MongoDB can store it."""
    if key is not None:
        try:
            key.encode()
        except UnicodeEncodeError:
            raise InvalidOption(
                f"unique_key is {shown(key)}: it has a lone surrogate; use text that UTF-8 can encode"
            ) from None
    return key


def key_of(payload: Mapping[str, Any]) -> str:
    """The key of a payload. The order of keys does not count, nor does how a number is written: 1, 1.0 and 1e0 are the
    same, and so are 0 and -0.0. True and 1 differ, a list's order counts, and text is compared as it is.

    >>> key_of({"a": 1, "b": -0.0}) == key_of({"b": 0, "a": 1.0})
    True
    """
    text = msgspec.json.encode(_canonical(payload), order="sorted")
    return f"payload:{hashlib.sha256(text).hexdigest()[:_HASH_DIGITS]}"


def key_by(names: Sequence[str], payload: Mapping[str, Any]) -> str:
    """The key of these arguments; one that the payload leaves out is another value than any that is given.

    >>> key_by(("b", "a"), {"a": 1, "b": 2, "c": 3}) == key_by(("a", "b"), {"b": 2.0, "a": 1})
    True
    """
    part = {name: payload[name] for name in names if name in payload}
    return f"by:{','.join(sorted(names))}:{key_of(part).removeprefix('payload:')}"


def made_of(key: str, payload: Mapping[str, Any]) -> str | None:
    """The key that `payload` would have, if this one was made of a payload or of arguments; None: it was given.

    >>> made_of("doc-7", {"a": 1}), made_of(key_by(("a",), {"a": 1}), {"a": 2}) == key_by(("a",), {"a": 2})
    (None, True)
    """
    if is_of_payload(key):
        return key_of(payload)
    match = _OF_ARGUMENTS.fullmatch(key)
    return None if match is None else key_by(match["names"].split(","), payload)


def is_of_payload(key: str) -> bool:
    """Whether this unique key was made of a payload.

    >>> is_of_payload(key_of({"a": 1})), is_of_payload("payload:mine")
    (True, False)
    """
    return _OF_PAYLOAD.fullmatch(key) is not None


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and INT_MIN <= value <= INT_MAX:
        return int(value)
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in cast("list[Any]", value)]
    return value
