"""Jobs that another program has written, or somebody by hand: what cannot be used counts as absent, as is said once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from bson import Decimal128, ObjectId

from dtqkit.model.jobs import Job
from dtqkit.store import fields
from dtqkit.store.documents import to_job
from dtqkit.store.ids import new_id
from dtqkit.support.once import Once

NOW = datetime(2026, 5, 1, 12, 30, 7, tzinfo=UTC)
ATTEMPT = {"number": 1, "worker": "w", "queued_at": NOW, "claimed_at": NOW, "ending": "failed"}


def document(**fields: Any) -> dict[str, Any]:
    return {"_id": new_id(NOW), "task": "t", "payload": {"a": 1}, "status": "failed", "created_at": NOW, **fields}


def test_what_the_kit_writes_is_read_as_it_is() -> None:
    error = {"kind": "timeout", "type": "TaskTimeout", "message": "late"}
    doc = document(
        earlier=[ATTEMPT], error=error, tags=["x"], backoff=[1, 2.5], log=["line"], result=[{"x": None}], run_ms=3
    )
    assert fields.sound(doc) is doc
    assert fields.job_of(doc) == to_job(doc)
    assert fields.mending({**doc, "token": 0, "losses": 0, "rev": 1}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", 7),
        ("status", {"x": 1}),
        ("priority", ["high"]),
        ("payload", "text"),
        ("payload", {"a": {"b": [ObjectId()]}}),
        ("payload", {"": "{"}),
        ("result", Decimal128("1.5")),
        ("error", "boom"),
        ("error", {"kind": "exception"}),
        ("earlier", "none"),
        ("earlier", [{**ATTEMPT, "number": "first"}]),
        ("tags", "red"),
        ("tags", [1, 2]),
        ("log", [b"x"]),
        ("created_at", "2026-05-01"),
        ("queued_at", 5),
        ("ended_at", "today"),
        ("claimed_at", "today"),
        ("death_seq", "x"),
        ("max_attempts", True),
        ("timeout_s", "5"),
        ("recoveries", 2.5),
        ("rev", []),
        ("cancel_requested", "yes"),
    ],
)
def test_a_field_of_a_wrong_type_counts_as_absent_and_is_named_once(
    name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    doc = document(tags=["a"], death_seq=2)
    doc[name] = value
    read = fields.job_of(doc)
    fields.job_of(doc)
    without = {field: one for field, one in doc.items() if field != name}
    assert read == fields.job_of(without)
    assert msgspec.json.decode(msgspec.json.encode(read), type=Job) == read
    (record,) = caplog.records
    assert str(doc["_id"]) in record.getMessage()
    assert f"`{name}`" in record.getMessage()


def test_what_each_job_has_is_made_up_where_it_is_missing() -> None:
    job_id = new_id(NOW)
    read = fields.job_of({"_id": job_id})
    assert (read.id, read.task, read.status, read.created_at) == (str(job_id), "", "pending", NOW)
    assert fields.jobs_of([{"_id": "text"}, {"_id": 5}, {"_id": job_id}]) == [read]


def test_whole_numbers_of_javascript_are_whole_numbers(caplog: pytest.LogCaptureFixture) -> None:
    assert fields.job_of(document(max_attempts=5.0, losses=None)).max_attempts == 5
    assert not caplog.records


@pytest.mark.parametrize(("value", "n"), [(3, 3), (2.0, 2), (None, 0), ("3", 0), (True, 0), (float("nan"), 0)])
def test_a_count_is_a_number_or_nothing(value: Any, n: int) -> None:
    assert fields.whole(value) == n


def test_a_lane_that_there_is_not_is_the_usual_one() -> None:
    assert [fields.lane_of({"priority": lane}) for lane in ("low", "urgent", None, ["x"])] == [
        *("low", "medium", "medium", "medium")
    ]
    assert fields.lane_of({}) == "medium"


def test_what_is_said_once_is_remembered_for_a_while() -> None:
    once = Once()
    assert [once.first("a"), once.first("a"), once.first("a", "b")] == [True, False, True]
    for n in range(Once.MOST):
        once.first(n)
    assert once.first("a")
