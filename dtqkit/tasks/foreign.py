"""Types of arguments and results that msgspec does not support: how they are read from JSON, and their schema.

Paths, numpy's scalars and arrays, pandas' times, pydantic's models. No library is imported for it: a function
with such an annotation has already imported the library.
"""

from __future__ import annotations

import json
import pathlib
import sys
import types
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin

import msgspec

from dtqkit.model.plain import loaded

Schema = dict[str, Any]

_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
#: numpy's abstract classes of scalars, each with the Python type that represents it and its schema.
_SCALARS: Final[Mapping[str, tuple[type[Any], Schema]]] = {
    "bool_": (bool, {"type": "boolean"}),
    "integer": (int, {"type": "integer"}),
    "floating": (float, {"type": "number"}),
    "str_": (str, {"type": "string"}),
    "datetime64": (str, {"type": "string"}),
    "timedelta64": (timedelta, {"type": "string", "format": "duration"}),
}
_CONTAINERS: Final = (list, tuple, set, frozenset, dict)


class _Keyed(type):
    """A dict with keys that msgspec does not read from text; msgspec sees a custom type."""

    key: type[Any]
    value: Any

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, dict)


def _keyed(key: type[Any], value: Any) -> type[Any]:
    return _Keyed(f"dict[{key.__name__}, …]", (), {"key": key, "value": value})


def adapted(annotation: Any) -> Any:
    """`annotation` in types that msgspec supports: of `str | Path`, only `str` can be recognised in JSON."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(adapted(args[0]), *args[1:])]  # pyright: ignore[reportInvalidTypeForm]
    if origin in (Union, types.UnionType):
        members = tuple(map(adapted, args))
        if sum(member is not types.NoneType for member in members) > 1:
            members = tuple(_built_in(member) for member in members)
        return annotation if members == args else Union[members]  # noqa: UP007 - of members known at run time
    if origin not in _CONTAINERS:
        return annotation
    wanted = tuple(arg if arg is Ellipsis else adapted(arg) for arg in args)
    if origin is dict and (wanted[0] is bool or reads(wanted[0])):
        return _keyed(*wanted)
    return annotation if wanted == args else cast("Any", origin)[wanted]


def _built_in(kind: Any) -> Any:
    """The built-in type of a `kind` in JSON, by which a union distinguishes it from its other members."""
    if not isinstance(kind, type):
        return kind
    kind = cast("type[Any]", kind)
    if issubclass(kind, pathlib.PurePath):
        return str
    if issubclass(kind, loaded("numpy", "ndarray")):
        return list
    scalar = _numpy_scalar(kind)
    return kind if scalar is None else scalar[0]


def reads(kind: Any) -> bool:
    """Whether `read` can make a `kind`."""
    return isinstance(kind, type) and (
        isinstance(kind, _Keyed)
        or _numpy_scalar(kind) is not None
        or issubclass(kind, (pathlib.PurePath, loaded("pydantic", "BaseModel"), loaded("numpy", "ndarray")))
        or issubclass(kind, (loaded("pandas", "Timestamp"), loaded("pandas", "Timedelta")))
    )


def read(kind: type[Any], value: Any) -> Any:
    """msgspec's `dec_hook`: a `kind` of a JSON value. Raises ValueError when it is none."""
    try:
        return _read(kind, value)
    except msgspec.ValidationError as error:  # unchanged, it would lack the path of `value`
        raise ValueError(str(error)) from None


def _read(kind: type[Any], value: Any) -> Any:
    if isinstance(kind, _Keyed):
        if not isinstance(value, dict):
            raise ValueError(f"Expected `object`, got `{type(value).__name__}`")  # noqa: TRY004 - msgspec's kind
        found = cast("dict[str, Any]", value)
        return {
            _read_key(kind.key, key): msgspec.convert(item, kind.value, dec_hook=read, str_keys=True)
            for key, item in found.items()
        }
    if issubclass(kind, loaded("pydantic", "BaseModel")):
        return _model(kind, value)
    if issubclass(kind, loaded("numpy", "ndarray")):
        return _array(value)
    if (scalar := _numpy_scalar(kind)) is not None:
        plain = msgspec.convert(value, scalar[0], str_keys=True)
        return kind(plain)
    if issubclass(kind, loaded("pandas", "Timedelta")):
        return kind(msgspec.convert(value, timedelta))
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")  # noqa: TRY004 - msgspec's kind of error
    return kind(value)


def _read_key(kind: type[Any], text: str) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError("Expected keys `true` and `false`")
        return text == "true"
    scalar = _numpy_scalar(kind)
    return _read(kind, text) if scalar is None else kind(msgspec.convert(text, scalar[0], strict=False))


def _model(kind: Any, value: Any) -> Any:
    try:
        return kind.model_validate_json(json.dumps(value))
    except ValueError as error:
        first: dict[str, Any] = cast("Any", error).errors()[0] if hasattr(error, "errors") else {}
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first.get("loc", ()))
        # As msgspec writes it, which adds the place of the model.
        raise ValueError(f"{first.get('msg', error)}{f' - at `${place}`' if place else ''}") from None


def _array(value: Any) -> Any:
    if not isinstance(value, list):
        raise ValueError(f"Expected `array`, got `{type(value).__name__}`")  # noqa: TRY004 - as above
    return cast("Any", sys.modules["numpy"]).asarray(value)


def _numpy_scalar(kind: type[Any]) -> tuple[type[Any], Schema] | None:
    if not issubclass(kind, loaded("numpy", "generic")):
        return None
    for name, found in _SCALARS.items():
        if issubclass(kind, loaded("numpy", name)) and not issubclass(kind, loaded("numpy", "bytes_")):
            return found
    return None


def schema_of(kind: type[Any], defs: dict[str, Schema]) -> Schema:
    """The JSON Schema of what `read` takes; what it refers to is added to `defs`."""
    if isinstance(kind, _Keyed):
        return {"type": "object", **({"propertyNames": {"enum": ["true", "false"]}} if kind.key is bool else {})}
    if issubclass(kind, loaded("pydantic", "BaseModel")):
        prefix = kind.__name__
        template = f"#/$defs/{prefix}.{{model}}"
        schema: Schema = cast("Any", kind).model_json_schema(ref_template=template)
        defs.update({f"{prefix}.{name}": found for name, found in schema.pop("$defs", {}).items()})
        return schema
    if issubclass(kind, loaded("numpy", "ndarray")):
        return {"type": "array"}
    if (scalar := _numpy_scalar(kind)) is not None:
        return dict(scalar[1])
    if issubclass(kind, loaded("pandas", "Timestamp")):
        return dict(_TIME)
    if issubclass(kind, loaded("pandas", "Timedelta")):
        return {"type": "string", "format": "duration"}
    return {"type": "string", "format": "path"}
