"""The JSON Schema of a task's payload, read back into a type: a server checks payloads without the function.

`PayloadValidator` is the inverse of `msgspec.json.schema`: it turns the schema into a msgspec type, so that
server and worker decide with the same engine, and agree. Where a schema has more than can be turned back (a
union of array-like structs, the length of bytes, a keyword that this version does not know), the payload passes
here, and the worker, which has the function, decides.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final, ForwardRef, Literal, Union, cast

import msgspec

from dtqkit.model.errors import InvalidPayload
from dtqkit.model.values import check_payload, from_json, shown
from dtqkit.support.patterns import longest_for, longest_text, patterns_in, without_patterns
from dtqkit.tasks.options import CallOptions

Schema = Mapping[str, Any]

#: A keyword of ours beside `format` of a date-time or time: `required` or `forbidden`; absent: both are accepted.
TIMEZONE: Final = "x-timezone"
#: JSON Schema's keyword for each constraint of msgspec.Meta.
_CONSTRAINTS: Final = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
    "minItems": "min_length",
    "maxItems": "max_length",
    "minProperties": "min_length",
    "maxProperties": "max_length",
}
_FORMATS: Final[Mapping[str, Any]] = {
    "date-time": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "duration": datetime.timedelta,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
}
_PLAIN: Final[Mapping[str, Any]] = {"integer": int, "number": float, "boolean": bool, "null": None}


class PayloadValidator:
    """Checks payloads of one task against the schema that its worker published."""

    def __init__(self, task: str, schema: Schema) -> None:
        self.task = task
        self.schema: Final = schema
        self._known = frozenset(schema.get("properties", {}))
        self._type: Any = _readable(schema)
        #: What a payload with a longer text is checked against: its patterns are left to the worker.
        self._longest = min(map(longest_for, patterns_in(schema)), default=math.inf)
        self._bare: Any = self._type if self._longest == math.inf else _readable(without_patterns(schema))

    def check(self, payload: Mapping[str, Any]) -> None:
        """Raises InvalidPayload, with the path of the error, unless the task would accept `payload`."""
        check_payload(self.task, payload)
        kind = self._type if self._longest == math.inf or longest_text(payload) <= self._longest else self._bare
        try:
            msgspec.convert(from_json(payload), kind, str_keys=True)
        except msgspec.ValidationError as error:
            raise invalid(self.task, payload, error, self._known) from None


def invalid(
    task: str, payload: Mapping[str, Any], error: msgspec.ValidationError, known: frozenset[str]
) -> InvalidPayload:
    """msgspec's error about `payload` as an InvalidPayload, for a task with the arguments `known`."""
    detail, path = _split(str(error))
    if path == "$" and (name := _named(_MISSING, detail)) is not None:
        return InvalidPayload(task, f"$.{name}", f"the argument {name!r} is missing")
    if path == "$" and (name := _named(_UNKNOWN, detail)) is not None:
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        if name in CallOptions.__struct_fields__:
            has += f"; {name} is an option of the job: task.options({name}=…).submit(…)"
        return InvalidPayload(task, f"$.{name}", f"there is no argument {name!r}; {has}")
    found, value = _at(payload, path)
    given = f", given {shown(value)}" if found and not isinstance(value, list | dict) else ""
    return InvalidPayload(task, path, detail[:1].lower() + detail[1:] + given)


_MISSING: Final = re.compile(r"^Object missing required field `(.*)`$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)
_STEP: Final = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]")


def _named(pattern: re.Pattern[str], detail: str) -> str | None:
    match = pattern.match(detail)
    return match[1] if match else None


def _split(message: str) -> tuple[str, str]:
    """The detail and the path of msgspec's `detail - at `path``."""
    detail, at, path = message.rpartition(" - at `")
    if not at:
        return message, "$"
    path = path[:-1].replace("key` in `", "")
    detail, at, inner = detail.rpartition(" - at `$")  # inside a model of another library
    return (detail, path + inner[:-1]) if at else (inner, path)


def _at(payload: object, path: str) -> tuple[bool, object]:
    """Whether `path` leads to something in `payload`, and to what."""
    value = payload
    end = 1
    for step in _STEP.finditer(path):
        if step.start() != end:
            return False, None
        end = step.end()
        if isinstance(value, dict) and step["key"] in value:
            value = cast("dict[str, object]", value)[step["key"]]
        elif isinstance(value, list) and step["index"] and int(step["index"]) < len(cast("list[object]", value)):
            value = cast("list[object]", value)[int(step["index"])]
        else:
            return False, None
    return end == len(path), value


def _readable(schema: Schema) -> Any:
    """The type that accepts what `schema` does; an argument whose schema cannot be one is left to the worker.

    Schemas of other libraries can have what a msgspec type cannot: a union of two objects, a pattern of another engine.
    """
    if (found := _type_of(schema)) is not None:
        return found
    properties: Schema = schema.get("properties", {})
    checked: dict[str, Any] = {
        name: one if _type_of({**schema, "properties": {name: one}, "required": []}) is not None else {}
        for name, one in properties.items()
    }
    found = _type_of({**schema, "properties": checked})
    return Any if found is None else found


