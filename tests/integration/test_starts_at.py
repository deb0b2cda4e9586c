"""`starts_at`: a job that starts at a time instead of after a delay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dtqkit import InvalidOption, Settings, TaskQueue
from tests import follow_tasks, sample
from tests.command import answer, dtqkit
from tests.serving import TOKEN, Server, publish
from tests.workers import Workers

APP = "tests.sample:queue"
NAIVE = datetime(2026, 12, 31, 8)  # noqa: DTZ001
EAST = timezone(timedelta(hours=14))


def test_a_job_starts_at_its_time_and_not_before(queue: TaskQueue, worker: Workers) -> None:
    at = datetime.now(EAST) + timedelta(seconds=0.7)
    job = sample.add_async.options(starts_at=at).submit(1, 2)
    assert job.record.status == "scheduled"
    assert job.record.due_at == at.replace(microsecond=at.microsecond // 1000 * 1000)
    assert job.result(timeout=20) == 3
    started = job.refresh().record.started_at
    assert started is not None
    assert started >= at - timedelta(milliseconds=20)


def test_a_time_in_the_past_means_at_once(queue: TaskQueue) -> None:
    for at in (datetime(1, 1, 1, tzinfo=EAST), datetime.now(UTC) - timedelta(seconds=1)):
        record = sample.add.options(starts_at=at).submit(1).record
        assert (record.status, record.due_at) == ("pending", None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"starts_at": NAIVE},
            r"starts_at is 2026-12-31 08:00:00, without a time zone; .*ZoneInfo",
        ),
        ({"starts_at": "2026-12-31T08:00Z"}, "starts_at is '2026-12-31T08:00Z'; it is a datetime with a time zone"),
        ({"starts_at": 1.5}, r"starts_at is 1.5; it is a datetime with a time zone"),
        ({"starts_at": datetime.now(UTC), "delay_s": 5}, "starts_at is given beside delay_s: leave one of them out"),
    ],
)
def test_a_start_that_cannot_be_is_refused_with_its_cure(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        sample.add.options(**options)


def test_a_start_that_is_too_far_away_or_after_the_expiry_is_refused(queue: TaskQueue) -> None:
    for at in (datetime.max.replace(tzinfo=UTC), datetime.now(ZoneInfo("Europe/Berlin")) + timedelta(days=367)):
        with pytest.raises(InvalidOption, match="more than 366 days from now"):
            sample.add.options(starts_at=at).submit(1)
    soon = datetime.now(UTC) + timedelta(seconds=60)
    with pytest.raises(InvalidOption, match=r"expires_s is 30 and the job is delayed by [56]"):
        sample.add.options(starts_at=soon, expires_s=30).submit(1)


def test_a_debounced_job_has_no_start_of_its_own(queue: TaskQueue) -> None:
    queue.include(follow_tasks)
    with pytest.raises(InvalidOption, match="starts_at is given beside debounce_s"):
        follow_tasks.calmed.options(starts_at=datetime.now(UTC)).submit(1)


def test_over_http_and_on_the_command_line(queue: TaskQueue, settings: Settings) -> None:
    behind = settings.replace(token=TOKEN, port=0, ws_port=0)
    publish(behind, [one.info for one in queue.registry])
    at = datetime.now(EAST).replace(microsecond=0) + timedelta(hours=1)
    with Server(behind) as server, TaskQueue.connect(server.http, token=TOKEN) as remote:
        job = {"task": "add", "payload": {"a": 1}}
        accepted = server.post("/jobs", {**job, "starts_at": at.isoformat()})
        assert accepted.status == 201
        assert datetime.fromisoformat(accepted.json["due_at"]) == at
        naive = server.post("/jobs", {**job, "starts_at": "2026-12-31T08:00:00"})
        assert (naive.status, "timezone" in naive.json["detail"]) == (400, True)
        both = server.post("/jobs", {**job, "starts_at": at.isoformat(), "delay_s": 3})
        assert (both.status, both.json["code"]) == (422, "invalid_option")
        remote.include("tests.sample")
        assert sample.add.options(starts_at=at).submit(1).record.due_at == at
    given = answer("submit", APP, "add", "a=1", "--at", at.isoformat(), settings=settings)
    assert datetime.fromisoformat(given["due_at"]) == at
    for wrong, says in (("2026-12-31T08:00", "without its offset"), ("tomorrow", "no time"), ("2026-12-31", "offset")):
        refused = dtqkit("submit", APP, "add", "a=1", "--at", wrong, settings=settings)
        assert (refused.returncode, "--at" in refused.stderr) == (2, True)
        assert says in " ".join(refused.stderr.replace("│", " ").split())
