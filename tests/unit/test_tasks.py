"""Tasks: definition, options, payloads by hand, and the registry."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from dtqkit.model.errors import InvalidOption, InvalidPayload, TaskAlreadyRegistered, TaskDefinitionError, UnknownTask
from dtqkit.tasks.context import Context
from dtqkit.tasks.options import CallOptions, OptionNames, TaskOptions, options_of
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.schema import PayloadValidator
from dtqkit.tasks.task import Task, TaskInfo, check_name


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Page:
    width: int
    children: list[Page] = dataclasses.field(default_factory=list)


def render(page: int, dpi: int = 150) -> str:
    """Render a page.

    At so many dots an inch.
    """
    return f"{page}@{dpi}"


def build(ctx: Context, n: int, *, when: datetime.date = datetime.date(2026, 1, 1)) -> datetime.date:
    ctx.log(f"build {n}")
    return when + datetime.timedelta(days=n)


def paint(
    page: Page, colour: Colour = Colour.RED, note: Annotated[str, msgspec.Meta(max_length=3)] | None = None
) -> Any:
    return page, colour, note


async def fetch(url: str) -> int:
    return len(url)


def task_of(function: Callable[..., Any], **options: Any) -> Task[..., Any]:
    return Task(function, function.__name__, options_of(function.__name__, options))


# -- binding


def test_arguments_are_bound_by_name_whether_they_were_given_by_position_or_by_name() -> None:
    task = task_of(render)
    assert task.bind_payload(3, dpi=200) == task.bind_payload(dpi=200, page=3) == {"page": 3, "dpi": 200}


def test_a_default_is_not_written_so_that_the_function_that_runs_decides() -> None:
    assert task_of(render).bind_payload(3) == {"page": 3}


def test_the_context_is_not_part_of_the_payload() -> None:
    task = task_of(build)
    assert (task.bind_payload(3), list(task.schema["properties"])) == ({"n": 3}, ["n", "when"])


def test_python_values_cross_as_json_and_come_back_as_they_were() -> None:
    task = task_of(paint)
    arguments = {"page": Page(1, [Page(2)]), "colour": Colour.BLUE, "note": "abc"}
    payload = task.bind_payload(**arguments)
    assert payload == {
        "page": {"width": 1, "children": [{"width": 2, "children": []}]},
        "colour": "blue",
        "note": "abc",
    }
    assert task.decode_payload(payload) == arguments


def test_an_argument_without_annotation_is_any_json_value() -> None:
    def loose(anything, more=None):
        return anything, more

    task = task_of(loose)
    payload = task.bind_payload({"a": [1, (2,)]})
    assert task.decode_payload(payload) == {"anything": {"a": [1, [2]]}}


@pytest.mark.parametrize(
    ("args", "kwargs", "path", "part"),
    [
        ((), {}, "$.page", "the argument 'page' is missing"),
        ((1, 2, 3), {}, "$", "takes 2 positional arguments, 3 were given"),
        ((1,), {"page": 1}, "$.page", "given twice"),
        ((1,), {"colour": 1}, "$.colour", "there is no argument 'colour'; it has dpi, page"),
        (("3",), {}, "$.page", "expected `int`, got `str`, given '3'"),
        ((True,), {}, "$.page", "got `bool`"),
        ((3.0,), {}, "$.page", "got `float`"),
        ((2**63,), {}, "$.page", "64 bits"),
        ((object(),), {}, "$.page", "an object has no JSON form"),
        (([1],), {}, "$.page", "got `array`"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(
    args: tuple[Any, ...], kwargs: dict[str, Any], path: str, part: str
) -> None:
    with pytest.raises(InvalidPayload) as caught:
        task_of(render).bind_payload(*args, **kwargs)
    assert (caught.value.task, caught.value.path, part in caught.value.detail) == ("render", path, True), caught.value


def test_an_error_deep_in_an_argument_says_where_it_is() -> None:
    with pytest.raises(InvalidPayload) as caught:
        task_of(paint).bind_payload({"width": 1, "children": [{"width": 2}, {"width": "x"}]})
    assert caught.value.path == "$.page.children[1].width"


@pytest.mark.parametrize(
    "payload",
    [{}, {"page": "3"}, {"page": 1, "more": 2}, {"page": {"$gt": 0}}, {"page": float("nan")}, {"page": 1, "dpi": None}],
)
def test_a_payload_from_elsewhere_is_refused_by_the_task_and_by_its_schema_in_the_same_words(payload: Any) -> None:
    task = task_of(render)
    with pytest.raises(InvalidPayload) as by_task:
        task.check_payload(payload)
    with pytest.raises(InvalidPayload) as by_schema:
        PayloadValidator("render", task.schema).check(payload)
    assert str(by_task.value) == str(by_schema.value)


def test_a_payload_of_an_older_signature_is_refused_with_the_name_of_the_removed_argument() -> None:
    older = {"page": 3, "dots": 72}
    with pytest.raises(InvalidPayload, match="there is no argument 'dots'"):
        task_of(render).decode_payload(older)


def test_a_recorded_result_comes_back_in_the_annotated_type() -> None:
    assert task_of(build).decode_result("2026-01-04") == datetime.date(2026, 1, 4)


def test_a_result_that_is_not_what_the_function_promised_is_left_as_it_is() -> None:
    assert task_of(build).decode_result(["not", "a", "date"]) == ["not", "a", "date"]


# -- calling


def test_calling_a_task_is_calling_its_function() -> None:
    assert task_of(render)(3, dpi=72) == "3@72"


def test_an_asynchronous_task_gives_its_coroutine() -> None:
    task = task_of(fetch)
    coroutine = task("abc")
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert (task.is_async, done.value.value) == (True, 3)


def test_decoded_arguments_are_passed_after_the_context() -> None:
    lines: list[str] = []
    context: Any = types.SimpleNamespace(log=lines.append)
    task = task_of(build)
    result = task.call(context, task.decode_payload({"n": 2, "when": "2026-02-01"}))
    assert (result, lines) == (datetime.date(2026, 2, 3), ["build 2"])


# -- schema and catalogue


def test_the_schema_has_types_defaults_and_what_must_be_given() -> None:
    assert task_of(render).schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "render",
        "type": "object",
        "properties": {"page": {"type": "integer"}, "dpi": {"type": "integer", "default": 150}},
        "required": ["page"],
        "additionalProperties": False,
    }


def test_date_times_and_times_are_named_wherever_they_stand() -> None:
    @dataclasses.dataclass
    class Slot:
        at: datetime.time
        on: datetime.datetime | None = None

    def book(slots, zoned):
        return slots, zoned

    book.__annotations__ = {
        "slots": dict[str, tuple[Slot, list[datetime.datetime]]],
        "zoned": Annotated[datetime.datetime, msgspec.Meta(tz=True)],
    }
    schema = task_of(book).schema
    slot = schema["$defs"]["Slot"]["properties"]
    assert schema["properties"]["zoned"] == {"type": "string", "format": "date-time", "x-timezone": "required"}
    assert schema["properties"]["slots"]["additionalProperties"]["prefixItems"][1]["items"]["format"] == "date-time"
    assert (slot["at"]["format"], slot["on"]["anyOf"][0]["format"]) == ("time", "date-time")


def test_the_catalogue_entry_survives_json() -> None:
    info = task_of(build, priority="high").info
    assert msgspec.json.decode(msgspec.json.encode(info), type=TaskInfo) == info


def test_the_hash_changes_with_the_schema_the_options_and_the_description() -> None:
    def other(page: int, dpi: int = 150) -> str:
        """Otherwise."""
        return render(page, dpi)

    plain = task_of(render)
    variants = [
        plain,
        Task(render, "render", TaskOptions(priority="low")),
        Task(other, "render"),
        Task(build, "render"),
    ]
    assert len({task.info.schema_hash for task in variants}) == len(variants)
    assert task_of(render).info.schema_hash == plain.info.schema_hash


def test_the_description_is_the_docstring_without_its_indentation() -> None:
    assert task_of(render).description == "Render a page.\n\nAt so many dots an inch."


def test_a_task_can_be_imported_only_where_its_module_has_it_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import dtqkit.tasks.task as module

    def render() -> None: ...

    render.__module__, render.__qualname__ = module.__name__, "render"
    task = Task(render, "render")
    before = task.ref
    monkeypatch.setattr(module, "render", task, raising=False)
    assert (before, task.ref) == (None, "dtqkit.tasks.task:render")


def test_a_function_in_main_or_in_another_function_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def cell() -> None: ...

    closure = Task(cell, "cell")
    in_main = types.FunctionType(cell.__code__, {"__name__": "__main__"}, "cell")
    in_main.__qualname__ = "cell"
    task = Task(in_main, "cell")
    monkeypatch.setattr(sys.modules["__main__"], "cell", task, raising=False)
    assert (closure.ref, task.ref) == (None, None)


# -- definition


def varied(*pages: int) -> None: ...
def keyed(**options: int) -> None: ...
def positional(page: int, /) -> None: ...
def late_context(page: int, ctx: Context) -> None: ...
def keyword_context(*, ctx: Context) -> None: ...
def no_json(value: complex) -> None: ...
def no_json_inside(values: list[dict[str, Callable[[], int]]]) -> None: ...
def tuple_keys(values: dict[tuple[int, int], str]) -> None: ...
def two_texts(value: str | datetime.date) -> None: ...
def unresolved(value: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def wrong_default(page: int = "3") -> None: ...  # type: ignore[assignment]
def none_default(page: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013
def no_json_default(value: Any = object()) -> None: ...  # noqa: B008
def dunder(__page: int) -> None: ...
def generates(n: int) -> Iterator[int]:
    yield n


async def generates_later(n: int) -> AsyncIterator[int]:
    yield n


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (varied, ["'pages'", "*pages", "take a list"]),
        (keyed, ["'options'", "**options"]),
        (positional, ["'page'", "positional-only"]),
        (late_context, ["'ctx'", "must be the first"]),
        (keyword_context, ["'ctx'", "positional"]),
        (no_json, ["'value'", "complex has no JSON form", "supported are"]),
        (no_json_inside, ["'values'", "no JSON form"]),
        (tuple_keys, ["'values'", "a dict's keys must have a text form"]),
        (two_texts, ["'value'", "more than one str-like type"]),
        (unresolved, ["'value'", "Nowhere", "module level"]),
        (wrong_default, ["'page'", "'3'", "int"]),
        (none_default, ["'page'", "None", "int"]),
        (no_json_default, ["'value'", "an object has no JSON form"]),
        (dunder, ["reserved"]),
        (generates, ["generator"]),
        (generates_later, ["generator"]),
        (Page, ["function"]),
        (int, ["function"]),
    ],
)
def test_a_function_that_cannot_be_a_task_is_refused_with_its_name_and_the_parameter(
    function: Callable[..., Any], parts: list[str]
) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        task_of(function)
    missing = [part for part in [function.__name__, *parts] if part not in str(caught.value)]
    assert not missing, caught.value


def test_a_task_cannot_be_made_of_a_task() -> None:
    task = task_of(render)
    with pytest.raises(TaskDefinitionError, match="is a task already"):
        Task(task, "again")


def test_a_wrapped_function_keeps_its_signature_and_its_module_s_names() -> None:
    @functools.wraps(paint)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return paint(*args, **kwargs)

    payload = Task(wrapper, "wrapper").bind_payload({"width": 1}, colour=Colour.RED)
    assert payload == {"page": {"width": 1}, "colour": "red"}


def test_text_annotations_are_read_where_the_function_was_defined_as_in_a_notebook_cell() -> None:
    cell = {"__name__": "__main__"}
    source = """
