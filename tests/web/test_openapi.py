"""The server keeps its OpenAPI document: every answer to what is generated from it is one that it documents."""

import json
import os
import random
import re
from typing import Any

import pytest
import requests
from bson import ObjectId
from hypothesis import HealthCheck, Phase, Verbosity, given, settings

from dtqkit.control import OPERATIONS
from dtqkit.web.openapi import document
from tests.serving import TOKEN, Server, fill

#: Examples for each operation, valid ones and others; `make soak` asks for more.
EXAMPLES = int(os.environ.get("DTQ_EXAMPLES", "100"))
#: What is no HTTP at all is refused with a bare 400 before any route is known; tests/web/test_input.py has those.
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FRAMING = ("content-length", "transfer-encoding")


#: Of a task that the server knows.
SCHEDULE = {"name": "nightly", "task": "add", "payload": {"a": 1}, "cron": "0 3 * * *"}


class Steering:
    """Makes half of what is generated meet something: a task that exists, a job in the right state."""

    def __init__(self, server: Server, operation: str) -> None:
        self._server = server
        self._operation = operation
        self._rng = random.Random(operation)

    def steer(self, case: Any) -> None:
        if self._rng.random() < 0.5:
            return
        if case.path_parameters and "id" in case.path_parameters:
            case.path_parameters["id"] = self._job()
        if case.path_parameters and "name" in case.path_parameters:
            case.path_parameters["name"] = self._schedule()
        if self._operation == "schedule" and isinstance(case.body, dict):
            case.body = {**SCHEDULE, "name": f"s{self._rng.randrange(9)}"}
        if self._operation == "backfill_schedule" and isinstance(case.body, dict):
            case.body = {"start": "2026-01-05T00:00:00Z", "end": "2026-01-06T00:00:00Z"}
        match case.body:
            case {"filter": {"where": _} as given}:
                given["where"] = {"a": self._rng.randrange(9)}  # a parameter of a task that the server knows
            case _:
                pass
        submissions = case.body if isinstance(case.body, list) else [case.body]
        if self._operation in ("submit", "submit_many"):
            for submission in submissions:
                if isinstance(submission, dict):
                    submission.pop("type", None)
                    submission |= {"task": "keep", "payload": {"value": submission.get("payload")}}
        if case.query:
            for name in ("cursor", "since", "ids"):  # their form is not in the schema
                case.query.pop(name, None)

    def _schedule(self) -> str:
        made = self._server.post("/schedules", SCHEDULE)
        assert made.status == 200, made.body
        return str(made.json["name"])

    def _job(self) -> str:
        if self._operation == "requeue":
            job = ObjectId()
            fill(self._server.settings, [failed(job)])
            return str(job)
        submitted = self._server.post("/jobs", {"task": "add", "payload": {"a": 1}})
        return str(submitted.json["id"])


def failed(job: ObjectId) -> dict[str, Any]:
    """The document of a job that has died."""
    return {
        "_id": job,
        "task": "add",
        "payload": {"a": 1},
        "priority": "medium",
        "status": "failed",
        "created_at": job.generation_time,
        "token": 1,
        "losses": 0,
        "rev": 3,
        "death_seq": 1,
        "error": {"kind": "exception", "type": "ValueError", "message": "planted"},
    }


def test_the_document_is_served_and_has_every_operation(server: Server) -> None:
    answer = server.get("/openapi.json", token=None)
    assert answer.status == 200
    assert answer.body == document()
    found = answer.json
    assert found["openapi"] == "3.1.0"
    routes = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
def test_every_answer_is_documented(server: Server, name: str) -> None:
    # Here, and not in each process that collects tests: it takes seconds.
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks as openapi

    checks: list[Any] = [
        not_a_server_error,
        openapi.status_code_conformance,
        openapi.content_type_conformance,
        openapi.response_headers_conformance,
        openapi.response_schema_conformance,
    ]
    described = json.loads(document())
    batch = described["paths"]["/jobs/batch"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    batch["maxItems"] = 4  # shows as much as a thousand, and generated in time
    schema: Any = schemathesis.openapi.from_dict(described)
    operations = {
        one.definition.raw["operationId"]: one for one in (found.ok() for found in schema.get_all_operations())
    }
    operation = operations[name]
    answers: dict[int, int] = {}
    steering = Steering(server, name)
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {TOKEN}"

    def ask(case: Any) -> None:
        for header, value in list((case.headers or {}).items()):
            if not HEADER.fullmatch(header) or not str(value).isprintable() or header.lower() in FRAMING:
                del case.headers[header]
        steering.steer(case)
        response = case.call(base_url=server.http, session=session, timeout=20)
        answers[response.status_code] = answers.get(response.status_code, 0) + 1
        case.validate_response(response, checks=checks)

    for mode, examples in ((GenerationMode.POSITIVE, EXAMPLES), (GenerationMode.NEGATIVE, EXAMPLES // 3)):
        if mode is GenerationMode.NEGATIVE and name == "health":
            continue  # it takes nothing, not even a token: there is nothing to get wrong

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            verbosity=Verbosity.quiet,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            ask(case)

        run()
    session.close()
    print(f"{name}: {answers}")
    succeeded = sum(count for status, count in answers.items() if status < 300)
    assert succeeded > 0, f"{answers}: name something that exists for it in Steering"


def test_what_one_operation_gives_the_next_takes(server: Server) -> None:
    """A job's way through the operations, each by what the one before it answered."""
    job = server.post("/jobs", {"task": "fail", "payload": {"message": "x"}}).json
    assert server.get(f"/jobs/{job['id']}").json["rev"] == job["rev"]
    listed = server.get("/jobs?task=fail&limit=1").json
    assert listed["items"][0]["id"] == job["id"]
    assert server.get(f"/jobs/{job['id']}/logs").json == {"id": job["id"], "lines": []}
    cancelled = server.post(f"/jobs/{job['id']}/cancel").json
    assert cancelled["rev"] > job["rev"]
    dead = ObjectId()
    fill(server.settings, [failed(dead)])
    assert str(dead) in [one["id"] for one in server.get("/jobs/dead-letter/list").json["items"]]
    wanted = {"ids": [str(dead)]}
    assert server.post("/jobs/dead-letter/requeue", {**wanted, "dry_run": True}).json == {"matched": 1, "requeued": 0}
    assert server.post("/jobs/dead-letter/requeue", wanted).json == {"matched": 1, "requeued": 1}
    assert server.get(f"/jobs/{dead}").json["status"] == "pending"


def test_each_list_in_a_query_is_documented_as_what_it_lists() -> None:
    paths = json.loads(document())["paths"]
    items = {
        (path, one["name"]): one["schema"]["items"]
        for path, methods in paths.items()
        for one in methods.get("get", {}).get("parameters", ())
        if one["schema"].get("type") == "array"
    }
    assert items[("/jobs", "ids")] == {"type": "string", "pattern": "^[0-9a-f]{24}$"}
    (columns,) = [schema for (_, name), schema in items.items() if name == "columns"]
    assert columns["enum"][:3] == ["job", "task", "priority"]
    assert {"payload", "tags", "result"} <= set(columns["enum"])
    assert [name for (_, name), schema in items.items() if ("pattern" in schema) != (name == "ids")] == []
