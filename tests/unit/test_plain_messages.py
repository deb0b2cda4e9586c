"""Errors about arguments and annotations that do not fit: once, with the place and the cure."""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pydantic
import pytest

from dtqkit import InvalidPayload, TaskDefinitionError, TaskQueue
from dtqkit.recovery.audit import Repairs

if TYPE_CHECKING:
    from decimal import Decimal


class Page(pydantic.BaseModel):
    width: list[int]


def test_what_does_not_fit_a_model_is_named_once_by_its_place() -> None:
    queue = TaskQueue()

    @queue.task
    def render(page: Page) -> int:
        return 1

    for given, place in (({"width": [1, "x"]}, "$.page.width[1]"), ({}, "$.page.width"), (5, "$.page")):
        with pytest.raises(InvalidPayload) as refused:
            render.bind(given)  # pyright: ignore[reportArgumentType]
        assert refused.value.path == place
        assert str(refused.value).lower().count("page") == 1


@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        (pd.DataFrame, "take a list[dict[str, Any]], as df.to_dict('records') makes it, or the path of a file"),
        (pd.Series, "take a list, as its .tolist() makes it, or the path of a file"),
        (np.random.Generator, "take a dict, a dataclass or a pydantic model, or the path of a file"),
    ],
)
def test_a_parameter_whose_type_has_no_json_form_says_what_to_take_instead(kind: type[Any], cure: str) -> None:
    def render(df: Any) -> int:
        return 1

    render.__annotations__["df"] = kind
    with pytest.raises(TaskDefinitionError) as refused:
        TaskQueue().task(render)
    assert "render: parameter 'df': " in str(refused.value)
    assert cure in str(refused.value)


def test_a_name_that_only_type_checkers_see_is_named_with_its_parameter_and_the_cure() -> None:
    def pay(amount: Decimal) -> None: ...

    with pytest.raises(TaskDefinitionError, match=r"pay: parameter 'amount': .*'Decimal'.*not under TYPE_CHECKING"):
        TaskQueue().task(pay)


def test_the_same_under_a_python_that_evaluates_annotations_late(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = inspect.signature

    def late(fn: Any, *, annotation_format: object = None) -> inspect.Signature:
        if annotation_format is None:
            raise NameError("name 'Decimal' is not defined")
        return signature(fn)

    lib = types.SimpleNamespace(Format=types.SimpleNamespace(FORWARDREF="forward"))
    monkeypatch.setattr(inspect, "signature", late)
    monkeypatch.setitem(__import__("sys").modules, "annotationlib", lib)
    test_a_name_that_only_type_checkers_see_is_named_with_its_parameter_and_the_cure()


def test_dir_of_a_queue_has_what_users_call_and_no_more() -> None:
    shown = {name for name in dir(TaskQueue()) if not name.startswith("_")}
    assert {"task", "submit_many", "jobs", "get", "history", "board", "workers", "close"} <= shown
    assert not shown & {"after_fork", "catch_up", "core", "freshen", "leave", "require_workers_for", "run", "start"}
    assert len(shown) <= 40


def test_an_audit_says_what_it_did_in_words() -> None:
    assert Repairs(listed=3, pruned=1).summary() == ("3 missing jobs listed, 1 stale entry removed")
