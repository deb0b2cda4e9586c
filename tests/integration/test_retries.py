"""Retry rules with workers: what a task raises decides whether, when and how often its job is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dtqkit import Context, GiveUp, Job, JobFailed, Middleware, Snooze, TaskQueue
from dtqkit.client.decorators import Configured, QueuedTask
from tests import retry_tasks
from tests.command import dtqkit
from tests.retry_tasks import TASKS, in_coroutine, in_thread, plain
from tests.wait import wait_until
from tests.workers import Workers

EVERYWHERE = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


@pytest.fixture
def queue(queue: TaskQueue) -> TaskQueue:
    queue.include(retry_tasks)
    return queue


def failed(task: QueuedTask[..., Any] | Configured[..., Any], what: str) -> Job:
    """The record of a job that fails."""
    job = task.submit(what)
    with pytest.raises(JobFailed):
        job.result(timeout=30)
    return job.refresh().record


@EVERYWHERE
def test_what_is_in_retry_on_is_tried_again_and_nothing_else_is(
    queue: TaskQueue, worker: Workers, task: QueuedTask[..., Any]
) -> None:
    ends = {what: failed(task, what) for what in ("reset", "pipe", "value", "group", "give up", "set")}
    assert {what: (job.failures, job.error.final) for what, job in ends.items() if job.error is not None} == {
        "reset": (3, ""),
        "pipe": (1, "BrokenPipeError is in give_up_on"),
        "value": (1, "ValueError is not in retry_on"),
        "group": (1, "ValueError is not in retry_on"),
        "give up": (1, "the task raised GiveUp"),
        "set": (1, ""),
    }
    not_recorded = ends["set"].error
    assert not_recorded is not None
    assert not_recorded.kind == "invalid_result"
    assert "(at $" in not_recorded.message


@EVERYWHERE
def test_a_task_says_when_it_is_tried_again_or_that_it_has_not_failed(
    queue: TaskQueue, worker: Workers, task: QueuedTask[..., Any]
) -> None:
    later, snoozed = task.submit("later"), task.submit("snooze")
    assert later.result(timeout=30) == 3
    assert snoozed.result(timeout=30) == 5
    record = later.refresh().record
    assert (record.failures, record.snoozes, record.error) == (2, 0, None)
    errors = [attempt.error for attempt in record.attempts[:2]]
    assert [(error.type, error.retry_s) for error in errors if error is not None] == [("RetryAfter", 0.05)] * 2
    for earlier, later_one in zip(record.attempts, record.attempts[1:], strict=False):
        assert earlier.ended_at is not None
        assert (later_one.queued_at - earlier.ended_at).total_seconds() == pytest.approx(0.05, abs=0.002)
    record = snoozed.refresh().record
    assert (record.failures, record.losses, record.snoozes, record.attempt) == (0, 0, 4, 5)
    assert [attempt.ending for attempt in record.attempts] == ["snoozed"] * 4 + ["completed"]
    first = record.attempts[0].error
    assert first is not None
    assert (first.kind, first.message) == ("snoozed", "the file is not there yet")
    assert "attempt 5 · 0 of 3 failures · snoozed 4 times" in record.tally


@EVERYWHERE
def test_a_retry_after_uses_up_attempts_and_a_wrong_one_is_an_error_of_the_task(
    queue: TaskQueue, worker: Workers, task: QueuedTask[..., Any]
) -> None:
    record = failed(task, "later always")
    assert (record.failures, record.error and str(record.error)) == (3, "RetryAfter: too many requests")
    wrong = failed(task, "nan").error
    assert wrong is not None
    assert str(wrong) == "InvalidOption: RetryAfter: seconds is nan; it is a number of seconds, from 0 to 31,622,400"


@EVERYWHERE
def test_a_timeout_counts_as_task_timeout(queue: TaskQueue, worker: Workers, task: QueuedTask[..., Any]) -> None:
    """It is in retry_on there, as a TimeoutError."""
    record = failed(task.options(timeout_s=0.2, max_attempts=2), "slow")
    assert (record.failures, record.error and record.error.final) == (2, "")


def test_a_timeout_that_is_not_in_retry_on_is_not_tried_again(queue: TaskQueue, worker: Workers) -> None:
    @queue.task(retry_on=(ConnectionError,), timeout_s=0.2)
    async def slow(what: str) -> int:
        return await asyncio.sleep(30, len(what))

    error = failed(slow, "slow").error
    assert error is not None
    assert (error.kind, error.final) == ("timeout", "TaskTimeout is not in retry_on")


def test_without_rules_every_exception_is_tried_again_and_the_caller_gets_what_was_raised(
    queue: TaskQueue, worker: Workers
) -> None:
    assert failed(plain, "value").failures == 3
    with pytest.raises(JobFailed, match="GiveUp: no such customer") as raised:
        plain.submit("give up").result(timeout=30)
    assert isinstance(raised.value.__cause__, GiveUp)
    assert str(raised.value.__cause__) == "no such customer"


def test_the_log_and_the_command_line_say_why_there_is_no_further_attempt(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dtqkit.jobs")
    with Workers(queue):
        record = failed(in_coroutine, "value")
        snoozed = in_coroutine.submit("snooze")
        assert snoozed.result(timeout=30) == 5
        wait_until(lambda: "completed" in caplog.text)
    assert "failure 1 of 3, not tried again: ValueError is not in retry_on" in caplog.text
    lines = [one for one in caplog.records if "snoozed" in one.getMessage()]
    assert {one.levelname for one in lines} == {"INFO"}
    assert all("again in 0.0 s" in one.getMessage() for one in lines)
    shown = dtqkit("job", record.id, settings=queue.settings).stdout
    assert "no retry  ValueError is not in retry_on" in shown


def test_a_middleware_may_put_a_job_off_and_its_errors_count_as_the_task_s(queue: TaskQueue) -> None:
    @queue.middleware
    class Gate(Middleware):
        @asynccontextmanager
        async def run(self, context: Context, /) -> AsyncGenerator[None]:
            if context.attempt == 1:
                raise Snooze(0.02, "closed")
            if context.attempt == 2:
                raise ConnectionResetError("of the middleware")
            yield
            if context.attempt == 3:
                raise ValueError("of the middleware")

    for task in (in_coroutine, in_thread):
        with Workers(queue):
            record = failed(task, "fine")
        assert (record.snoozes, record.failures, record.attempt) == (1, 2, 3)
        assert record.error is not None
        assert (record.error.type, record.error.final) == ("MiddlewareFailed", "ValueError is not in retry_on")