from __future__ import annotations
import dataclasses
from dtqkit.tasks.context import Context

@dataclasses.dataclass
class Size:
    width: int

def scale(ctx: Context, size: Size, by: float = 2) -> Size: ...
"""
    exec(compile(source, "<cell>", "exec"), cell)  # noqa: S102 - as a kernel does
    task: Task[..., Any] = Task(cell["scale"], "scale")  # type: ignore[arg-type]
    assert task.bind_payload({"width": 3}) == {"size": {"width": 3}}


@pytest.mark.parametrize("name", ["", "3d", "a b", "a$", "ü", "a" * 129, "a\n", "<lambda>"])
def test_a_name_with_bad_characters_is_refused(name: str) -> None:
    with pytest.raises(TaskDefinitionError, match="cannot be a task's name"):
        check_name(name)


@pytest.mark.parametrize("name", ["render", "_", "shop.render-v2", "a" * 128])
def test_a_good_name_is_taken(name: str) -> None:
    assert Task(render, name).name == name


# -- options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("priority", "urgent"),
        ("isolation", "fork"),
        ("max_attempts", 0),
        ("max_attempts", 101),
        ("max_attempts", True),
        ("max_attempts", 2.0),
        ("max_losses", 0),
        ("timeout_s", 0),
        ("timeout_s", 86_401),
        ("timeout_s", float("nan")),
        ("timeout_s", "60"),
        ("backoff_s", -1),
        ("backoff_max_s", float("inf")),
        ("retries", 3),
    ],
)
def test_a_bad_option_is_refused_with_task_option_and_value(option: str, value: Any) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        options_of("render", {option: value})
    assert str(caught.value).startswith("render: ")
    assert option in str(caught.value)


def test_options_that_are_not_given_have_the_documented_defaults() -> None:
    assert options_of("render", {"priority": None, "max_attempts": 5}) == TaskOptions(
        priority="medium",
        max_attempts=5,
        timeout_s=300,
        backoff_s=1,
        backoff_max_s=600,
        isolation="auto",
        max_losses=3,
    )


def test_an_async_def_cannot_ask_for_a_process() -> None:
    with pytest.raises(TaskDefinitionError, match="async def runs on the worker's loop"):
        task_of(fetch, isolation="process")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("priority", "urgent"),
        ("delay_s", -1),
        ("delay_s", 400 * 86_400),
        ("max_attempts", 0),
        ("timeout_s", 0),
        ("idempotency_key", ""),
        ("idempotency_key", "k" * 201),
        ("tags", ("",)),
        ("tags", ("t",) * 21),
        ("tags", "text"),
    ],
)
def test_a_bad_option_of_a_call_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=option.removesuffix("s")):
        CallOptions(**{option: value})


def test_the_names_of_options_for_type_checkers_are_those_of_a_call() -> None:
    assert list(OptionNames.__annotations__) == list(CallOptions.__struct_fields__)


def test_an_error_about_an_option_says_what_may_stand_there() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"priority": "urgent"}, "priority is 'urgent'; it is one of high, medium, low"),
        ({"max_attempts": 2.0}, "max_attempts is 2.0; it is an int from 1 to 100"),
        ({"timeout_s": 0}, "timeout_s is 0; it is a number of seconds, from more than 0 to 86,400"),
        ({"delay_s": float("nan")}, "delay_s is nan; it is a number of seconds, from 0 to 31,622,400"),
        ({"tags": ("",)}, "tags[0] is ''; it is a text of 1 to 100 characters"),
        ({"delay_s": Decimal("1.5")}, "delay_s is a decimal.Decimal; it is a number of seconds, from 0 to 31,622,400"),
        ({"tags": ["a"]}, "tags is a list; it is a tuple of at most 20, each a text of 1 to 100 characters"),
    ]
    for options, wanted in cases:
        with pytest.raises(InvalidOption) as caught:
            CallOptions(**options)
        assert str(caught.value) == wanted


# -- registry


def test_an_unknown_task_is_answered_with_the_nearest_names() -> None:
    registry = TaskRegistry()
    registry.add(task_of(render))
    with pytest.raises(UnknownTask, match="did you mean 'render'") as caught:
        registry.get("rendr")
    assert (caught.value.task, caught.value.near) == ("rendr", ("render",))


def test_a_cell_that_is_run_again_replaces_its_task_even_with_another_signature() -> None:
    def define(annotation: type) -> Task[..., Any]:
        def cell(n):
            return n

        cell.__annotations__ = {"n": annotation}
        return task_of(cell)

    registry = TaskRegistry()
    registry.add(define(int))
    registry.add(define(str))
    assert registry.get("cell").bind_payload("text") == {"n": "text"}
    assert (len(registry), registry.version) == (1, 2)


def test_another_function_under_the_same_name_is_refused_and_both_are_named() -> None:
    registry = TaskRegistry()
    registry.add(task_of(render))
    with pytest.raises(TaskAlreadyRegistered, match=r":render is .*'render'.*:fetch another name"):
        registry.add(Task(fetch, "render"))
    assert registry.get("render").function is render


def test_a_registry_may_grow_while_it_is_iterated() -> None:
    registry = TaskRegistry()
    registry.add(task_of(render))
    for _ in registry:
        registry.add(task_of(fetch))
    assert [info.name for info in registry] == ["render", "fetch"]
