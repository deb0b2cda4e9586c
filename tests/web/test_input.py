"""Every row of the input table of the wire contract, against a running server."""

import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.serving import TOKEN, Answer, Server

UNKNOWN = "0123456789abcdef01234567"


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The problem that `answer` is."""
    assert (answer.status, answer.json["code"]) == (status, code), answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = answer.json
    assert set(found) - {"errors"} == {"type", "title", "status", "code", "detail", "request_id"}
    assert found["status"] == status
    assert found["request_id"] == answer.headers["X-Request-Id"]
    assert ".py" not in answer.body.decode()
    assert "Traceback" not in answer.body.decode()
    return found


def raw(server: Server, request: bytes) -> bytes:
    """What comes back on a connection, until it is closed."""
    address = urlsplit(server.http)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def head(method: str, path: str, *lines: str, host: str = "127.0.0.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""]).encode(
        "latin-1"
    )


def submit(server: Server, payload: str) -> Answer:
    """Submit a job with a payload in JSON that a JSON library would not write."""
    return server.post("/jobs", f'{{"task": "keep", "payload": {payload}}}'.encode())


# -- a good one, so that the rest is not refused for another reason


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a_job_is_accepted_and_its_location_answers(server: Server, prefix: str) -> None:
    answer = server.post(f"{prefix}/jobs", {"task": "add", "payload": {"a": 1}, "tags": ["t"], "priority": "low"})
    assert answer.status == 201, answer
    job = answer.json
    assert answer.headers["Location"] == f"{prefix}/jobs/{job['id']}"
    found = server.get(answer.headers["Location"])
    assert (found.status, found.json["status"], found.json["priority"]) == (200, "pending", "low")
    assert found.json["attempts"] == []


def test_type_is_taken_for_task(server: Server) -> None:
    assert server.post("/jobs", {"type": "add", "payload": {"a": 1}}).json["task"] == "add"
    both = server.post("/jobs", {"type": "add", "task": "add", "payload": {"a": 1}})
    problem(both, 400, "invalid_request")


def test_the_tasks_own_options_are_the_defaults(server: Server) -> None:
    assert server.post("/jobs", {"task": "add", "payload": {"a": 1}}).json["priority"] == "high"
    assert server.post("/jobs", {"task": "fail", "payload": {"message": "x"}}).json["max_attempts"] == 1


# -- tokens


def test_no_token_or_a_wrong_one_is_401(server: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}, {"Authorization": TOKEN}):
        answer = server.get("/jobs", token=None, headers=headers)
        problem(answer, 401, "unauthorized")
        assert answer.headers["Www-Authenticate"] == "Bearer"


def test_a_token_that_is_not_ascii_is_401(server: Server) -> None:
    for token in ("tökèn", "\xff\xfe", "𝔱"):
        answer = raw(
            server, head("GET", "/jobs").replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        )
        assert answer.startswith(b"HTTP/1.1 401 "), answer[:200]


# -- sizes


def test_a_body_over_a_mebibyte_is_413(server: Server) -> None:
    body = json.dumps({"task": "keep", "payload": {"value": "x" * 1024 * 1024}}).encode()
    problem(server.post("/jobs", body), 413, "too_large")


def test_a_payload_over_the_limit_is_413(server: Server) -> None:
    answer = server.post("/jobs", {"task": "keep", "payload": {"value": "x" * 256 * 1024}})
    assert problem(answer, 413, "payload_too_large")["errors"][0]["allowed_bytes"] == 256 * 1024


def test_a_body_that_tornado_itself_refuses_is_400_and_the_server_goes_on(server: Server) -> None:
    length = 5 * 1024 * 1024
    answer = raw(server, head("POST", "/jobs", f"Authorization: Bearer {TOKEN}", f"Content-Length: {length}"))
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert server.get("/health/live").status == 200


# -- JSON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'task': 'add'}",
        b'{"task": "add"} x',
        b'{"task": "\xff\xfe"}',
        b'\xef\xbb\xbf{"task": "add"}',
        '{"task": "add"}'.encode("utf-16"),
        b'{"task": "add", "task": "keep"}',
        b'{"task": "add", "payload": {"a": 1, "a": 2}}',
        b'{"task": "keep", "payload": {"value": NaN}}',
        b'{"task": "keep", "payload": {"value": Infinity}}',
        b'{"task": "keep", "payload": {"value": -Infinity}}',
        b'{"task": "keep", "payload": {"value": 1e999}}',
        b'{"task": "keep", "payload": {"value": "a\nb"}}',
        b'{"task": "keep", "payload": {"value": 01}}',
    ],
)
def test_what_is_not_json_is_400(server: Server, body: bytes) -> None:
    problem(server.post("/jobs", body), 400, "invalid_json")


@pytest.mark.parametrize(
    "payload",
    [
        '{"value": ' + "[" * 32 + "]" * 32 + "}",
        '{"value": ' + "[" * 5_000 + "]" * 5_000 + "}",
        '{"value": ' + '{"a":' * 40 + "1" + "}" * 40 + "}",
        '{"value": 9223372036854775808}',
        '{"value": -9223372036854775809}',
        '{"value": ' + "9" * 6_000 + "}",
        '{"value": "\\ud800"}',
        '{"value": {"\\udfff": 1}}',
        '{"value": "a\\u0000b"}',
        '{"value": {"a\\u0000": 1}}',
        '{"$where": 1}',
    ],
)
def test_values_that_cannot_be_stored_are_422(server: Server, payload: str) -> None:
    answer = submit(server, payload)
    assert answer.status == 422, answer
    assert answer.json["code"] in ("invalid_payload", "invalid_value")


@pytest.mark.parametrize("key", ["$gt", "$where", "$set.a", "a.b", "", "$"])
def test_keys_that_mean_something_to_mongodb_mean_nothing_here_and_come_back(server: Server, key: str) -> None:
    value = {key: {key: [1, {key: None}]}, "b": 2}
    posted = submit(server, json.dumps({"value": value}))
    assert posted.status == 201, posted
    assert server.get(f"/jobs/{posted.json['id']}").json["payload"] == {"value": value}


def test_values_at_the_limits_are_accepted_and_come_back(server: Server) -> None:
    for value in (9223372036854775807, -9223372036854775808, 1e308, "𝔱\u2028", {"ä": None}, [True, [], {}]):
        job = server.post("/jobs", {"task": "keep", "payload": {"value": value}})
        assert job.status == 201, job
        assert server.get(f"/jobs/{job.json['id']}").json["payload"] == {"value": value}
    deep = '{"value": ' + "[" * 31 + "]" * 31 + "}"
    assert submit(server, deep).status == 201


@pytest.mark.parametrize("field", ["task", "idempotency_key"])
@pytest.mark.parametrize("text", ["\\ud800", "a\\u0000"])
def test_text_beside_the_payload_is_checked_too(server: Server, field: str, text: str) -> None:
    fields = {"task": '"add"', "payload": '{"a": 1}', field: f'"{text}"'}
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
    problem(server.post("/jobs", body.encode()), 422, "invalid_value")


# -- records


@pytest.mark.parametrize(
    "body",
    [
        {"task": {"$gt": ""}, "payload": {}},
        {"task": "add", "payload": []},
        {"task": "add", "payload": {"a": 1}, "priority": {"$ne": "low"}},
        {"task": "add", "payload": {"a": 1}, "priority": "urgent"},
        {"task": "add", "payload": {"a": 1}, "idempotency_key": {"$gt": ""}},
        {"task": "add", "payload": {"a": 1}, "idempotency_key": ""},
        {"task": "add", "payload": {"a": 1}, "tags": "one"},
        {"task": "add", "payload": {"a": 1}, "tags": ["x"] * 21},
        {"task": "add", "payload": {"a": 1}, "max_attempts": 0},
        {"task": "add", "payload": {"a": 1}, "timeout_s": 0},
        {"task": "add", "payload": {"a": 1}, "delay_s": -1},
        {"task": "add", "payload": {"a": 1}, "delay_s": "1"},
        {"task": "add", "payload": {"a": 1}, "unknown": 1},
        {"payload": {}},
        [],
        "add",
        None,
        1,
    ],
)
def test_a_body_of_another_form_is_400(server: Server, body: Any) -> None:
    problem(server.post("/jobs", json.dumps(body).encode()), 400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        "status[$ne]=failed",
        "status[]=failed",
        "unknown=1",
        "status=lost",
        "status=",
        "status=failed&status=pending",
        "priority=urgent",
        "limit=0",
        "limit=-1",
        "limit=1e9",
        "limit=201",
        "limit=1000000000",
        "limit=ten",
        "limit=%31%30%00",
        "q=",
        "task=%ff",
        "task=%zz",
        "since=yesterday",
        "since=999999d",
        "ids=1,2",
    ],
)
def test_a_query_that_is_not_known_is_400(server: Server, query: str) -> None:
    answer = server.get(f"/jobs?{query}")
    assert answer.status == 400, answer
    assert answer.json["code"] in ("invalid_request", "invalid_query")


@pytest.mark.parametrize("path", ["/jobs/queue-depths", "/tasks", "/workers", "/metrics", f"/jobs/{UNKNOWN}"])
def test_a_route_that_takes_no_parameters_refuses_them(server: Server, path: str) -> None:
    problem(server.get(f"{path}?verbose=1"), 400, "invalid_request")


def test_a_cursor_that_was_tampered_with_is_400(server: Server) -> None:
    for number in range(3):
        server.post("/jobs", {"task": "keep", "payload": {"value": number}})
    cursor = server.get("/jobs?limit=1").json["cursor"]
    assert server.get(f"/jobs?limit=1&cursor={cursor}").status == 200
    for wrong in (cursor[:-1], cursor + "A", "x", "%00", '{"$gt":""}'.replace('"', "%22"), cursor[::-1] + "="):
        problem(server.get(f"/jobs?cursor={wrong}"), 400, "invalid_query")


@pytest.mark.parametrize(
    "job", ["1", "x" * 24, UNKNOWN + "0", "%00", "%ff", "null", "$where", UNKNOWN, "..%2f..%2fetc"]
)
def test_invalid_and_unknown_ids_are_404(server: Server, job: str) -> None:
    for method, path in (("GET", ""), ("GET", "/logs"), ("POST", "/cancel"), ("POST", "/requeue")):
        problem(server.ask(method, f"/jobs/{job}{path}"), 404, "job_not_found")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_post_that_is_not_json_is_415(server: Server, kind: str) -> None:
    answer = server.post("/jobs", b'{"task": "add", "payload": {"a": 1}}', headers={"Content-Type": kind})
    problem(answer, 415, "unsupported_media_type")


def test_json_with_a_charset_is_json(server: Server) -> None:
    kind = "application/json; charset=utf-8"
    answer = server.post("/jobs", b'{"task": "add", "payload": {"a": 1}}', headers={"Content-Type": kind})
    assert answer.status == 201


# -- tasks and payloads


def test_an_unknown_task_is_422_with_the_nearest_names(server: Server) -> None:
    found = problem(server.post("/jobs", {"task": "ad", "payload": {}}), 422, "unknown_task")
    assert found["errors"] == [{"task": "ad", "near": ["add"]}]
    assert "'add'" in found["detail"]


@pytest.mark.parametrize(
    ("payload", "path"), [({}, "$.a"), ({"a": "1"}, "$.a"), ({"a": 1, "c": 2}, "$.c"), ({"a": 1, "b": None}, "$.b")]
)
def test_a_payload_that_does_not_fit_is_422_with_the_path(server: Server, payload: dict[str, Any], path: str) -> None:
    found = problem(server.post("/jobs", {"task": "add", "payload": payload}), 422, "invalid_payload")
    assert found["errors"][0]["path"] == path


def test_each_job_of_a_batch_is_accepted_or_refused_by_itself(server: Server) -> None:
    batch = [
        {"task": "add", "payload": {"a": 1}},
        {"type": "nobody", "payload": {}},
        {"task": "add", "payload": {"a": "x"}},
        {"type": "keep", "payload": {"value": "\0"}},
        {"type": "keep", "payload": {"value": [1]}},
    ]
    answer = server.post("/jobs/batch", batch)
    assert answer.status == 200
    codes = [item["refused"]["code"] if "refused" in item else item["job"]["status"] for item in answer.json]
    assert codes == ["pending", "unknown_task", "invalid_payload", "invalid_payload", "pending"]


@pytest.mark.parametrize("batch", [[], [{"task": "add", "payload": {"a": 1}}] * 1001, {}, [1]])
def test_a_batch_of_another_form_is_400(server: Server, batch: Any) -> None:
    problem(server.post("/jobs/batch", batch), 400, "invalid_request")


@pytest.mark.parametrize("body", [b'{"task": "add", "\\ud800": 1}', b'{"task": "add", "priority": "\\ud800"}'])
def test_half_a_surrogate_pair_where_none_is_expected_is_422(server: Server, body: bytes) -> None:
    problem(server.ask("POST", "/jobs", body=body), 422, "invalid_value")


def test_a_repeated_key_among_many_is_found_at_once(server: Server) -> None:
    """Not by comparing each with each: the largest body that is taken would keep the server for minutes."""
    keys = ",".join(f'"{n}": 1' for n in [*range(60_000), 59_999])
    started = time.monotonic()
    problem(server.ask("POST", "/jobs", body=f"{{{keys}}}".encode()), 400, "invalid_json")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("since", ["1969-01-01", "30000d", "2200-01-01", "2026-01-01T00:00%2b14:00"])
def test_a_time_before_or_after_all_jobs_is_taken(server: Server, since: str) -> None:
    assert server.get(f"/jobs?since={since}").status == 200


# -- states


def test_the_same_key_gives_the_same_job_and_with_another_payload_a_conflict(server: Server) -> None:
    body: dict[str, Any] = {"task": "add", "payload": {"a": 1}, "idempotency_key": "k-1"}
    first = server.post("/jobs", body)
    assert server.post("/jobs", body).json["id"] == first.json["id"]
    problem(server.post("/jobs", {**body, "payload": {"a": 2}}), 409, "idempotency_conflict")


def test_cancel_and_requeue_answer_by_the_jobs_state(server: Server) -> None:
    job = server.post("/jobs", {"task": "add", "payload": {"a": 1}}).json["id"]
    problem(server.post(f"/jobs/{job}/requeue"), 409, "conflict")
    cancelled = server.post(f"/jobs/{job}/cancel")
    assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
    problem(server.post(f"/jobs/{job}/cancel"), 409, "conflict")
    problem(server.post(f"/jobs/{job}/cancel", {"force": True}), 400, "invalid_request")


# -- methods and addresses


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_405_and_list_the_allowed_ones(server: Server, method: str) -> None:
    answer = server.ask(method, "/jobs")
    assert (answer.status, set(answer.headers["Allow"].split(", "))) == (405, {"GET", "HEAD", "POST", "OPTIONS"})


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/jobs/",
        "/../etc/passwd",
        "/board/index.js/x",
        "/board/index-js",
        "/board/",
        "/board/types.ts",
        "/board/../page.js",
        "/api/api/jobs",
    ],
)
def test_other_addresses_are_404_for_anybody(server: Server, path: str) -> None:
    problem(server.get(path, token=None), 404, "not_found")


def test_a_header_that_is_too_large_and_a_broken_request_do_not_hurt(server: Server) -> None:
    assert raw(server, head("GET", "/jobs", f"X-Large: {'x' * 20_000}"))[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400", b"")
    assert raw(server, b"\x00\x01\x02\r\n\r\n")[:12] in (b"HTTP/1.1 400", b"")
    assert server.get("/health").status == 200


# -- where it comes from


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:3000", "localhost.evil", ""])
def test_a_host_that_is_not_ours_is_403_but_for_health(server: Server, host: str) -> None:
    bearer = f"Authorization: Bearer {TOKEN}"
    assert raw(server, head("GET", "/jobs", bearer, host=host)).startswith(b"HTTP/1.1 403 ")
    assert raw(server, head("GET", "/", host=host)).startswith(b"HTTP/1.1 403 ")
    assert raw(server, head("GET", "/health", host=host)).startswith(b"HTTP/1.1 200 ")
    assert raw(server, head("GET", "/health/live", host=host)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:3000"])
def test_loopback_names_are_ours(server: Server, host: str) -> None:
    assert raw(server, head("GET", "/jobs", f"Authorization: Bearer {TOKEN}", host=host)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1.evil.example", "file://"]
)
def test_a_write_from_another_origin_is_403_and_leaves_nothing(server: Server, origin: str) -> None:
    body = {"task": "add", "payload": {"a": 1}, "idempotency_key": f"from {origin}"}
    answer = server.post("/jobs", body, headers={"Origin": origin})
    problem(answer, 403, "forbidden")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert server.get(f"/jobs?q=from%20{origin.replace(':', '%3a').replace('/', '%2f')}").json["items"] == []


def test_a_write_from_our_own_page_is_accepted(server: Server) -> None:
    for origin in (server.http, f"http://127.0.0.1:{urlsplit(server.ws).port}"):
        answer = server.post("/jobs", {"task": "add", "payload": {"a": 1}}, headers={"Origin": origin})
        assert answer.status == 201, answer
