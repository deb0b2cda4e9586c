"""The examples of docs/retries.md run as they stand there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dtqkit import JobFailed, Settings, TaskQueue
from dtqkit.client.handles import JobHandle
from tests.wait import wait_until
from tests.workers import Workers

PAGE = Path(__file__).parents[2] / "docs" / "retries.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.fixture
def page(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = ModuleType("retries_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = "\n".join(BLOCKS).replace("TaskQueue()", "TaskQueue(settings)")
    vars(module)["settings"] = settings
    exec(compile(source, str(PAGE), "exec"), vars(module))  # noqa: S102
    with module.queue, Workers(module.queue):
        yield module


def waits_s(job: JobHandle[Any]) -> float:
    """How long after its first attempt it is due again."""
    wait_until(lambda: job.refresh().record.attempts and job.status == "scheduled", timeout_s=20)
    record = job.record
    ended = record.attempts[-1].ended_at
    assert record.due_at is not None
    assert ended is not None
    return (record.due_at - ended).total_seconds()


def test_what_the_table_of_exceptions_says(page: ModuleType) -> None:
    jobs = {status: page.pull.submit(status) for status in (200, 400, 404, 429, 500, 503)}
    assert jobs[200].result(timeout=20) == "pulled"
    for status, says in ((400, "NoSuchCustomer: customer 7"), (404, "GiveUp: no such customer")):
        with pytest.raises(JobFailed, match=says):
            jobs[status].result(timeout=20)
        assert jobs[status].record.failures == 1
    assert jobs[400].record.error.final == "NoSuchCustomer is not in retry_on"
    assert waits_s(jobs[429]) == pytest.approx(30, abs=0.01)
    assert jobs[429].record.failures == 1
    assert waits_s(jobs[503]) == pytest.approx(60, abs=0.01)
    assert (jobs[503].record.failures, jobs[503].record.snoozes) == (0, 1)
    wait_until(lambda: jobs[500].refresh().record.failures > 0, timeout_s=20)


def test_what_the_table_of_delays_says(page: ModuleType) -> None:
    assert waits_s(page.by_list.submit()) == pytest.approx(1, abs=0.01)
    assert waits_s(page.by_line.submit()) == pytest.approx(10, abs=0.01)


def test_what_is_said_about_times(page: ModuleType) -> None:
    report = page.report.submit(200).record
    assert (report.status, report.due_at.hour in (4, 5)) == ("scheduled", True)
    assert report.due_at - datetime.now(UTC) < timedelta(days=2)
    assert page.price.submit(200).record.expires_s == 30


def test_what_follows_on_a_job(page: ModuleType, queue: TaskQueue) -> None:
    paid, unpaid = page.pay.submit(1), page.pay.submit(7)
    wait_until(lambda: all(job.refresh().record.followed_by for job in (paid, unpaid)), timeout_s=20)
    ends = [page.queue.get(job.record.followed_by[0]).result(timeout=20) for job in (paid, unpaid)]
    assert ends == ["pay completed after 1 attempts: 100", "pay failed after 1 attempts: no such customer"]


def test_a_task_with_arguments_of_its_own_follows_through_a_small_one(page: ModuleType) -> None:
    paid = page.paying.submit(3)
    wait_until(lambda: paid.refresh().record.followed_by, timeout_s=20)
    receipt = page.queue.get(page.queue.get(paid.record.followed_by[0]).result(timeout=20))
    assert receipt.result(timeout=20) == "receipt for customer 3: 300"
