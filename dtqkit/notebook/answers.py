"""Answer what a board asks for: the operations of the queue, as messages {id, op, params} -> {id, result | error}."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from dtqkit.control import OPERATIONS, Control, Operation
from dtqkit.errors import DtqError, InvalidPayload, InvalidQuery
from dtqkit.jobs import Job

log = logging.getLogger("dtqkit.notebook")

#: The largest integer that JavaScript keeps apart from its neighbours.
MAX_EXACT: Final = 2**53 - 1
_PACKED: Final = re.compile(r"\0-?[0-9]{1,19}")
#: A history has no end that a message could hold.
_KNOWN: Final[Mapping[str, Operation]] = {o.name: o for o in OPERATIONS if o.name != "history"}


async def answer(control: Control, message: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to one message; a refusal is {code, detail, errors}, as it is over HTTP."""
    try:
        result = await _result(control, str(message.get("op")), unpacked(message.get("params") or {}))
    except DtqError as error:
        return {"id": message.get("id"), "error": problem(error)}
    except Exception:
        log.exception("the board's request %r broke", message.get("op"))
        refusal = {"code": "internal_error", "detail": "this is a mistake of dtqkit's; the kernel's log has it"}
        return {"id": message.get("id"), "error": refusal}
    return {"id": message.get("id"), "result": result}


async def _result(control: Control, op: str, params: dict[str, Any]) -> Any:
    if op == "snapshot":
        return plain(await control.snapshot())
    operation = _KNOWN.get(op)
    if operation is None:
        raise InvalidQuery(f"there is no operation {op!r}; there are {', '.join(_KNOWN)}")
    ask = getattr(control, op)
    if "{id}" in operation.path:
        return plain(await ask(str(params.get("id"))))
    if operation.request is None:
        return plain(await ask())
    try:
        request = msgspec.convert(params, operation.request, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidQuery(f"{op}: {error}") from None
    return plain(await ask(request))


def plain(value: Any) -> Any:
    """Builtins of JSON; a completed job has its result even if that is null."""
    built = packed(msgspec.to_builtins(value))
    if isinstance(value, Job) and value.status == "completed":
        cast("dict[str, Any]", built)["result"] = packed(value.result)
    return built


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
    """What the board needs to know of a refusal; `errors` tells which field of a payload is wrong."""
    found: dict[str, Any] = {"code": error.code, "detail": str(error)}
    if isinstance(error, InvalidPayload):
        found["errors"] = [{"path": error.path, "detail": error.detail}]
    return found
