"""OpenAPI 3.1, made from the table of operations and its records: what routes, documents itself."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Final, cast

import msgspec

from dtqkit._version import VERSION
from dtqkit.control import OPERATIONS, Operation
from dtqkit.web.access import Scope
from dtqkit.web.base import Base
from dtqkit.web.intake import NO_QUERY, read_query
from dtqkit.web.problem import MEDIA_TYPE, Problem

_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"

#: What each kind of request can be refused with.
_REFUSALS: Final = {
    "all": {400: "Bad query, body or cursor", 403: "Host or Origin not ours", 405: "Method not known"},
    "closed": {401: "No token, or a wrong one", 429: "Too many wrong tokens", 503: "A store is away"},
    "body": {413: "Body or payload too large", 415: "Not application/json", 422: "Values or task refused"},
    "job": {404: "No such job"},
    "change": {409: "The job's state does not allow it"},
}


@functools.cache
def document() -> bytes:
    """The whole document, as JSON."""
    records = _records()
    schemas, components = msgspec.json.schema_components(records, ref_template=_REF)
    by_record = dict(zip(map(repr, records), schemas, strict=True))
    _complete(components)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
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


def _records() -> list[Any]:
    wanted: dict[str, Any] = {repr(Problem): Problem}
    for operation in OPERATIONS:
        for record in (operation.request, operation.response):
            if record is not None:
                wanted[repr(record)] = record
    return list(wanted.values())


def _complete(components: dict[str, Any]) -> None:
    """What the wire form has besides the records: whole jobs, and `type` for `task`."""
    job = components["Job"]
    job["properties"]["attempts"] = {"type": "array", "items": {"$ref": _REF.format(name="Attempt")}}
    job["required"] = sorted({*job["required"], "status", "priority", "attempts"})
    submission = components["Submission"]
    submission["properties"]["type"] = {"type": "string", "description": "The same as `task`; one of the two."}
    submission.pop("required", None)
    submission["oneOf"] = [{"required": ["task"]}, {"required": ["type"]}]


def _operation(operation: Operation, by_record: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    request = by_record.get(repr(operation.request))
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [],
        "responses": _responses(operation, by_record),
        "security": [] if operation.scope == "open" else [{"token": []}],
        "x-scope": operation.scope,
    }
    if "{id}" in operation.path:
        made["parameters"].append(
            {
                "name": "id",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": "^[0-9a-f]{24}$"},
            }
        )
    if request is not None and operation.method == "POST":
        made["requestBody"] = {"required": True, "content": {_JSON: {"schema": request}}}
    elif request is not None:
        record = components[cast(str, request["$ref"]).rpartition("/")[2]]
        made["parameters"] += [_parameter(name, schema) for name, schema in record["properties"].items()]
    return made


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A field as a parameter of the query: what may be null is left out instead."""
    options = [option for option in schema.get("anyOf", [schema]) if option != {"type": "null"}]
    found = {key: value for key, value in options[0].items() if key != "default"}
    parameter: dict[str, Any] = {"name": name, "in": "query", "schema": found}
    if found.get("type") == "array":
        parameter |= {"style": "form", "explode": False}
        found["minItems"] = 1
        found["items"] = {"type": "string", "pattern": "^[0-9a-f]{24}$"}
    return parameter


def _responses(operation: Operation, by_record: dict[str, Any]) -> dict[str, Any]:
    kind = "application/x-ndjson" if operation.name == "history" else _JSON
    good = {"description": "Done", "content": {kind: {"schema": by_record[repr(operation.response)]}}}
    if operation.name == "history":
        good["content"] = {kind: {"schema": {"type": "string", "description": "A line an attempt: AttemptRow."}}}
    responses: dict[str, Any] = {str(operation.status): good}
    if operation.name == "submit":
        good["headers"] = {"Location": {"schema": {"type": "string"}}}
    if operation.name == "cancel":
        responses["202"] = {**good, "description": "It runs, and is asked to stop"}
    if operation.name == "health":
        responses["503"] = {**good, "description": "Submits would be refused"}
    refusals = dict(_REFUSALS["all"])
    if operation.scope != "open":
        refusals |= _REFUSALS["closed"]
    if operation.method == "POST":
        refusals |= _REFUSALS["body"]
    if "{id}" in operation.path:
        refusals |= _REFUSALS["job"]
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
        read_query(NO_QUERY, self.request.query)
        self.answer(document())


routes = [("/openapi.json", OpenApiHandler)]
