"""Annotations of arguments and results: which types can be read from JSON, and which have no JSON form."""

from __future__ import annotations

import abc
import collections.abc
import importlib
import inspect
import io
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin

import msgspec
import msgspec.inspect as mi

from dtqkit.model.plain import cure_of_parameter, step_for
from dtqkit.tasks import foreign

_SUPPORTED: Final = (
    "supported are None, bool, int, float, str, bytes, Any, list, tuple, set, frozenset, dict, Literal, Enum, unions, "
    "date, datetime, time, timedelta, UUID, Decimal, Path, dataclasses, TypedDict, NamedTuple, msgspec.Struct, "
    "pydantic models, and numpy's scalars and arrays"
)
_KEYS: Final = (
    *(mi.StrType, mi.AnyType, mi.IntType, mi.FloatType, mi.EnumType, mi.LiteralType, mi.BytesType),
    *(mi.DateType, mi.DateTimeType, mi.TimeType, mi.TimeDeltaType, mi.UUIDType, mi.DecimalType),
)
_JSON: Final = (bool, int, float, str, list, dict, tuple, types.NoneType)
_CALLABLE: Final[Any] = collections.abc.Callable
_CONTAINERS: Final = (
    *(list, tuple, set, frozenset, dict),
    *(collections.abc.Sequence, collections.abc.Mapping, collections.abc.Set, collections.abc.Iterable),
    *(collections.abc.Collection, collections.abc.MutableSequence, collections.abc.MutableMapping),
)
#: Classes whose objects have no JSON form, whatever their subclasses add.
_NEVER: Final = (
    *(complex, BaseException, io.IOBase, type, types.ModuleType, types.FunctionType),
    *(collections.abc.Iterator, collections.abc.AsyncIterator, collections.abc.Awaitable),
)


def never_recorded(annotation: Any) -> type[Any] | None:
    """The class in a return annotation whose objects have no JSON form; None while there may be one.

    A class may have a subclass that has one, so that only what is known is refused.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return never_recorded(args[0])
    if origin in (Union, types.UnionType):
        found = [never_recorded(member) for member in args]
        return None if None in found else found[0]
    if origin in _CONTAINERS:
        return next((bad for arg in args if (bad := never_recorded(arg)) is not None), None)
    return _never(annotation if origin is None else origin)


def _never(kind: Any) -> type[Any] | None:
    if kind is _CALLABLE or (isinstance(kind, type) and issubclass(kind, _NEVER)):
        return cast("type[Any]", kind)
    known = isinstance(kind, type) and kind not in (object, Any) and not typing.is_typeddict(kind)
    return kind if known and not _may_be_recorded(kind) else None


def _may_be_recorded(kind: type[Any]) -> bool:
    if issubclass(kind, _JSON) or step_for(kind) is not None:
        return True
    if isinstance(kind, abc.ABCMeta) or inspect.isabstract(kind) or getattr(kind, "_is_protocol", False):
        return True
    return any(_may_be_recorded(sub) for sub in type.__subclasses__(kind))


def signature_of(fn: Any) -> inspect.Signature:
    """As `inspect.signature`; annotations that cannot be evaluated yet stay as they are written."""
    try:
        return inspect.signature(fn)
    except NameError:  # Python 3.14 evaluates them here, and some names exist for type checkers only
        formats: Any = importlib.import_module("annotationlib").Format
        return cast("Any", inspect.signature)(fn, annotation_format=formats.FORWARDREF)


def why_unreadable(annotation: Any) -> str | None:
    """Why a value of this type cannot be read from JSON, and what can; None where it can."""
    try:
        info = mi.type_info(annotation)
        msgspec.json.Decoder(annotation)
        bad = next(_unsupported(info, set()), None)
    except (TypeError, ValueError, NameError) as error:
        return str(error)
    return None if bad is None else f"{bad}; {_SUPPORTED}"


def is_plain(annotation: Any) -> bool:
    """Whether msgspec reads it without help: no foreign type, and no dict whose keys are not text."""
    return not _needs_help(mi.type_info(annotation), set())


def _needs_help(info: mi.Type, seen: set[Any]) -> bool:
    if isinstance(info, mi.CustomType):
        return True
    if isinstance(info, mi.DictType) and not isinstance(info.key_type, mi.StrType | mi.AnyType):
        return True
    if (cls := getattr(info, "cls", None)) is not None:
        if cls in seen:
            return False
        seen.add(cls)
    return any(_needs_help(part, seen) for part in parts_of(info))


def _unsupported(info: mi.Type, seen: set[Any]) -> Iterator[str]:
    """Why the parts of a type that have no JSON form have none."""
    match info:
        case mi.CustomType(cls=cls):
            if not foreign.reads(cls):
                yield f"{spelled(cls)} has no JSON form: {cure_of_parameter(cls)}"
        case mi.RawType() | mi.ExtType():
            yield "msgspec uses it for its own binary formats"
        case mi.DictType(key_type=key) if not _is_key(key):
            yield "a dict's keys must have a text form, as str, int, float, bool, Enum, date and UUID have"
        case (
            mi.StructType(cls=cls) | mi.DataclassType(cls=cls) | mi.TypedDictType(cls=cls) | mi.NamedTupleType(cls=cls)
        ):
            if cls in seen:
                return
            seen.add(cls)
        case _:
            pass
    for part in parts_of(info):
        yield from _unsupported(part, seen)


def _is_key(info: mi.Type) -> bool:
    """Whether a dict's keys of this type can be read from text."""
    match info:
        case mi.UnionType(types=members):
            return all(map(_is_key, members))
        case _:
            return isinstance(info, _KEYS)


def parts_of(info: mi.Type) -> Iterator[mi.Type]:
    match info:
        case mi.Metadata(type=inner):
            yield inner
        case mi.UnionType(types=members):
            yield from members
        case mi.TupleType(item_types=items):
            yield from items
        case mi.ListType(item_type=item) | mi.SetType(item_type=item) | mi.FrozenSetType(item_type=item):
            yield item
        case mi.VarTupleType(item_type=item):
            yield item
        case mi.DictType(key_type=key, value_type=value):
            yield key
            yield value
        case mi.StructType(fields=fields) | mi.DataclassType(fields=fields):
            yield from (field.type for field in fields)
        case mi.TypedDictType(fields=fields) | mi.NamedTupleType(fields=fields):
            yield from (field.type for field in fields)
        case _:
            pass


def spelled(annotation: Any) -> str:
    """The type as it is written in source code."""
    return annotation.__name__ if type(annotation) is type else str(annotation)
