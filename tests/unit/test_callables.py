"""Which callables can be tasks, how another process finds them, and where their jobs run."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from dtqkit import TaskQueue
from dtqkit.model.errors import TaskDefinitionError
from dtqkit.tasks.context import Context
from dtqkit.tasks.options import TaskOptions
from dtqkit.tasks.registry import TaskRegistry, find_task
from dtqkit.tasks.task import Task
from tests import callables
from tests.command import ROOT, environment

PROCESS = TaskOptions(isolation="process")
THREAD = TaskOptions(isolation="thread")


def at_top(n: int) -> int:
    return n


def nested() -> Any:
    def inner(n: int) -> int:
        return n

    return inner


# -- how it is found


@pytest.mark.parametrize(
    ("task", "ref"),
    [
        (callables.plain, "tests.callables:plain"),
        (callables.report, "tests.callables:report"),
        (callables.TASKS["under functools.wraps"], "tests.callables:wraps_above"),
        (callables.Service.static_outside, "tests.callables:Service.static_outside"),
        (callables.Service.method, "tests.callables:Service.method"),
        (callables.TASKS["another task name"], "tests.callables:_report"),
        (callables.TASKS["classmethod"], "tests.callables:Service.of_class"),
        (callables.usage, "tests.callables:usage"),
        (callables.alone, "tests.callables:alone"),
        (callables.TASKS["closure"], None),
        (callables.TASKS["bound method"], None),
        (callables.TASKS["lambda"], None),
    ],
    ids=str,
)
def test_another_process_finds_a_task_by_its_module_s_names(task: Task[..., Any], ref: str | None) -> None:
    assert task.ref == ref
    if ref is not None:
        found = find_task(ref, task.name)
        assert (found is task, found.function) in [(True, task.function), (False, task.function)]


def test_a_function_that_is_made_a_task_elsewhere_is_found_by_its_own_name() -> None:
    task = Task(at_top, "renamed")
    assert task.ref == f"{__name__}:at_top"
    found = find_task(f"{__name__}:at_top", "renamed")
    assert (found.name, found.function) == ("renamed", at_top)


def test_a_scripts_function_cannot_be_found_by_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    in_main = types.FunctionType(at_top.__code__, {"__name__": "__main__"}, "cell")
    task = Task(in_main, "cell")
    monkeypatch.setattr(sys.modules["__main__"], "cell", task, raising=False)
    assert (task.ref, task.runs_as) == (None, "thread")


# -- where it runs


async def coroutine(n: int) -> int:
    return n


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task(coroutine, "a"), "coroutine"),
        (callables.called_async, "coroutine"),
        (Task(functools.partial(coroutine, 1), "a"), "coroutine"),
        (Task(at_top, "a"), "process"),
        (Task(at_top, "a", PROCESS), "process"),
        (Task(at_top, "a", THREAD), "thread"),
        (Task(nested(), "a"), "thread"),
        (Task(functools.partial(at_top, 1), "a"), "thread"),
    ],
    ids=str,
)
def test_a_task_alone_runs_in_a_process_if_another_one_can_import_it(task: Task[..., Any], expected: str) -> None:
    assert task.runs_as == expected


def test_whatever_an_app_s_import_has_registered_runs_in_a_child_that_imports_the_app() -> None:
    registry = TaskRegistry()
    for task in callables.TASKS.values():
        registry.add(task)
    alone = {registry.runs_as(task) for task in registry if task.defaults.isolation == "auto"}
    registry.came_from("tests.callables:queue")
    assert alone == {"process", "thread"}
    assert {registry.runs_as(task) for task in registry} == {"process"}
    assert registry.in_threads() == []


def test_what_is_registered_after_an_app_s_import_runs_in_a_thread_and_the_log_says_why() -> None:
    registry = TaskRegistry()
    registry.came_from("tests.callables:queue")
    late = Task(nested(), "late")
    registry.add(late)
    registry.add(Task(nested(), "asked", THREAD))
    (line,) = registry.in_threads()
    assert registry.runs_as(late) == "thread"
    assert "task late runs in a thread" in line
    assert "defined inside nested()" in line


def test_each_task_in_a_thread_is_named_once_and_those_of_one_reason_together() -> None:
    registry = TaskRegistry()
    for name in ("first", "second"):
        registry.add(Task(nested(), name))
    (line,) = registry.in_threads()
    assert line.startswith("tasks first, second run in threads of this process")
    assert "set isolation='thread'" in line
    assert registry.in_threads() == []
    registry.add(Task(nested(), "third"))
    (line,) = registry.in_threads()
    assert line.startswith("task third runs in a thread")


def test_a_process_that_cannot_be_had_is_never_silently_a_thread() -> None:
    registry = TaskRegistry()
    registry.add(callables.TASKS["closure"])
    (line,) = registry.in_threads()
    assert registry.runs_as(callables.TASKS["closure"]) == "process"
    assert "task made_1: isolation is 'process', but no child process could import it" in line


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (nested(), "defined inside nested()"),
        (lambda n: n, "lambda"),
        (functools.partial(at_top, 1), "no name in module"),
        (types.FunctionType(at_top.__code__, {"__name__": "__main__"}, "cell"), "script or notebook"),
    ],
    ids=["closure", "lambda", "partial", "cell"],
)
def test_a_process_that_cannot_be_had_is_refused_when_the_task_is_made(function: Any, why: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        TaskQueue().task(name="late", isolation="process")(function)
    assert "late: isolation is 'process'" in str(caught.value)
    assert why in str(caught.value)
    assert "at its top level" in str(caught.value)


def test_a_script_s_function_may_ask_for_a_process_of_workers_that_import_the_script_as_a_module(
    tmp_path: Path,
) -> None:
    script = tmp_path / "shop.py"
    script.write_text(
        """
