"""Errors for anything else than a task or a call where one is expected."""

from __future__ import annotations

from typing import Any, Final

from dtqkit.model.errors import TaskDefinitionError
from dtqkit.model.values import shown
from dtqkit.tasks.task import Call, Task

#: Public names of other queues by which a job is submitted by the name of its task.
BY_NAME: Final = frozenset({"submit", "enqueue", "send_task", "apply_async"})
#: How a job is submitted. `…` stands for a name.
_HOW: Final = (
    "a job is submitted through its task: `@queue.task` above `def {name}(…): …`, then `{name}.submit(…)`; where the "
    "code runs elsewhere (TaskQueue.connect), the body of the def may be `...`: only its name and parameters are used"
)


def how_to_submit(name: str = "render") -> str:
    return _HOW.format(name=name if name.isidentifier() else "render")


def named(text: str) -> TaskDefinitionError:
    """For `queue.task("render")`."""
    name = repr(text[:80])
    return TaskDefinitionError(
        f"task({name}): a task is a function, and its name an option, as in `@queue.task(name={name})` above the def; "
        f"{how_to_submit(text)}"
    )


def check_task(given: Any) -> None:
    """TaskDefinitionError unless a job can be submitted through it."""
    if isinstance(given, Task):
        return
    if isinstance(given, str):
        raise TaskDefinitionError(f"{given[:80]!r} is a task's name: {how_to_submit(given)}")
    cure = "decorate the function with @queue.task" if callable(given) else how_to_submit()
    raise TaskDefinitionError(f"{shown(given)} is no task: {cure}")


def check_call(given: Any) -> None:
    """TaskDefinitionError unless it is what `task.bind(…)` makes."""
    if isinstance(given, Call):
        return
    if isinstance(given, str):
        check_task(given)
    raise TaskDefinitionError(
        f"{shown(given)} is no call: make one with task.bind(…), as in queue.submit_many(render.bind(page) for page in "
        "pages); task(…) calls the function here, and task.submit(…) has submitted its job already"
    )
