"""Histograms of several server processes, added up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from dtqkit.model.events import JobEvent
from dtqkit.web.received import BUCKETS, MAX_TASKS, OTHER, Received, Share


def event(n: int = 0, **changes: Any) -> JobEvent:
    known: dict[str, Any] = {"id": f"{'0' * 18}{n:06x}", "rev": 3, "task": "add", "priority": "high"}
    return JobEvent(**{**known, "status": "completed", "wait_ms": 20.0, "run_ms": 700.0, **changes})


def samples(received: Received) -> dict[str, float]:
    """By name and bound, of all tasks and priorities together."""
    found: dict[str, float] = {}
    for family in received.collect():
        for one in family.samples:
            name = f"{one.name.removeprefix('dtqkit_received_job_')}{one.labels.get('le', '')}"
            found[name] = found.get(name, 0) + one.value
    return found


def test_a_histogram_counts_each_value_in_the_first_bucket_that_holds_it() -> None:
    received = Received()
    for ms in (10.0, 10.1, 3_600_000.0, 3_600_001.0):
        received.note(event(wait_ms=ms, run_ms=None))
    found = samples(received)
    assert [found[f"wait_seconds_bucket{le}"] for le in ("0.01", "0.05", "3600.0", "+Inf")] == [1, 2, 3, 4]
    assert found["wait_seconds_count"] == 4
    assert found["wait_seconds_sum"] == pytest.approx(7200.0211)
    assert "run_seconds_count" not in found
    assert len(BUCKETS) + 1 == sum(name.startswith("wait_seconds_bucket") for name in found)


def test_each_process_counts_a_share_and_any_of_them_gives_the_sum(tmp_path: Path) -> None:
    ours = [Received(Share(tmp_path, number, 3, bytearray(4))) for number in range(3)]
    for n in range(100):
        for received in ours:  # every process receives every event
            received.note(event(n))
        counts = [samples(received).get("wait_seconds_count", 0) for received in [*ours, *ours]]
        assert counts == sorted(counts)  # whichever is asked next, none decreases
    assert {received.server for received in ours} == {ours[0].server}
    assert [samples(received)["run_seconds_count"] for received in ours] == [100, 100, 100]
    assert [samples(received)["run_seconds_sum"] for received in ours] == [pytest.approx(70.0)] * 3


def test_a_process_that_is_started_again_goes_on_with_its_share(tmp_path: Path) -> None:
    ours = [Received(Share(tmp_path, number, 2, bytearray(3))) for number in range(2)]
    for n in range(10):
        for received in ours:
            received.note(event(n))
    assert ours[0].clients(3) == 3
    assert ours[1].clients(2) == 5
    again = Received(Share(tmp_path, 0, 2, bytearray(3)))
    assert samples(again)["wait_seconds_count"] == 10
    again.note(event(10))
    assert samples(ours[1])["wait_seconds_count"] == 10
    assert samples(again)["wait_seconds_count"] == samples(ours[1])["wait_seconds_count"] == 11
    assert again.clients(0) == 2  # its clients went with the process that ended


def test_a_file_that_cannot_be_read_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "1.msgpack").write_bytes(b"\xc1")
    received = Received(Share(tmp_path, 0, 2, bytearray(3)))
    received.note(event(0))
    assert samples(received)["wait_seconds_count"] == 1


def test_very_many_tasks_share_a_label() -> None:
    received = Received()
    for n in range(MAX_TASKS + 5):
        received.note(event(task=f"t{n}"))
    (family, _) = received.collect()
    tasks = {one.labels["task"] for one in family.samples}
    assert len(tasks) == MAX_TASKS + 1
    assert OTHER in tasks


def test_it_is_in_the_form_of_prometheus() -> None:
    received = Received()
    received.note(event(int(str(ObjectId())[-6:], 16)))
    registry = CollectorRegistry()
    registry.register(received)  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    assert "# TYPE dtqkit_received_job_wait_seconds histogram" in text
    assert "all its processes together" in text
    assert 'dtqkit_received_job_run_seconds_bucket{le="1.0",priority="high",server="' in text