import sys
from dtqkit import TaskQueue
from dtqkit.model.errors import TaskDefinitionError
queue = TaskQueue()
@queue.task(isolation="process")
def render(page: int) -> int:
    return page
def factory():
    return queue.task(name="made", isolation="process")(lambda n: n)
try:
    factory()
except TaskDefinitionError as error:
    print(error)
queue._works_here = True
try:
    queue.task(name="here", isolation="process")(render.function)
except TaskDefinitionError as error:
    print(error)
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=ROOT, env=environment())
    made, here = done.stdout.splitlines()
    assert "made: isolation is 'process'" in made
    assert "here: isolation is 'process'" in here
    assert "defined in a script or notebook" in here


# -- what can be one


def test_a_partial_has_the_parameters_that_are_left_and_its_function_s_words() -> None:
    def scale(factor: float, n: int, by: int = 2) -> float:
        """Scale it."""
        return factor * n * by

    task = Task(functools.partial(scale, 0.5), "half")
    assert (task.bind_payload(4), task.description) == ({"n": 4}, "Scale it.")
    assert task.call(None, task.decode_payload({"n": 4})) == 4.0  # type: ignore[arg-type]


def test_text_annotations_are_read_where_the_inner_function_was_defined() -> None:
    task = Task(functools.partial(callables.two, 1), "part")
    assert task.schema["properties"] == {"n": {"type": "integer"}}
    assert Task(callables.Call(), "called").schema["properties"] == {"n": {"type": "integer"}}


def test_a_method_s_job_gets_an_object_of_its_own_and_is_a_method_still() -> None:
    class Counter:
        def __init__(self, start: int = 40) -> None:
            self.value = start

        def __add(self) -> None: ...

        @TaskQueue().task
        def add(self, n: int) -> int:
            self.value += n
            return self.value

    task: Any = Counter.add
    made: Any = Counter(1)
    assert made.add(2) == 3
    assert task.bind_payload(2) == {"n": 2}
    assert task.call(None, {"n": 2}) == task.call(None, {"n": 2}) == 42
    assert Counter(7).add.name == "add"


def test_a_method_of_an_object_that_needs_arguments_is_refused_when_its_class_is_made() -> None:
    with pytest.raises((TaskDefinitionError, RuntimeError)) as caught:

        class Shop:
            def __init__(self, name: str) -> None: ...

            @TaskQueue().task
            def sell(self, n: int) -> int:
                return n

    error = caught.value.__cause__ or caught.value  # before Python 3.12, in a RuntimeError
    assert "sell: a method needs an object, and a worker cannot make a" in str(error)


class Owner:
    @classmethod
    def made(cls, n: int) -> int:
        return n


def counts_up(n: int):  # type: ignore[no-untyped-def]
    yield n


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda cls, n: (cls, n), "'cls' would be part of the payload"),
        (lambda self, n: (self, n), "'self' would be part of the payload"),
        (Owner.__dict__["made"], "classmethod"),
        (len, "positional-only"),
        (lambda *args: args, "functools.wraps"),
        (lambda **kwargs: kwargs, "functools.wraps"),
        (counts_up, "return a list"),
        (functools.lru_cache(coroutine), "cached coroutine"),
        (dict, "function"),
        (itertools.count(), "function"),
    ],
    ids=lambda one: "" if isinstance(one, str) else type(one).__name__,
)
def test_what_could_never_be_submitted_or_run_is_refused_when_it_is_made_a_task(function: Any, part: str) -> None:
    with pytest.raises(TaskDefinitionError, match=part):
        TaskQueue().task(name="it")(function)


def test_a_callable_without_a_name_is_refused_with_the_option_to_name_it() -> None:
    with pytest.raises(TaskDefinitionError, match=r"partial has no name of its own: give the task one, name="):
        TaskQueue().task(functools.partial(at_top, 1))


def test_a_context_can_be_the_first_parameter_of_all_of_them() -> None:
    def run(ctx: Context, n: int) -> int:
        return n

    assert Task(functools.partial(run), "part").wants_context
