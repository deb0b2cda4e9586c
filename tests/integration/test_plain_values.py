"""Plain values through every path: submitted here or through a server, run, stored, listed, read again."""

from __future__ import annotations

import datetime as dt
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from dtqkit import JobFailed, Settings, TaskQueue
from dtqkit.control import Submission
from dtqkit.control.operations import SUBMIT
from tests import plain
from tests.conftest import Mongo
from tests.serving import TOKEN, Server, publish
from tests.workers import Workers

ODD = {
    "a.b@c.de": 1,
    "$set": {"$where": "x", "$ref": "a", "$id": 1},
    "": None,
    "deep": [{"$gt": {"": [1.5, math.nan]}}],
    "inf": -math.inf,
    "plain": {"a": [1, "é🦉", True, None]},
}
VALUES: list[Any] = [
    ODD,
    [math.nan, math.inf, 1.0],
    math.nan,
    {"": {"": ""}},
    {"": "{}"},
    {"$ref": "a", "$id": 1},
    {"$oid": "65f000000000000000000000"},
    [{"a.b": []}],
    {"a": {}},
]


@pytest.fixture
def behind(settings: Settings) -> Settings:
    return settings.replace(token=TOKEN, port=0, ws_port=0)


@pytest.fixture
def served(behind: Settings) -> Iterator[Server]:
    with TaskQueue(behind) as local:
        local.include(plain)
        publish(behind, [one.info for one in local.registry])
    with Server(behind) as server:
        yield server


@pytest.fixture(params=["direct", "remote"])
def queue(request: pytest.FixtureRequest, behind: Settings) -> Iterator[TaskQueue]:
    if request.param == "direct":
        with TaskQueue(behind) as queue:
            queue.include(plain)
            yield queue
    else:
        server: Server = request.getfixturevalue("served")
        with TaskQueue.connect(server.http, token=TOKEN) as queue:
            queue.include(plain)
            yield queue


@pytest.fixture
def worker(queue: TaskQueue, behind: Settings) -> Iterator[Workers]:
    with Workers(queue, settings=behind) as workers:
        yield workers


def strict(text: bytes | str) -> Any:
    """As a parser reads it that knows no NaN."""

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("task", [plain.echo, plain.echo_async], ids=str)
def test_every_value_comes_back_as_it_was(queue: TaskQueue, worker: Workers, task: Any) -> None:
    jobs = task.map(VALUES)
    assert list(map(repr, jobs.results(timeout=60))) == list(map(repr, VALUES))
    for job, value in zip(jobs, VALUES, strict=True):
        again = queue.get(job.id)
        assert repr(again.result()) == repr(value)
        assert again.record.payload == {"value": again.record.result}
    listed = {job.id: job for job in queue.jobs(limit=50).items}
    assert all(listed[job.id].result == queue.get(job.id).record.result for job in jobs)


def test_a_job_with_odd_keys_fails_is_listed_and_is_requeued_like_any_other(queue: TaskQueue, worker: Workers) -> None:
    job = plain.echo_in_vain.submit(ODD)
    with pytest.raises(JobFailed):
        job.result(timeout=30)
    (dead,) = queue.dead_letters().items
    assert dead.payload["value"]["a.b@c.de"] == 1
    with pytest.raises(JobFailed, match=r"'\$set'"):
        job.requeue().result(timeout=30)
    assert len(queue.history()) >= 2


def test_the_same_odd_payload_with_the_same_key_is_the_same_job(queue: TaskQueue) -> None:
    once = plain.echo.options(idempotency_key="k")
    first, second = once.submit({"a.b": math.nan, "c": 1}), once.submit({"c": 1, "a.b": math.nan})
    assert first.id == second.id


def test_annotated_values_keep_their_types(queue: TaskQueue, worker: Workers) -> None:
    at = pd.Timestamp("2026-01-31 08:00")
    job = plain.typed.submit(plain.Order(id=40), pathlib.Path("a/b.c"), {1: math.inf, 2: 0.5}, at)
    assert job.result(timeout=30) == {
        pathlib.Path("a/b.c"): plain.Order(id=42, due=dt.date(2026, 1, 31), ratio=math.inf)
    }


def test_what_a_data_frame_gives_is_a_result(queue: TaskQueue, worker: Workers) -> None:
    result = plain.computed.submit().result(timeout=30)
    assert (result["n"], result["described"]["a.b"]["25%"], result["records"][0]) == (1.5, 1.25, {"a.b": 1.0, "$n": 1})
    assert math.isnan(result["records"][2]["a.b"])


def test_the_server_answers_in_strict_json(behind: Settings, served: Server) -> None:
    with TaskQueue(behind) as queue, Workers(_included(queue), settings=behind):
        job = plain.echo.submit(ODD)
        job.result(timeout=30)
        body = {"task": "echo", "payload": {"value": {"$float": "nan"}}}
        posted = strict(served.ask("POST", "/jobs", body).body)
        assert math.isnan(queue.get(posted["id"]).result(timeout=30))
    for path in (f"/jobs/{job.id}", "/jobs", "/attempts", "/stats", "/tasks"):
        answer = served.ask("GET", path)
        assert answer.status == 200
        read: Any = [strict(line) for line in answer.body.splitlines()] if path == "/attempts" else strict(answer.body)
        if path == f"/jobs/{job.id}":
            assert read["result"] == read["payload"]["value"]
            assert read["result"]["inf"] == {"$float": "-inf"}


def _included(queue: TaskQueue) -> TaskQueue:
    queue.include(plain)
    return queue


def test_what_has_odd_keys_is_stored_as_text_and_all_else_can_be_queried(
    behind: Settings, mongo: Mongo, namespace: str
) -> None:
    with TaskQueue(behind) as queue:
        queue.include(plain)
        odd, even = plain.echo.submit({"a.b": 1}), plain.echo.submit({"a": {"b": 1}})
    (database,) = [name for name in mongo.list_database_names() if name.endswith(namespace)]
    stored = {str(doc["_id"]): doc["payload"] for doc in mongo[database]["jobs"].find()}
    assert stored == {odd.id: {"": '{"value":{"a.b":1}}'}, even.id: {"value": {"a": {"b": 1}}}}


def test_a_result_that_cannot_be_recorded_fails_once_and_says_what_to_do(
    behind: Settings, tmp_path: pathlib.Path
) -> None:
    with TaskQueue(behind) as queue, Workers(_included(queue), settings=behind):
        job = plain.unrecordable.submit(str(tmp_path / "log"))
        with pytest.raises(JobFailed, match=r"pandas\.DataFrame has no JSON form: use df\.to_dict\('records'\)"):
            job.result(timeout=30)
        record = job.refresh().record
    assert (tmp_path / "log").read_text() == "done\n"
    assert (len(record.attempts), record.failures) == (1, 1)


def test_a_payload_from_elsewhere_is_kept_as_it_came(behind: Settings) -> None:
    with TaskQueue(behind) as queue:
        queue.include(plain)
        submission = Submission(task="echo", payload={"value": {"$float": "nan", "a.b": {"$float": "nan"}}})
        job = queue.run(queue.core.control.ask(SUBMIT, submission))
        assert queue.get(job.id).record.payload == submission.payload
