"""Pauses and changes of jobs over HTTP: what is answered, and what bad input gets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import Server
from tests.web.test_input import UNKNOWN, problem


def job(server: Server, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = server.post("/jobs", {"task": "add", "payload": {"a": 1}, **more}).json
    return made


def test_a_waiting_job_is_changed(server: Server) -> None:
    made = job(server)
    changed = server.ask("PATCH", f"/jobs/{made['id']}", {"priority": "high", "tags": ["x"], "payload": {"a": 2}})
    assert (changed.status, changed.json["priority"], changed.json["payload"]) == (200, "high", {"a": 2})
    assert changed.json["rev"] == made["rev"] + 1
    problem(server.ask("PATCH", f"/jobs/{made['id']}", {}), 422, "invalid_option")
    problem(server.ask("PATCH", f"/jobs/{made['id']}", {"payload": {"a": "one"}}), 422, "invalid_payload")
    problem(server.ask("PATCH", f"/jobs/{made['id']}", {"priority": "urgent"}), 400, "invalid_request")
    problem(server.ask("PATCH", f"/jobs/{made['id']}", {"timeout_s": 3}), 400, "invalid_request")
    problem(server.ask("PATCH", f"/jobs/{UNKNOWN}", {"priority": "low"}), 404, "job_not_found")
    server.post(f"/jobs/{made['id']}/cancel")
    problem(server.ask("PATCH", f"/jobs/{made['id']}", {"priority": "low"}), 409, "conflict")


def test_jobs_are_counted_and_changed_by_a_filter(server: Server) -> None:
    for _ in range(3):
        job(server, tags=["of this test"])
    wanted = {"filter": {"q": "of this test"}}
    counted = server.post("/jobs/cancel", {**wanted, "dry_run": True})
    assert counted.json == {"matched": 3, "changed": 0, "stopping": 0, "cursor": None}
    assert server.post("/jobs/update", {**wanted, "set": {"priority": "low"}}).json["changed"] == 3
    assert server.post("/jobs/cancel", wanted).json["changed"] == 3
    assert server.post("/jobs/delete", wanted).json["changed"] == 3
    assert server.post("/jobs/requeue", wanted).json["matched"] == 0


def test_jobs_are_cancelled_by_the_values_of_their_payloads(server: Server) -> None:
    jobs = [server.post("/jobs", {"task": "add", "payload": {"a": n, "b": 77}}).json for n in (1, 1, 2)]
    wanted = {"filter": {"task": "add", "where": {"a": 1, "b": 77}}}
    assert server.post("/jobs/cancel", {**wanted, "dry_run": True}).json["matched"] == 2
    assert server.post("/jobs/cancel", wanted).json["changed"] == 2
    assert server.get(f"/jobs/{jobs[2]['id']}").json["status"] == "pending"
    assert server.post("/jobs/cancel", {"filter": {"where": {"b": 77}}}).json["changed"] == 1
    refused = server.post("/jobs/cancel", {"filter": {"task": "add", "where": {"a": "1"}}})
    assert "where has \"1\" for 'a'" in problem(refused, 400, "invalid_query")["detail"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/jobs/cancel", {"filter": {"where": {}}}, 400, "matches_everything"),
        ("/jobs/cancel", {"filter": {"where": {"a": [1]}}}, 400, "invalid_request"),
        ("/jobs/cancel", {"filter": {"where": {"a": {"$gt": 0}}}}, 400, "invalid_request"),
        ("/jobs/cancel", {"filter": {"where": {"$where": 1}}}, 400, "invalid_query"),
        ("/jobs/cancel", {"filter": {"where": {"nobody": 1}}}, 400, "invalid_query"),
        ("/pauses", {"task": "add", "where": {"a": "1"}}, 422, "invalid_pause"),
        ("/jobs/cancel", {}, 400, "matches_everything"),
        ("/jobs/delete", {"filter": {}}, 400, "matches_everything"),
        ("/jobs/cancel", {"filter": {"status": "completed"}}, 400, "invalid_query"),
        ("/jobs/cancel", {"filter": {"tusk": "add"}}, 400, "invalid_request"),
        ("/jobs/cancel", {"filter": {"task": {"$gt": ""}}}, 400, "invalid_request"),
        ("/jobs/cancel", {"filter": {"task": "add"}, "cursor": "x"}, 400, "invalid_query"),
        ("/jobs/update", {"filter": {"task": "add"}}, 400, "invalid_request"),
        ("/jobs/update", {"filter": {"task": "add"}, "set": {}}, 422, "invalid_option"),
        ("/pauses", {}, 422, "invalid_pause"),
        ("/pauses", {"lane": "lwo"}, 422, "invalid_pause"),
        ("/pauses", {"task": "no such task"}, 422, "invalid_pause"),
        ("/pauses", {"task": "add", "where": {"a": {"$gt": 0}}}, 400, "invalid_request"),
        ("/pauses", {"task": "add", "where": {"$where": 1}}, 422, "invalid_pause"),
        ("/pauses", {"task": "add", "until": "2020-01-01T00:00:00Z"}, 422, "invalid_pause"),
        ("/pauses", {"task": "add", "until": "2100-01-01T00:00:00"}, 422, "invalid_pause"),
        ("/pauses/resume", {"lane": "low"}, 409, "not_paused"),
    ],
)
def test_bad_input_is_refused(server: Server, path: str, body: dict[str, Any], status: int, code: str) -> None:
    problem(server.post(path, body), status, code)


def test_a_pause_is_seen_in_the_health_and_the_metrics(server: Server) -> None:
    made = server.post("/pauses", {"task": "add", "where": {"a": 1}, "reason": "now"})
    assert (made.status, made.json["where"], made.json["reason"]) == (200, {"a": 1}, "now")
    waiting = job(server)
    (listed,) = server.get("/pauses").json
    assert listed["waiting"] >= 1
    assert "waiting" not in server.get("/pauses?counted=false").json[0]
    assert server.get("/health?").json["pauses"] in (0, 1)  # a look of a second ago counts
    assert "dtqkit_paused_jobs" in server.get("/metrics").body.decode()
    server.post("/pauses/resume", {"task": "add", "where": {"a": 1}})
    assert server.get("/pauses").json == []
    server.post(f"/jobs/{waiting['id']}/cancel")
