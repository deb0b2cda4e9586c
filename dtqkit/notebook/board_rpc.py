"""Answer what a board asks for: the operations of the queue, as messages {id, op, params} -> {id, result | error}."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from dtqkit.control import OPERATIONS, Control
from dtqkit.control.json_form import plain
from dtqkit.control.operations import SNAPSHOT
from dtqkit.model.errors import DtqError, InvalidPayload, InvalidQuery

log = logging.getLogger("dtqkit.notebook")

#: The largest integer that JavaScript keeps apart from its neighbours.
MAX_EXACT: Final = 2**53 - 1
_PACKED: Final = re.compile(r"\0-?[0-9]{1,19}")


async def answer(control: Control, message: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to one message; a refusal is {code, detail, errors}, as it is over HTTP."""
    try:
        result = await _result(control, str(message.get("op")), unpacked(message.get("params") or {}))
    except DtqError as error:
        return {"id": message.get("id"), "error": problem(error)}
    except Exception:
        log.exception("the board's request %r failed", message.get("op"))
        refusal = {"code": "internal_error", "detail": "this is a bug in dtqkit; the traceback is in the kernel's log"}
        return {"id": message.get("id"), "error": refusal}
    return {"id": message.get("id"), "result": result}


async def _result(control: Control, name: str, params: dict[str, Any]) -> Any:
    operation = SNAPSHOT if name == SNAPSHOT.name else OPERATIONS.get(name)
    if operation is None or operation.streams is not None:  # a streamed answer does not fit into a message
        known = ", ".join(known.name for known in OPERATIONS if known.streams is None)
        raise InvalidQuery(f"there is no operation {name!r}; there are {known}")
    try:
        request = msgspec.convert(params, operation.request, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidQuery(f"{name}: {error}") from None
    return built(await control.ask(operation, request))


def built(value: Any) -> Any:
    """An answer as builtins of JSON, in the form that it has over HTTP."""
    return packed(msgspec.to_builtins(plain(value)))


def packed(value: Any) -> Any:
    """`value` with integers that JavaScript rounds as texts: a NUL, which no text of a job has, then the digits."""
    if isinstance(value, dict):
        return {key: packed(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [packed(item) for item in cast("list[Any]", value)]
    return f"\0{value}" if type(value) is int and abs(value) > MAX_EXACT else value


def unpacked(value: Any) -> Any:
    """What a board has packed so."""
    if isinstance(value, dict):
        return {key: unpacked(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [unpacked(item) for item in cast("list[Any]", value)]
    return int(value[1:]) if isinstance(value, str) and _PACKED.fullmatch(value) else value


def problem(error: DtqError) -> dict[str, Any]:
    """What the board needs to know of a refusal; `errors` says which field of a payload is wrong."""
    found: dict[str, Any] = {"code": error.code, "detail": str(error)}
    if isinstance(error, InvalidPayload):
        found["errors"] = [{"path": error.path, "detail": error.detail}]
    return found
