"""A function's parameters as the arguments of a payload: binding, decoding, and their JSON Schema.

One msgspec struct is made of the annotations; binding and decoding both use it, so that what was accepted at
the submit is accepted at the run. It is strict: `"3"`, `True` and `3.0` are no int; an int does for a float.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import msgspec
import msgspec.inspect as mi

from dtqkit.model.errors import InvalidPayload, TaskDefinitionError
from dtqkit.model.plain import class_name, cure_of_class
from dtqkit.model.values import NotSerializable, from_json, shown, to_json
from dtqkit.tasks import foreign
from dtqkit.tasks.annotations import is_plain, never_recorded, parts_of, signature_of, spelled, why_unreadable
from dtqkit.tasks.context import Context
from dtqkit.tasks.schema import TIMEZONE, invalid

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REF: Final = "#/$defs/{name}"
_NO_DEFAULT: Final = inspect.Parameter.empty


_EXACT: Final = (int, str, bool)


class Parameter(msgspec.Struct, frozen=True):
    """One argument of the payload. `default` is `inspect.Parameter.empty` when it must be given."""

    name: str
    annotation: Any
    default: Any
    keyword_only: bool


class Signature:
    """The parameters of one function, checked when it becomes a task."""

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        found = _written(fn, name)
        #: Whether it is a method, whose object is no part of the payload.
        self.is_method: bool = bool(found) and _is_method(fn, found[0], name)
        parameters, wants_context = _parameters(fn, name, found[self.is_method :])
        self.parameters: tuple[Parameter, ...] = parameters
        self.wants_context: bool = wants_context
        self.schema: Mapping[str, Any] = _schema(name, self.parameters)
        self._names = tuple(p.name for p in self.parameters)
        self._known = frozenset(self._names)
        self._returns: Any = _returned(fn, name)
        self._read_result = _reader(self._returns)
        self._positional = tuple(p.name for p in self.parameters if not p.keyword_only)
        self._struct = msgspec.defstruct(
            "Arguments",
            [
                (p.name, p.annotation) if p.default is _NO_DEFAULT else (p.name, p.annotation, msgspec.UNSET)
                for p in self.parameters
            ],
            kw_only=True,
            forbid_unknown_fields=True,
        )
        self._read = _reader(self._struct)
        #: Whether no argument can be a float, which JSON may have in another form.
        self._exact = all(any(p.annotation is kind for kind in _EXACT) for p in self.parameters)

    def bind(self, task: str, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, Any]:
        """The payload: the given arguments by name, as JSON values; InvalidPayload unless they fit.

        Defaults are not written. The record holds what the caller asked for; the function that runs decides
        the rest, and a worker whose function lacks the newest optional argument can still run the job.
        """
        if args:
            kwargs = self._named(task, args, kwargs)
        try:
            payload = to_json(kwargs)
        except NotSerializable as error:
            raise InvalidPayload(task, error.path, error.detail) from None
        try:
            # A payload that was not copied holds scalars only, and no encoded float.
            self._read(payload if payload is kwargs else from_json(payload), self._struct)
        except msgspec.ValidationError as error:
            raise invalid(task, payload, error, self._known) from None
        return payload

    def decode(self, task: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments in their annotated types, by name; what the payload lacks is left to the defaults."""
        try:
            arguments = self._read(payload if self._exact else from_json(payload), self._struct)
        except msgspec.ValidationError as error:
            raise invalid(task, payload, error, self._known) from None
        return {name: getattr(arguments, name) for name in payload}

    def decode_result(self, result: Any) -> Any:
        """See Task.decode_result."""
        result = from_json(result)
        if self._returns is Any:
            return result
        try:
            return self._read_result(result, self._returns)
        except (
            msgspec.ValidationError
        ):  # the function returned another type than it declares: the recorded value is used
            return result

    def _named(self, task: str, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        names = self._positional
        if len(args) > len(names):
            detail = f"it takes {len(names)} positional arguments, {len(args)} were given"
            raise InvalidPayload(task, "$", detail)
        named = dict(zip(names, args))  # noqa: B905 - lengths may differ; strict= costs 0.4 us
        if not named.keys().isdisjoint(kwargs):
            name = next(name for name in kwargs if name in named)
            raise InvalidPayload(task, f"$.{name}", f"the argument {name!r} is given twice")
        named.update(kwargs)
        return named


def _read(value: Any, kind: Any) -> Any:
    """`value`, which is JSON, as a `kind`. Raises msgspec.ValidationError."""
    return msgspec.convert(value, kind, dec_hook=foreign.read, str_keys=True)


def _reader(kind: Any) -> Callable[[Any, Any], Any]:
    """The same, without the hooks for foreign types, which cost time."""
    return msgspec.convert if is_plain(kind) else _read


def _written(fn: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        return list(signature_of(fn).parameters.values())
    except (TypeError, ValueError):
        raise TaskDefinitionError(f"{name}: {shown(fn)} has no signature; wrap it in a function") from None


def _parameters(
    fn: Callable[..., Any], name: str, given: list[inspect.Parameter]
) -> tuple[tuple[Parameter, ...], bool]:
    """The payload's parameters, and whether a Context comes before them."""
    found: list[Parameter] = []
    wants_context = False
    for position, parameter in enumerate(given):
        where = f"{name}: parameter {parameter.name!r}"
        annotation = foreign.adapted(_resolved(fn, parameter.name, parameter.annotation, where))
        if _is_context(annotation):
            if position or parameter.kind is parameter.KEYWORD_ONLY:
                raise TaskDefinitionError(f"{where}: Context must be the first parameter, and positional")
            wants_context = True
            continue
        _check_kind(parameter, where)
        _check_type(annotation, where)
        _check_default(annotation, parameter.default, where)
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        found.append(Parameter(parameter.name, annotation, parameter.default, keyword_only))
    return tuple(found), wants_context


def _is_method(fn: Callable[..., Any], first: inspect.Parameter, name: str) -> bool:
    """Whether it is a method with `self`. A function that only looks like one is refused."""
    if first.name not in ("self", "cls"):
        return False
    owner = getattr(fn, "__qualname__", "").rpartition(".")[0]
    in_class = bool(owner) and not owner.endswith("<locals>") and inspect.isfunction(fn)
    if in_class and first.name == "self":
        return True
    if in_class or first.annotation is first.empty:
        raise TaskDefinitionError(
            f"{name}: {first.name!r} would be part of the payload; use a @staticmethod, queue.task(Class.method) of a "
            "@classmethod, or a function that makes the object"
        )
    return False


def _returned(fn: Callable[..., Any], name: str) -> Any:
    """The return annotation, or Any where results cannot be converted to it."""
    where = "the result"
    try:
        returned = _resolved(fn, "return", signature_of(fn).return_annotation, where)
    except TaskDefinitionError:  # such an annotation may be meant for readers only
        return Any
    if (bad := never_recorded(returned)) is not None:
        raise TaskDefinitionError(
            f"{name}: it returns {spelled(returned)}, and {class_name(bad)} has no JSON form: {cure_of_class(bad)}"
        )
    returned = foreign.adapted(returned)
    return Any if why_unreadable(returned) is not None else returned


def _resolved(fn: Callable[..., Any], name: str, annotation: Any, where: str) -> Any:
    """The annotation; if it is text, evaluated where the function was defined."""
    if annotation is inspect.Parameter.empty:
        return Any
    source = _source(fn)
    names = {**getattr(source, "__globals__", {}), **_closure(source)}
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)[name]
    except Exception as error:  # an annotation is an expression: it may raise anything
        raise TaskDefinitionError(
            f"{where}: the annotation {annotation!r} cannot be evaluated: {type(error).__name__}: "
            f"{error}; what it names must be defined at module level, and not under TYPE_CHECKING"
        ) from None


def _source(fn: Callable[..., Any]) -> Any:
    """The user's function: without its wrappers, unbound, or the __call__ of an object."""
    found: Any = inspect.unwrap(fn)
    if isinstance(found, functools.partial):
        return _source(cast("functools.partial[Any]", found).func)
    if isinstance(found, types.MethodType):
        return _source(found.__func__)
    written: Any = getattr(cast("Any", type(found)), "__call__", None)  # noqa: B004 - it is inspected, not called
    return _source(written) if not isinstance(found, types.FunctionType) and inspect.isfunction(written) else found


def _closure(fn: Callable[..., Any]) -> dict[str, Any]:
    code = getattr(fn, "__code__", None)
    cells = getattr(fn, "__closure__", None) or ()
    found: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _is_context(annotation: Any) -> bool:
    return isinstance(annotation, type) and Context in annotation.__mro__


def _check_kind(parameter: inspect.Parameter, where: str) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise TaskDefinitionError(
            f"{where}: {parameter} cannot be: a payload holds arguments by name; take a list or a dict; in a "
            "decorator, functools.wraps gives the wrapper the signature of its function"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise TaskDefinitionError(
            f"{where}: it is positional-only, and a payload holds arguments by name; write a def that calls it"
        )
    if parameter.name.startswith("__"):
        raise TaskDefinitionError(f"{where}: names that begin with two underscores are reserved")


def _check_default(annotation: Any, default: Any, where: str) -> None:
    if default is _NO_DEFAULT:
        return
    try:
        _read(from_json(to_json(default)), annotation)
    except NotSerializable as error:
        raise TaskDefinitionError(f"{where}: the default cannot be a JSON value: {error.detail}") from None
    except msgspec.ValidationError as error:
        raise TaskDefinitionError(
            f"{where}: the default {shown(default)} is not of its type {spelled(annotation)}: {error}"
        ) from None


def _check_type(annotation: Any, where: str) -> None:
    if (why := why_unreadable(annotation)) is not None:
        raise TaskDefinitionError(f"{where}: the type {spelled(annotation)} cannot be read from JSON: {why}")


def _schema(name: str, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the payload."""
    annotations = [p.annotation for p in parameters]
    foreign_defs: dict[str, Any] = {}
    schemas, defs = msgspec.json.schema_components(
        annotations, ref_template=_REF, schema_hook=lambda kind: foreign.schema_of(kind, foreign_defs)
    )
    defs.update(foreign_defs)
    seen: set[str] = set()
    for annotation, schema in zip(annotations, schemas, strict=True):
        _name_times(mi.type_info(annotation), schema, defs, seen)
    properties: dict[str, Any] = {}
    for parameter, schema in zip(parameters, schemas, strict=True):
        properties[parameter.name] = {**schema, **_default(parameter)}
    return {
        "$schema": _DIALECT,
        "title": name,
        "type": "object",
        "properties": properties,
        "required": [p.name for p in parameters if p.default is _NO_DEFAULT],
        "additionalProperties": False,
        **({"$defs": defs} if defs else {}),
    }


def _default(parameter: Parameter) -> dict[str, Any]:
    """The default for the schema; nothing for NaN and infinities, which a form cannot show."""
    if parameter.default is _NO_DEFAULT:
        return {}
    written = to_json(parameter.default)
    return {} if type(written) is dict and isinstance(from_json(written), float) else {"default": written}


def _key_schema(info: mi.Type) -> dict[str, Any]:
    """The schema of a dict's keys that are not plain text; msgspec names them only when they are."""
    match info:
        case mi.IntType():
            return {"pattern": "^-?(0|[1-9][0-9]*)$"}
        case mi.DateType():
            return {"format": "date"}
        case mi.UUIDType():
            return {"format": "uuid"}
        case mi.EnumType(cls=cls):
            return {"enum": [str(member.value) for member in cls]}
        case mi.LiteralType(values=values):
            return {"enum": [str(value) for value in values]}
        case _:
            return {}


def _name_times(info: mi.Type, schema: dict[str, Any], defs: dict[str, Any], seen: set[str]) -> None:
    """Add the `format` of date-times and times, which msgspec writes only where a time zone is required."""
    while isinstance(info, mi.Metadata):
        info = info.type
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_REF.format(name=""))
        if name in seen:
            return
        seen.add(name)
        schema = defs[name]
    match info:
        case mi.DateTimeType(tz=zone) | mi.TimeType(tz=zone):
            schema["format"] = "date-time" if isinstance(info, mi.DateTimeType) else "time"
            if zone is not None:
                schema[TIMEZONE] = "required" if zone else "forbidden"
        case _:
            if isinstance(info, mi.DictType) and (names := _key_schema(info.key_type)):
                schema["propertyNames"] = names
            for part, place in _places(info, schema):
                _name_times(part, place, defs, seen)


def _places(info: mi.Type, schema: dict[str, Any]) -> Iterator[tuple[mi.Type, dict[str, Any]]]:
    """The parts of a type, each with its place in the schema that msgspec made of the whole."""
    match info:
        case mi.UnionType(types=members):
            structs = [m for m in members if isinstance(m, mi.StructType) and not m.array_like]
            others = [m for m in members if m not in structs and not isinstance(m, mi.NoneType)]
            tagged = schema
            if "discriminator" not in schema:
                options = schema["anyOf"]
                yield from zip(others, options, strict=False)
                tagged = {"anyOf": options[len(others) :]} if len(structs) < 2 else options[len(others)]
            yield from zip(structs, tagged["anyOf"], strict=False)
        case mi.TupleType(item_types=items) if items:
            yield from zip(items, schema["prefixItems"], strict=True)
        case mi.StructType(fields=fields, array_like=True, tag=tag):
            yield from zip((f.type for f in fields), schema["prefixItems"][tag is not None :], strict=True)
        case mi.NamedTupleType(fields=fields):
            yield from zip((f.type for f in fields), schema["prefixItems"], strict=True)
        case mi.StructType(fields=fields) | mi.DataclassType(fields=fields) | mi.TypedDictType(fields=fields):
            yield from ((f.type, schema["properties"][f.encode_name]) for f in fields)
        case mi.DictType(value_type=value) if "additionalProperties" in schema:
            yield value, schema["additionalProperties"]
        case _ if "items" in schema:
            yield from ((part, schema["items"]) for part in parts_of(info))
        case _:
            pass
