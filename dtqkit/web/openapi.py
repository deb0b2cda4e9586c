"""OpenAPI 3.1, made from the table of operations and its records: every route is documented."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, ClassVar, Final, cast

import msgspec

from dtqkit._version import VERSION
from dtqkit.control import OPERATIONS, Operation
from dtqkit.control.table import own_fields, path_fields
from dtqkit.web.access import Scope
from dtqkit.web.base import Base
from dtqkit.web.intake import read_query
from dtqkit.web.problem import MEDIA_TYPE, Problem

_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"

#: What each kind of request can be refused with.
_REFUSALS: Final = {
    "all": {400: "Bad query, body or cursor", 403: "Host or Origin not allowed", 405: "Method not known"},
    "closed": {401: "No token, or a wrong one", 429: "Too many wrong tokens", 503: "A store is away"},
    "body": {413: "Body or payload too large", 415: "Not application/json", 422: "Values or task refused"},
    "one": {404: "Nothing of this id or name"},
    "change": {409: "The job's state does not allow it"},
}


def document() -> bytes:
    """The whole document, as JSON."""
    return _document(tuple(OPERATIONS))


@functools.cache
def _document(operations: tuple[Operation[Any, Any], ...]) -> bytes:
    records = _records(operations)
    schemas, components = msgspec.json.schema_components(records, ref_template=_REF)
    by_record = dict(zip(map(repr, records), schemas, strict=True))
    _complete(components)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_record, components)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "dtqkit",
                "version": VERSION,
                "description": "A distributed task queue. Every route also answers under /api; events come over /ws.",
            },
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _records(operations: Iterable[Operation[Any, Any]]) -> list[Any]:
    wanted: dict[str, Any] = {repr(Problem): Problem}
    for operation in operations:
        for record in (_request(operation), _response(operation)):
            if record is not None:
                wanted[repr(record)] = record
    return list(wanted.values())


def _request(operation: Operation[Any, Any]) -> Any:
    """The record of the query string or of the body; None when both are empty."""
    return None if own_fields(operation) == () else operation.request


def _response(operation: Operation[Any, Any]) -> Any:
    return operation.response if operation.streams is None else operation.streams.row


def _complete(components: dict[str, Any]) -> None:
    """What the JSON has besides the records: whole jobs, and `type` for `task`."""
    job = components["Job"]
    job["properties"]["attempts"] = {"type": "array", "items": {"$ref": _REF.format(name="Attempt")}}
    job["required"] = sorted({*job["required"], "status", "priority", "attempts"})
    submission = components["Submission"]
    submission["properties"]["type"] = {"type": "string", "description": "The same as `task`; one of the two."}
    submission.pop("required", None)
    submission["oneOf"] = [{"required": ["task"]}, {"required": ["type"]}]


def _operation(operation: Operation[Any, Any], by_record: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [],
        "responses": _responses(operation, by_record),
        "security": [] if operation.scope == "open" else [{"token": []}],
        "x-scope": operation.scope,
    }
    for field in msgspec.structs.fields(operation.request) if path_fields(operation) else ():
        if field.name in path_fields(operation):
            schema = msgspec.json.schema(field.type)
            made["parameters"].append({"name": field.name, "in": "path", "required": True, "schema": schema})
    request = by_record.get(repr(_request(operation)))
    if request is None:
        return made
    if own_fields(operation) is None:
        return made | {"requestBody": _body(request)}
    record = components[cast(str, request["$ref"]).rpartition("/")[2]]
    own = {name: schema for name, schema in record["properties"].items() if name not in path_fields(operation)}
    if operation.method == "GET":
        made["parameters"] += [_parameter(name, schema) for name, schema in own.items()]
    elif path_fields(operation):
        required = [name for name in record.get("required", ()) if name in own]
        made["requestBody"] = _body({**record, "properties": own, "required": required})
    else:
        made["requestBody"] = _body(request)
    return made


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": schema}}}


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A field as a parameter of the query: what may be null is left out instead."""
    options = [option for option in schema.get("anyOf", [schema]) if option != {"type": "null"}]
    found = {key: value for key, value in options[0].items() if key != "default"}
    parameter: dict[str, Any] = {"name": name, "in": "query", "schema": found}
    if found.get("type") == "array":
        parameter |= {"style": "form", "explode": False}
        found["minItems"] = 1
    return parameter


def _responses(operation: Operation[Any, Any], by_record: dict[str, Any]) -> dict[str, Any]:
    kind, schema = _JSON, by_record[repr(_response(operation))]
    if operation.streams is not None:
        lines = operation.streams
        kind = "application/x-ndjson"
        schema = {"type": "string", "description": f"A line {lines.each}: {lines.row.__name__}."}
    good: dict[str, Any] = {"description": "Done", "content": {kind: {"schema": schema}}}
    responses: dict[str, Any] = {str(operation.status): good}
    if operation.created is not None:
        good["headers"] = {"Location": {"schema": {"type": "string"}}}
    if operation.accepted_when is not None:
        responses["202"] = {**good, "description": "It runs, and is asked to stop"}
    if operation.may_be_down is not None:
        responses["503"] = {**good, "description": "Submits would be refused"}
    refusals = dict(_REFUSALS["all"])
    if operation.scope != "open":
        refusals |= _REFUSALS["closed"]
    if operation.writes:
        refusals |= _REFUSALS["body"]
    if path_fields(operation):
        refusals |= _REFUSALS["one"]
    if operation.scope == "write":
        refusals |= _REFUSALS["change"]
    for status, description in refusals.items():
        responses.setdefault(str(status), _refusal(status, description))
    return dict(sorted(responses.items()))


def _refusal(status: int, description: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
    }
    if status in (429, 503):
        made["headers"] = {"Retry-After": {"schema": {"type": "string"}}}
    return made


class OpenApiHandler(Base):
    """The document; open, as it says nothing of what is in the queue."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": "open"}

    def get(self) -> None:
        read_query((), self.request.query)
        self.answer(document())


routes = [("/openapi.json", OpenApiHandler)]
