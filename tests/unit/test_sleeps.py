"""A test waits for a condition (tests/wait.py). Where it sleeps, time itself is what it tests, and the line says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
#: Modules of tasks: their bodies sleep as real ones work.
TASKS: Final = ("_tasks", "_app", "sample", "jobs", "callables", "hooks_trouble", "tasks")


def sleeps(node: ast.AST, *, of_task: bool = False) -> Iterator[int]:
    """Lines with a sleep that is longer than a turn of the loop and in no task's body."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        of_task |= any("task" in ast.unparse(decorator) for decorator in node.decorator_list)
    if isinstance(node, ast.Call) and not of_task:
        match node:
            case ast.Call(func=ast.Attribute(attr="sleep"), args=[ast.Constant(value=0)]):
                pass
            case ast.Call(func=ast.Attribute(attr="sleep")):
                yield node.lineno
            case _:
                pass
    for child in ast.iter_child_nodes(node):
        yield from sleeps(child, of_task=of_task)


def without_a_reason(text: str) -> list[int]:
    lines = text.splitlines()
    return [number for number in sleeps(ast.parse(text)) if "#" not in lines[number - 1]]


def is_of_tasks(path: Path) -> bool:
    return path.stem.endswith(TASKS) and not path.stem.startswith("test_")


def test_a_sleep_is_of_a_task_or_its_line_says_why_time_must_pass() -> None:
    found = {
        path.relative_to(TESTS).as_posix(): lines
        for path in TESTS.rglob("*.py")
        if path.parent.name != "benchmarks" and path.name != "wait.py" and not is_of_tasks(path)
        if (lines := without_a_reason(path.read_text()))
    }
    assert found == {}, "wait for a condition with wait_until; a test of time itself says so in a comment"


def test_a_bare_sleep_is_found() -> None:
    story = "def test_it():\n    time.sleep(1)\n    time.sleep(2)  # the fault itself\n"
    task = "@queue.task\nasync def slow():\n    await asyncio.sleep(30)\n    await asyncio.sleep(0)\n"
    assert without_a_reason(story + task) == [2]
