"""One step from a Python object towards JSON: a dataclass becomes the dict of its fields, numpy's float a float.

`simpler` never looks inside what it returns: `dtqkit.model.values` does, so that an error can name the part. No library
is imported for it: where there is an array, numpy is in `sys.modules`.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import os
import sys
import types
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, MappingView, Set
from typing import Any, Final, cast

import msgspec

#: Most items of an array that is written as a list: more would exceed any limit of a result.
MAX_ITEMS: Final = 1_000_000
#: Characters of an offending value that an error shows.
MAX_SHOWN: Final = 60
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1

Step = Callable[[Any], Any]

_SHOWN_WHOLE: Final = (type(None), bool, int, float, str)
#: Data as a table or a tensor, by the first part of its module's name.
_DATA_LIBRARIES: Final = frozenset({"pandas", "polars", "pyarrow", "dask", "xarray", "geopandas", "torch", "jax"})
_MSGSPECS: Final = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    decimal.Decimal,
    bytes,
    bytearray,
    memoryview,
)


class NotSerializable(ValueError):
    """A value has no JSON form; the caller turns it into InvalidPayload or InvalidResult."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        #: Keys and indexes from the innermost out: filled while the error propagates.
        self.steps: list[object] = []

    @property
    def path(self) -> str:
        return "$" + "".join(map(_step, reversed(self.steps)))


def _step(step: object) -> str:
    if type(step) is int:
        return f"[{step}]"
    if isinstance(step, str) and step.isidentifier():
        return f".{step}"
    return f"[{shown(step)}]"


def shown(value: object) -> str:
    """`value` as an error may show it: short, and never raising."""
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else value[: MAX_SHOWN - 1] + "…")
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        return f"an integer of {value.bit_length()} bits"
    if type(value) in _SHOWN_WHOLE:
        return repr(value)
    return type_name(value)


