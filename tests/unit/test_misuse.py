"""Something else than a task or a call, where one is expected: the error shows how a job is submitted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

import dtqkit
from dtqkit import AsyncTaskQueue, TaskQueue
from dtqkit.model.errors import TaskDefinitionError
from tests import sample


@pytest.fixture
def queue() -> TaskQueue:
    return TaskQueue()  # nothing of it connects


async def submitted(given: Any) -> None:
    async with AsyncTaskQueue() as queue:
        await queue.submit(given, 1)


def function(n: int) -> int:
    return n


WRONG: list[tuple[Callable[[Any], object], str]] = [
    (lambda queue: queue.task("render"), "`@queue.task(name='render')` above the def"),
    (lambda queue: queue.task("render"), "then `render.submit(…)`"),
    (lambda _: dtqkit.task("a name with spaces"), "then `render.submit(…)`"),  # type: ignore[call-overload]
    (lambda queue: queue.submit_call("render"), "'render' is a task's name: a job is submitted through its task"),
    (lambda queue: queue.submit_many(["render"]), "then `render.submit(…)`"),
    (lambda queue: queue.submit_many([sample.add]), "make one with task.bind(…)"),
    (lambda queue: queue.submit_many([3, 4]), "task(…) calls the function here"),
    (lambda _: asyncio.run(submitted("render")), "then `render.submit(…)`"),
    (lambda _: asyncio.run(submitted(function)), "decorate the function with @queue.task"),
    (lambda _: asyncio.run(submitted(3)), "is no task"),
]


@pytest.mark.parametrize(("use", "cure"), WRONG)
def test_what_is_no_task_is_refused_with_how_a_job_is_submitted(
    queue: TaskQueue, use: Callable[[Any], object], cure: str
) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        use(queue)
    assert cure in str(caught.value)


@pytest.mark.parametrize("name", ["submit", "enqueue", "send_task", "apply_async"])
def test_a_queue_says_how_a_job_is_submitted_when_it_is_asked_to_by_a_name(queue: TaskQueue, name: str) -> None:
    with pytest.raises(AttributeError, match=r"through its task: `@queue.task` above .*\(TaskQueue.connect\)"):
        getattr(queue, name)("render", {"page": 3})
    assert not hasattr(queue, name)


def test_any_other_attribute_is_missing_as_ever(queue: TaskQueue) -> None:
    with pytest.raises(AttributeError, match=r"^'TaskQueue' object has no attribute 'depth'$") as caught:
        queue.depth  # type: ignore[attr-defined]  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("depth", queue)


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("countdown", "delay_s="),
        ("eta", "starts_at="),
        ("expires", "expires_s="),
        ("max_retries", "max_attempts="),
        ("autoretry_for", "retry_on="),
        ("retry_backoff", "backoff_s="),
        ("rate_limit", "unique='window'"),
        ("bind", "ctx: Context"),
        ("retry_on", "an option of the task"),
    ],
)
def test_an_option_of_another_queue_is_answered_with_the_one_that_is_here(queue: Any, name: str, cure: str) -> None:
    with pytest.raises(TypeError, match=f"has no option '{name}'; .*{re.escape(cure)}.*; there are priority"):
        queue.task(name="other")(function).options(**{name: 1})
    if name != "retry_on":
        with pytest.raises(TaskDefinitionError, match=f"no option '{name}'; here that is .*{re.escape(cure)}"):
            queue.task(**{name: 1})(function)
