"""What a request carries, read strictly: a body as JSON, a query string as one record."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn, cast, get_args
from urllib.parse import unquote_to_bytes

import msgspec
from tornado.httputil import HTTPServerRequest

from dtqkit.control import Operation, Submission
from dtqkit.control.table import item_of, own_fields, path_fields
from dtqkit.model.errors import InvalidRequest, Refused
from dtqkit.model.values import MAX_DEPTH, NotSerializable, to_json

#: Bytes of a body.
MAX_BODY: Final = 1024 * 1024

_INTEGER: Final = re.compile(r"-?\d{1,18}", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,18}(\.\d{1,18})?", re.ASCII)
_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


# -- bodies


def read_json(body: bytes) -> Any:
    """The value of a body. Refuses what is not JSON, and what two readers might read differently."""
    if len(body) > MAX_BODY:
        raise Refused("too_large", f"the body has {len(body):,} bytes, and {MAX_BODY:,} are allowed")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Refused("invalid_json", f"the body is not UTF-8: byte {error.start} is wrong") from None
    try:
        return json.loads(text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise Refused("invalid_json", f"the body is not JSON: {error.msg} (line {error.lineno})") from None
    except RecursionError:
        raise Refused("invalid_value", f"lists and objects are nested more than {MAX_DEPTH} deep") from None
    except ValueError:  # more digits than Python reads
        raise Refused("invalid_value", "an integer does not fit in 64 bits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refused("invalid_json", f"the key {key[:60]!r} stands twice in one object")
            seen.add(key)
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refused("invalid_json", f"the number {text[:60]} is too large")
    return value


def _constant(text: str) -> NoReturn:
    raise Refused("invalid_json", f"{text} is not JSON")


def read_request(operation: Operation[Any, Any], path: Mapping[str, str], asked: HTTPServerRequest) -> Any:
    """The checked record of a request: from its path, its query string and its body."""
    in_path = {name: path[name] for name in path_fields(operation)}
    own = own_fields(operation)
    if own is not None and not own:
        record = _convert(in_path, operation.request)
        read_query((), asked.query)
        if operation.writes and asked.body and read_json(asked.body) != {}:
            raise InvalidRequest("this operation takes no body")
        return record
    if operation.method == "GET":
        return _convert({**in_path, **read_query(own or (), asked.query, operation.request)}, operation.request)
    read_query((), asked.query)
    if not asked.body:
        raise Refused("invalid_json", "a body is needed")
    return _read_body(operation, in_path, asked.body)


def _read_body(operation: Operation[Any, Any], in_path: Mapping[str, str], body: bytes) -> Any:
    """The checked record, or records, of a body."""
    value: object = read_json(body)
    many = own_fields(operation) is None
    if item_of(operation.request) is Submission:
        if not many:
            value = _submission(value)
        elif isinstance(value, list):
            value = [_submission(item) for item in cast("list[object]", value)]
    if in_path and isinstance(value, dict):
        if twice := sorted(in_path.keys() & cast("dict[str, Any]", value)):
            raise InvalidRequest(f"{twice[0]!r} stands in the path, and not in the body too")
        value = {**cast("dict[str, Any]", value), **in_path}
    record: Any = _convert(value, operation.request)
    if in_path or b"\\u" in body:  # JSON has the characters that are not allowed as escapes only
        for part in record if many else (record,):
            _check_text(part)
    return record


def _submission(value: object) -> object:
    """`type` is accepted for `task`, as other queues call it."""
    if not isinstance(value, dict):
        return value
    given = cast(dict[str, Any], value)
    if "type" in given:
        if "task" in given:
            raise InvalidRequest("give `task` or `type`, not both")
        given["task"] = given.pop("type")
    return given


def _check_text(record: msgspec.Struct) -> None:
    """Text that MongoDB cannot hold is refused, but in a payload, which its task checks."""
    try:
        to_json({name: getattr(record, name) for name in record.__struct_fields__ if name != "payload"})
    except NotSerializable as error:
        raise Refused("invalid_value", f"{error.detail} (at {error.path})") from None


def _convert(value: object, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None
    except UnicodeEncodeError:
        raise Refused("invalid_value", "text has a half of a surrogate pair") from None


# -- query strings


def read_query(takes: Collection[str], query: str, kind: Any = None) -> dict[str, object]:
    """The parameters of a query string, each known and given once, as what the fields of `kind` take."""
    given = _parameters(query)
    if unknown := sorted(set(given) - set(takes)):
        there = f"there are {', '.join(takes)}" if takes else "it takes none"
        raise InvalidRequest(f"there is no parameter {unknown[0][:60]!r}: {there}")
    if not given:
        return {}
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    return {name: _typed(text, name, fields[name]) for name, text in given.items()}


def _parameters(query: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    if not query:
        return found
    if _ESCAPE.search(query):
        raise InvalidRequest("the query string has a % that escapes nothing")
    for part in filter(None, query.split("&")):
        name, _, text = (_unquoted(piece) for piece in part.partition("="))
        if name in found:
            raise InvalidRequest(f"the parameter {name[:60]!r} is given twice")
        found[name] = text
    return found


def _unquoted(text: str) -> str:
    try:
        # The request line came in as Latin-1: back to its bytes.
        return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode()
    except UnicodeError:
        raise InvalidRequest("the query string is not UTF-8") from None


def _typed(text: str, name: str, kind: Any) -> object:
    """A parameter's text as what the field takes; text stays text, also where it looks like a number."""
    kinds = _kinds(kind)
    if tuple in kinds:
        return tuple(text.split(","))
    if int in kinds and _INTEGER.fullmatch(text):
        return int(text)
    if float in kinds and _NUMBER.fullmatch(text):
        return float(text)
    if bool in kinds:
        if text not in ("true", "false"):
            raise InvalidRequest(f"{name} is {text[:60]!r}; it can be true or false")
        return text == "true"
    if int in kinds or float in kinds:
        raise InvalidRequest(f"{name} is {text[:60]!r}, which is not a number")
    return text


def _kinds(kind: Any) -> set[Any]:
    """All types that an annotation is made of, generic ones by their origin."""
    found: set[Any] = {kind, getattr(kind, "__origin__", None)}
    for part in get_args(kind):
        if isinstance(part, type) or get_args(part):
            found |= _kinds(part)
    return found