def type_name(value: object) -> str:
    """The name of its type, with the module unless it is a builtin: `a decimal.Decimal`."""
    name = class_name(type(value))
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def class_name(kind: type[Any]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def simpler(value: Any) -> Any:
    """`value` one step nearer to JSON. Raises NotSerializable with the cure."""
    step = step_for(cast("type[Any]", type(value)))
    if step is None:
        raise no_json(value)
    try:
        return step(value)
    except NotSerializable:
        raise
    except Exception as error:  # code of a user's class
        text = " ".join(str(error).split())[:200]
        raise NotSerializable(f"{type_name(value)} cannot be converted: {type(error).__name__}: {text}") from None


@functools.lru_cache(maxsize=2048)
def step_for(kind: type[Any]) -> Step | None:
    """The function that brings objects of a class nearer to JSON; None without one."""
    if issubclass(kind, enum.Enum):
        return lambda value: value.value
    if kind in _MSGSPECS or kind is datetime.datetime:
        return msgspec.to_builtins
    for find in (_of_libraries, _of_records, _of_collections, _of_scalars):
        if (step := find(kind)) is not None:
            return step
    return None


def loaded(module: str, name: str) -> type[Any] | tuple[()]:
    """The class `name` of a module that is already imported; else (), which isinstance takes as no class."""
    found = getattr(sys.modules.get(module), name, ())
    return cast("type[Any]", found) if isinstance(found, type) else ()


def _of_libraries(kind: type[Any]) -> Step | None:
    """numpy, pandas, pydantic."""
    root = kind.__module__.partition(".")[0]
    if issubclass(kind, loaded("pydantic", "BaseModel")):
        return lambda value: value.model_dump(mode="json", by_alias=True)
    if issubclass(kind, loaded("numpy", "generic")):
        return _numpy_scalar
    if issubclass(kind, loaded("numpy", "ndarray")):
        return _array
    if root != "pandas":
        return None
    if kind.__name__ in ("NaTType", "NAType"):
        return lambda _: None
    if issubclass(kind, loaded("pandas", "Timestamp")):
        return lambda value: value.isoformat()
    if issubclass(kind, loaded("pandas", "Timedelta")):
        return lambda value: value.to_pytimedelta()
    if issubclass(kind, loaded("pandas", "Period")):
        return str
    if issubclass(kind, loaded("pandas", "Index")) or issubclass(
        kind, loaded("pandas.api.extensions", "ExtensionArray")
    ):
        return _array
    return None


def _numpy_scalar(value: Any) -> Any:
    kind = value.dtype.kind
    if kind in "mM" and str(value) == "NaT":
        return None
    if kind == "M":
        return str(value)
    if kind == "m":
        if value.dtype.str.endswith(("M]", "Y]")):
            raise NotSerializable(
                f"{value!r} has no JSON form: months and years have no fixed length; use days, or int(…) of it"
            )
        return value.astype("timedelta64[us]").item()
    plain = value.item()
    return plain if type(plain) is not type(value) else float(plain)  # a longdouble is its own item


def _array(value: Any) -> Any:
    if value.size > MAX_ITEMS:
        raise NotSerializable(
            f"{type_name(value)} of {value.size:,} items is too large: write it to a file and return its path"
        )
    kind = getattr(value.dtype, "kind", "O")
    if getattr(value, "ndim", 1) == 0:
        return value[()]
    return list(value) if kind in "mM" else value.tolist()  # the list of nanoseconds would be one of ints


def _of_records(kind: type[Any]) -> Step | None:
    """Objects with named fields."""
    if issubclass(kind, msgspec.Struct):
        return _struct
    if dataclasses.is_dataclass(kind):
        names = tuple(field.name for field in dataclasses.fields(kind))
        return lambda value: _fields(value, names)
    if (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        names = tuple(attribute.name for attribute in attributes)
        return lambda value: _fields(value, names)
    return None


def _fields(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    found = {name: getattr(value, name) for name in names if hasattr(value, name)}
    return {name: part for name, part in found.items() if part is not msgspec.UNSET}


def _struct(value: msgspec.Struct) -> Any:
    config = value.__struct_config__
    parts = [getattr(value, name) for name in value.__struct_fields__]
    if config.array_like:
        return parts if config.tag is None else [config.tag, *parts]
    named = {} if config.tag_field is None else {config.tag_field: config.tag}
    named.update(zip(value.__struct_encode_fields__, parts, strict=True))
    return {name: part for name, part in named.items() if part is not msgspec.UNSET}


def _of_collections(kind: type[Any]) -> Step | None:
    if issubclass(kind, Mapping):
        return dict
    if issubclass(kind, (list, tuple, collections.deque, collections.UserList, range, MappingView)):
        return list
    return _sorted if issubclass(kind, Set) else None


def _sorted(value: Set[Any]) -> list[Any]:
    """In order where there is one: the same set is the same payload in every process."""
    try:
        return sorted(value)
    except TypeError:
        return list(value)


def _of_scalars(kind: type[Any]) -> Step | None:
    """Classes that are made of the plain ones."""
    if issubclass(kind, cast("type[Any]", os.PathLike)):
        return _path
    for base, exact in ((int, int.__int__), (float, float.__float__), (str, str.__str__)):
        if issubclass(kind, base):
            return exact
    if issubclass(kind, datetime.date | datetime.time):  # datetime too: of freezegun, pendulum, whatever
        return lambda value: value.isoformat()
    if issubclass(kind, datetime.timedelta):
        return lambda value: datetime.timedelta(value.days, value.seconds, value.microseconds)
    if issubclass(kind, uuid.UUID | decimal.Decimal):
        return str
    return bytes if issubclass(kind, bytes | bytearray) else None


def _path(value: os.PathLike[Any]) -> str:
    path = os.fspath(value)
    if not isinstance(path, str):
        raise NotSerializable(f"{type_name(value)} is a path of bytes: return os.fsdecode(…) of it")
    return path


def no_json(value: object) -> NotSerializable:
    cure = _cure(value)
    return NotSerializable(f"{type_name(value)} has no JSON form: {cure}")


def _cure(value: object) -> str:
    """What to do with a value that has no JSON form."""
    match value:
        case complex():
            return "use [z.real, z.imag]"
        case BaseException():
            return "raise it, or use its text, str(error)"
        case io.IOBase():
            return "use the file's path"
        case Awaitable():
            return "it was never awaited: make the function that makes it an async def which awaits it"
        case Iterator():
            return "use list(…) of it"
        case type() | types.ModuleType():
            return "use its name"
        case _ if callable(value) and hasattr(value, "__name__"):
            return "use its name, or its result: is a call's () missing?"
        case _:
            return cure_of_class(type(value))


def cure_of_parameter(kind: type[Any]) -> str:
    """What a parameter of a class whose objects have no JSON form may be instead."""
    known = kind.__module__.partition(".")[0] in _DATA_LIBRARIES
    if known and kind.__name__ == "Series":
        return "take a list, as its .tolist() makes it, or the path of a file"
    if known and "Frame" in kind.__name__:
        return "take a list[dict[str, Any]], as df.to_dict('records') makes it, or the path of a file"
    return "take a dict, a dataclass or a pydantic model, or the path of a file"


def cure_of_class(kind: type[Any]) -> str:
    """The same of a class whose objects have none."""
    known = kind.__module__.partition(".")[0] in _DATA_LIBRARIES
    if known and kind.__name__ == "Series":
        return "use its .tolist(), or .to_dict() to keep the labels"
    if known and "Frame" in kind.__name__:
        return "use df.to_dict('records'), or write it to a file and use the file's path"
    if hasattr(kind, "tolist"):
        return "use its .tolist()"
    return "use a dict, a dataclass or a pydantic model, or write it to a file and use the file's path"