def _type_of(schema: Schema) -> Any:
    try:
        found = _Reader(schema).read(schema)
        msgspec.json.Decoder(found)
    except (TypeError, ValueError, NameError, AttributeError, re.error):
        return None
    return found


class _Reader:
    """Turns one schema document into a type."""

    def __init__(self, document: Schema) -> None:
        self._defs: Schema = document.get("$defs", {})
        #: Definitions being turned, and those of them met again: a recursive type refers to itself.
        self._open: dict[str, ForwardRef] = {}
        self._recursive: dict[ForwardRef, Any] = {}
        self._records: list[type[msgspec.Struct]] = []

    def read(self, schema: Schema) -> Any:
        """The type that accepts what `schema` accepts."""
        found = self._type(schema)
        for record in self._records:
            for name, target in self._recursive.items():
                setattr(record, name.__forward_arg__, target)
        return found

    def _type(self, schema: Schema | bool, tag: str | None = None) -> Any:
        if isinstance(schema, bool):
            return Any
        if (ref := schema.get("$ref")) is not None:
            return self._resolve(str(ref).removeprefix("#/$defs/"), tag)
        if "enum" in schema:
            return Literal[tuple(schema["enum"])]
        if "anyOf" in schema:
            return self._union(schema)
        match schema.get("type"):
            case "object" if "properties" in schema:
                return self._record(schema, tag)
            case "object":
                base = self._dict(schema)
            case "array" if "prefixItems" in schema:
                return self._row(schema)
            case "array":
                base = list[self._type(schema.get("items", {}))]
            case "string" if schema.get("contentEncoding") == "base64":
                return bytes
            case "string":
                base = _string(schema)
            case kind:
                base = _PLAIN.get(str(kind), Any)
        return _constrained(base, schema)

    def _resolve(self, name: str, tag: str | None) -> Any:
        if name not in self._defs:
            return Any
        if (again := self._open.get(name)) is not None:
            self._recursive[again] = None
            return again
        forward = self._open[name] = ForwardRef(f"ref{len(self._records)}_{len(self._open)}")
        try:
            found = self._type(self._defs[name], tag)
        finally:
            del self._open[name]
        if forward in self._recursive:
            self._recursive[forward] = found
        return found

    def _union(self, schema: Schema) -> Any:
        tag = schema.get("discriminator", {}).get("propertyName")
        members = tuple(self._type(member, tag) for member in schema["anyOf"])
        if sum(_is_row(member) for member in members) > 1:
            return Any
        return Union[members]  # noqa: UP007 - of members known at run time

    def _dict(self, schema: Schema) -> Any:
        key = self._type({"type": "string", **schema.get("propertyNames", {})})
        return dict[key, self._type(schema.get("additionalProperties", {}))]

    def _row(self, schema: Schema) -> Any:
        """A struct that is written as an array: of a tuple, a NamedTuple or an array-like struct."""
        least = schema.get("minItems", 0)
        fields: list[Any] = [
            (f"f{i}", self._type(item)) if i < least else (f"f{i}", self._type(item), msgspec.UNSET)
            for i, item in enumerate(schema["prefixItems"])
        ]
        return self._add(msgspec.defstruct("Row", fields, array_like=True, forbid_unknown_fields="maxItems" in schema))

    def _record(self, schema: Schema, tag: str | None) -> Any:
        """A struct that is written as an object: of a dataclass, TypedDict, struct, or a task's arguments."""
        properties: Schema = schema["properties"]
        required = frozenset(schema.get("required", ()))
        fields: list[Any] = []
        for i, (name, value) in enumerate(properties.items()):
            if name != tag:
                default = msgspec.NODEFAULT if name in required else msgspec.UNSET
                fields.append((f"f{i}", self._type(value), msgspec.field(default=default, name=name)))
        return self._add(
            msgspec.defstruct(
                "Record",
                fields,
                tag_field=tag,
                tag=properties[tag]["enum"][0] if tag is not None else None,
                kw_only=True,
                forbid_unknown_fields=schema.get("additionalProperties") is False,
            )
        )

    def _add(self, record: type[msgspec.Struct]) -> type[msgspec.Struct]:
        self._records.append(record)
        return record


def _is_row(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, msgspec.Struct) and found.__struct_config__.array_like


def _string(schema: Schema) -> Any:
    base = _FORMATS.get(schema.get("format", ""), str)
    zone = schema.get(TIMEZONE)
    return base if zone is None else Annotated[base, msgspec.Meta(tz=zone == "required")]


def _constrained(base: Any, schema: Schema) -> Any:
    limits = {meta: schema[word] for word, meta in _CONSTRAINTS.items() if word in schema}
    return Annotated[base, msgspec.Meta(**limits)] if limits and base is not Any else base
