"""A failure reads as its cause does, with the user's frames; the exception itself is made only where that is safe."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from dtqkit import JobFailed, JobNotFound
from dtqkit.model.errors import InvalidPayload, facts_of, rebuild
from dtqkit.support.causes import original, users_frames
from dtqkit.worker.report import error_of

ID = "65f000000000000000000000"
TRACEBACK = """Traceback (most recent call last):
  File "/opt/app/lib/python3.12/site-packages/dtqkit/tasks/task.py", line 160, in call
    return self.function(**arguments)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/home/u/dtqkit/shop/pages.py", line 3, in render
    return parse(page)
           ^^^^^^^^^^^
  File "C:\\app\\dtqkit\\worker\\child.py", line 9, in run
    down()
  [Previous line repeated 9 more times]
  File "/home/u/dtqkit/shop/parse.py", line 7, in parse
    raise ValueError("bad page 3")
ValueError: bad page 3

The above exception was the direct cause of the following exception:

RuntimeError: no page
"""


def failed(**changes: Any) -> JobFailed:
    facts = {"error_type": "ValueError", "error_message": "bad page 3", "traceback": TRACEBACK, **changes}
    return JobFailed(ID, "render", **facts)


def test_a_failure_begins_with_its_cause_and_keeps_the_whole_traceback() -> None:
    error = failed(attempt=3, module="builtins")
    lines = str(error).splitlines()
    assert lines[:3] == [
        f"ValueError: bad page 3 (job {ID} render, attempt 3)",
        "",
        "Traceback (most recent call last):",
    ]
    assert error.traceback == TRACEBACK
    assert repr(error.__cause__) == "ValueError('bad page 3')"


def test_a_long_message_is_two_lines_of_it() -> None:
    lines = str(failed(error_message="one\n\n  two\nthree", traceback="")).splitlines()
    assert lines == [f"ValueError: one (job {ID} render)", "two"]
    assert len(str(failed(error_message="x" * 10_000, traceback=""))) < 700


def test_frames_of_the_kit_are_left_out_and_others_stay_wherever_they_stand() -> None:
    shown = users_frames(TRACEBACK)
    assert [line.split('"')[1] for line in shown.splitlines() if "File" in line] == [
        "/home/u/dtqkit/shop/pages.py",
        "/home/u/dtqkit/shop/parse.py",
    ]
    assert "repeated" not in shown
    assert "self.function" not in shown
    assert "The above exception was the direct cause" in shown


def test_a_traceback_of_nothing_but_the_kit_is_shown_whole() -> None:
    text = (
        'Traceback (most recent call last):\n  File "/x/dtqkit/tasks/task.py", line 16, in call\n    f()\nKeyError: 1'
    )
    assert users_frames(text) == text
    assert users_frames("no traceback") == "no traceback"


def test_frames_in_an_exception_group_are_filtered_too() -> None:
    text = """  + Exception Group Traceback (most recent call last):
  |   File "/x/site-packages/dtqkit/tasks/task.py", line 160, in call
  |     return self.function()
  |   File "/home/u/shop.py", line 1, in f
  |     raise ExceptionGroup("x", [ValueError(1)])
  | ExceptionGroup: x (1 sub-exception)
  +-+---------------- 1 ----------------
    | ValueError: 1"""
    shown = users_frames(text)
    assert "tasks/task.py" not in shown
    assert "self.function" not in shown
    assert "shop.py" in shown


class Plain(Exception):
    pass


class Careful(Exception):
    """One whose constructor must not run here."""

    def __init__(self, a: int, b: int) -> None:  # noqa: ARG002
        raise AssertionError("the constructor runs")


class OfItsOwn(Exception):
    def __new__(cls, *args: object) -> OfItsOwn:  # noqa: ARG004
        raise AssertionError("it runs")


class Worded(Exception):
    def __str__(self) -> str:
        return f"{self.a}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("module", "name", "message", "shown"),
    [
        ("builtins", "ValueError", "x", "ValueError('x')"),
        ("builtins", "KeyError", "'page'", "KeyError('page')"),
        (
            "builtins",
            "FileNotFoundError",
            "[Errno 2] No such file: 'x'",
            """FileNotFoundError("[Errno 2] No such file: 'x'")""",
        ),
        (__name__, "Plain", "x", "Plain('x')"),
        (__name__, "Careful", "x", "Careful('x')"),
        (__name__, "OfItsOwn", "x", "None"),
        (__name__, "Worded", "x", "None"),
        ("builtins", "SystemExit", "1", "None"),
        ("builtins", "ExceptionGroup", "x (1 sub-exception)", "None"),
        ("builtins", "eval", "1", "None"),
        ("antigravity", "Error", "x", "None"),
        ("", "", "", "None"),
    ],
)
def test_the_exception_is_made_where_its_class_is_here_and_nothing_runs(
    module: str, name: str, message: str, shown: str
) -> None:
    assert repr(original(module, name, message)) == shown
    assert "antigravity" not in sys.modules


def test_what_is_recorded_of_an_exception_gives_it_again() -> None:
    recorded = error_of(Plain("no paper"))
    error = failed(error_type=recorded.type, error_message=recorded.message, module=recorded.module)
    assert isinstance(error.__cause__, Plain)


@pytest.mark.parametrize(
    "error", [failed(attempt=3, module="builtins"), JobNotFound(ID), InvalidPayload("f", "$.a", "no")], ids=type
)
def test_an_error_travels_between_processes_and_over_the_wire(error: Any) -> None:
    for again in (pickle.loads(pickle.dumps(error)), rebuild(error.code, str(error), facts_of(error))):  # noqa: S301
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
        assert repr(again.__cause__) == repr(error.__cause__)
