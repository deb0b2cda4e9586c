"""Wrong input of several operations: the error names the input and the cure, before anything is asked or changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from dtqkit import (
    InvalidOption,
    InvalidPause,
    InvalidPayload,
    InvalidQuery,
    ScheduleTaken,
    TaskDefinitionError,
    TaskQueue,
)
from dtqkit.control.bulk import bulk_request
from dtqkit.control.pauses import pause_request
from dtqkit.control.queries import JobQuery, query_of
from dtqkit.control.where import match_of
from dtqkit.testing.loop import VirtualClock


def f(x: float = 0.0) -> None:
    del x


QUEUE = TaskQueue()
TASK = QUEUE.task(f)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: bulk_request({"task": "f", "cursor": 5}),
            InvalidQuery,
            "cursor is 5; it is the `cursor`",
        ),
        (lambda: bulk_request({"task": "f", "progress": 5}), InvalidQuery, "progress is 5; it is a function"),
        (lambda: TASK.options(tags=5), InvalidOption, "tags is 5; it is a list of texts"),  # pyright: ignore[reportArgumentType]
        (lambda: pause_request({"task": "f", "allow_unknown": "no"}), InvalidPause, "'no'; it is True or False"),
        (lambda: query_of(JobQuery, {"status": "dead"}), InvalidQuery, "status is 'dead'; it is one of pending, "),
        (lambda: query_of(JobQuery, {"priority": "urgent"}), InvalidQuery, "'urgent'; it is one of high, medium, low"),
        (lambda: TASK.bind(delay_s=4), InvalidPayload, r"delay_s is an option of the job: task.options\(delay_s=…\)"),  # pyright: ignore[reportCallIssue]
    ],
)
def test_what_is_wrong_is_named_with_the_cure(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_more_exception_classes_than_others_could_read_are_refused_where_the_task_is_defined() -> None:
    kinds = tuple(type(f"Error{n}", (Exception,), {}) for n in range(51))
    with pytest.raises(TaskDefinitionError, match="retry_on has 51 classes; at most 50"):
        QUEUE.task(name="many", retry_on=kinds)(f)
    with pytest.raises(TaskDefinitionError, match="at most 300"):
        QUEUE.task(name="long", retry_on=(type("E" * 301, (Exception,), {}),))(f)


def test_where_takes_whole_floats_beyond_64_bits_of_a_parameter_that_is_a_float() -> None:
    assert match_of({"x": 1e19}, "f", {"f": TASK.schema}).has("f", {"x": 1e19})


def test_a_virtual_clock_takes_a_time_of_any_zone() -> None:
    start = datetime(2026, 3, 28, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    clock = VirtualClock(start)
    assert clock.now() == start
    assert clock.now().tzinfo is UTC


def test_a_schedule_that_is_declared_again_in_the_same_words_is_the_same() -> None:
    queue = TaskQueue()
    task = queue.task(name="nightly_work")(f)
    for _ in range(2):
        queue.scheduled(cron="0 3 * * *", name="nightly")(task)
    with pytest.raises(ScheduleTaken):
        queue.scheduled(cron="0 4 * * *", name="nightly")(task)
