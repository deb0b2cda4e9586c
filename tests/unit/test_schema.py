"""Properties of payloads over many signatures: what binds comes back, and the schema's judgement is the task's."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import pathlib
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Required, TypedDict

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dtqkit.model.errors import InvalidPayload
from dtqkit.model.values import INT_MAX, INT_MIN
from dtqkit.tasks.schema import PayloadValidator
from dtqkit.tasks.task import Task


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Tree:
    size: int
    due: datetime.date | None = None
    branches: list[Tree] = dataclasses.field(default_factory=list)


class Options(TypedDict):
    depth: Required[int]
    label: NotRequired[str]


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Circle(msgspec.Struct, tag=True, frozen=True):
    radius: float


class Box(msgspec.Struct, tag="box", forbid_unknown_fields=True, rename="camel", frozen=True):
    side_a: int
    side_b: int = 1


class Row(msgspec.Struct, array_like=True, frozen=True):
    key: str
    hits: int = 0


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
keys = st.from_regex(r"[a-z]{1,5}", fullmatch=True)
integers = st.integers(INT_MIN, INT_MAX)
floats = st.floats(allow_nan=False, allow_infinity=False)
dates = st.dates()
trees = st.recursive(
    st.builds(Tree, integers, st.none() | dates),
    lambda inner: st.builds(Tree, integers, st.none() | dates, st.lists(inner, max_size=2)),
    max_leaves=4,
)
points = st.builds(Point, floats, floats)
options = st.fixed_dictionaries({"depth": integers}, optional={"label": texts})
shapes = st.builds(Circle, floats) | st.builds(Box, integers, integers)

#: An annotation, and the values that a caller may pass for it.
Typed = tuple[Any, st.SearchStrategy[Any]]

SCALARS: list[Typed] = [
    (int, integers),
    (float, floats),
    (bool, st.booleans()),
    (str, texts),
    (None, st.none()),
    (bytes, st.binary(max_size=8)),
    (datetime.date, dates),
    (datetime.datetime, st.datetimes(timezones=st.none() | st.just(datetime.UTC))),
    (datetime.time, st.times()),
    (datetime.timedelta, st.timedeltas()),
    (uuid.UUID, st.uuids()),
    (pathlib.Path, keys.map(pathlib.Path)),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (Level, st.sampled_from(Level)),
    (Colour, st.sampled_from(Colour)),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    (Annotated[int, msgspec.Meta(ge=0, lt=10)], st.integers(0, 9)),
    (Annotated[float, msgspec.Meta(gt=0, le=2.5)], st.floats(0, 2.5, exclude_min=True)),
    (
        Annotated[str, msgspec.Meta(min_length=1, max_length=3, pattern="^[a-c]*$")],
        st.text("abc", min_size=1, max_size=3),
    ),
    (Annotated[datetime.datetime, msgspec.Meta(tz=True)], st.datetimes(timezones=st.just(datetime.UTC))),
    (Annotated[datetime.datetime, msgspec.Meta(tz=False)], st.datetimes()),
    (int | str, integers | texts),
    (int | float | None, integers | floats | st.none()),
    (Any, st.none() | st.booleans() | integers | texts | st.lists(integers)),
    (Tree, trees),
    (Options, options),
    (Point, points),
    (Circle | Box, shapes),
    (Circle | Box | str | None, shapes | texts | st.none()),
    (Row, st.builds(Row, texts, integers)),
]
HASHABLE: list[Typed] = [SCALARS[i] for i in (0, 1, 2, 3, 6, 10, 13, 14, 26)]


def containers(inner: Typed) -> list[Typed]:
    kind, values = inner
    return [
        (list[kind], st.lists(values, max_size=3)),
        (Annotated[list[kind], msgspec.Meta(min_length=1, max_length=2)], st.lists(values, min_size=1, max_size=2)),
        (tuple[kind, ...], st.lists(values, max_size=3).map(tuple)),
        (tuple[kind, int], st.tuples(values, integers)),
        (dict[str, kind], st.dictionaries(keys, values, max_size=3)),
        (dict[int, kind], st.dictionaries(integers, values, max_size=3)),
        (dict[Level, kind], st.dictionaries(st.sampled_from(Level), values)),
        (dict[datetime.date, kind], st.dictionaries(dates, values, max_size=3)),
        (Annotated[dict[str, kind], msgspec.Meta(max_length=2)], st.dictionaries(keys, values, max_size=2)),
        (dict[Annotated[str, msgspec.Meta(max_length=3)], kind], st.dictionaries(keys.map(lambda k: k[:3]), values)),
        (list[dict[str, kind]] | None, st.none() | st.lists(st.dictionaries(keys, values, max_size=2), max_size=2)),
    ]


def sets(inner: Typed) -> list[Typed]:
    kind, values = inner
    return [(set[kind], st.sets(values, max_size=3)), (frozenset[kind], st.frozensets(values, max_size=3))]


scalar_types = st.sampled_from(SCALARS)
annotated = st.one_of(
    scalar_types,
    scalar_types.flatmap(lambda inner: st.sampled_from(containers(inner))),
    scalar_types.flatmap(lambda inner: st.sampled_from(containers(inner))).flatmap(
        lambda inner: st.sampled_from(containers(inner))
    ),
    st.sampled_from(HASHABLE).flatmap(lambda inner: st.sampled_from(sets(inner))),
)


def task_with(parameters: list[inspect.Parameter]) -> Task[..., Any]:
    def function(**arguments: Any) -> Any:
        return arguments

    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Task(function, "generated")


@st.composite
def calls(draw: st.DrawFn) -> tuple[Task[..., Any], tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """A task, positional and keyword arguments that fit, and the same arguments by name."""
    parameters: list[inspect.Parameter] = []
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    keyword_only = False
    for name in draw(st.lists(st.sampled_from(["a", "_b", "self", "type", "ünder"]), unique=True, max_size=4)):
        annotation, values = draw(annotated)
        keyword_only = draw(st.booleans()) or keyword_only
        has_default = draw(st.booleans())
        default = draw(values) if has_default else inspect.Parameter.empty
        kind = inspect.Parameter.KEYWORD_ONLY if keyword_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        if not keyword_only and parameters and parameters[-1].default is not inspect.Parameter.empty:
            default = draw(values)  # Python wants one here
        parameters.append(inspect.Parameter(name, kind, annotation=annotation, default=default))
        if default is not inspect.Parameter.empty and draw(st.booleans()):
            continue
        value = arguments[name] = draw(values)
        if keyword_only or kwargs or len(args) != len(parameters) - 1 or draw(st.booleans()):
            kwargs[name] = value
        else:
            args.append(value)
    return task_with(parameters), tuple(args), kwargs, arguments


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=6)
    | st.sampled_from(["red", "2026-01-31", "2026-01-31T08:00:00Z", "08:00", "P1D", "AA==", "1.5", "Circle", "box"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["size", "due", "depth", "x", "type", "radius", "$a", "b.c"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@st.composite
def payloads(draw: st.DrawFn) -> tuple[Task[..., Any], Any]:
    """A task, and a payload that fits it or has been spoilt in one place."""
    task, args, kwargs, _ = draw(calls())
    payload = json.loads(json.dumps(task.bind_payload(*args, **kwargs)))
    node: Any = payload
    while draw(st.booleans()) and node:
        key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or draw(st.booleans()):
            if draw(st.booleans()):
                node[key] = draw(json_values)
            else:
                del node[key]
            break
        node = node[key]
    if draw(st.integers(0, 9)) == 0:
        payload[draw(keys)] = draw(json_values)
    return task, payload


def refusal(check: Callable[[], object]) -> InvalidPayload | None:
    try:
        check()
    except InvalidPayload as error:
        return error
    return None


many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@many
@given(calls())
def test_what_is_bound_comes_back_equal_after_json(call: Any) -> None:
    task, args, kwargs, arguments = call
    payload = task.bind_payload(*args, **kwargs)
    assert task.decode_payload(msgspec.json.decode(msgspec.json.encode(payload))) == arguments


@many
@given(calls())
def test_what_is_bound_is_accepted_by_the_schema_ours_and_the_standard_s(call: Any) -> None:
    task, args, kwargs, _ = call
    payload = json.loads(json.dumps(task.bind_payload(*args, **kwargs)))
    PayloadValidator("generated", json.loads(json.dumps(task.schema))).check(payload)
    assert list(Draft202012Validator(task.schema).iter_errors(payload)) == []


@many
@given(payloads())
def test_task_and_schema_agree_on_every_payload(given_payload: Any) -> None:
    task, payload = given_payload
    by_task = refusal(lambda: task.check_payload(payload))
    by_schema = refusal(lambda: PayloadValidator("generated", task.schema).check(payload))
    assert (by_task is None) == (by_schema is None), (by_task, by_schema)
    if by_task is not None and by_schema is not None:
        assert by_task.path.startswith("$")


@many
@given(calls(), json_values)
def test_any_json_is_decoded_or_refused_as_an_invalid_payload(call: Any, value: Any) -> None:
    task, _, _, arguments = call
    payload = {**dict.fromkeys(arguments, value), "more": value}
    assert refusal(lambda: task.decode_payload(payload)) is not None


@given(calls())
def test_every_schema_is_a_json_schema_of_2020_12(call: Any) -> None:
    Draft202012Validator.check_schema(call[0].schema)


# -- by hand


def schema_of(annotation: Any) -> dict[str, Any]:
    return dict(task_with([inspect.Parameter("a", inspect.Parameter.KEYWORD_ONLY, annotation=annotation)]).schema)


@pytest.mark.parametrize(
    ("annotation", "bad", "path"),
    [
        (int, "3", "$.a"),
        (Annotated[int, msgspec.Meta(ge=1)], 0, "$.a"),
        (Annotated[int, msgspec.Meta(gt=1)], 1, "$.a"),
        (Annotated[float, msgspec.Meta(le=1)], 1.5, "$.a"),
        (Annotated[float, msgspec.Meta(lt=1)], 1, "$.a"),
        (Annotated[int, msgspec.Meta(multiple_of=3)], 4, "$.a"),
        (Annotated[str, msgspec.Meta(min_length=2)], "a", "$.a"),
        (Annotated[str, msgspec.Meta(max_length=2)], "abc", "$.a"),
        (Annotated[str, msgspec.Meta(pattern="^a")], "b", "$.a"),
        (Annotated[list[int], msgspec.Meta(min_length=2)], [1], "$.a"),
        (Annotated[list[int], msgspec.Meta(max_length=2)], [1, 2, 3], "$.a"),
        (Annotated[dict[str, int], msgspec.Meta(min_length=1)], {}, "$.a"),
        (Annotated[dict[str, int], msgspec.Meta(max_length=1)], {"x": 1, "y": 2}, "$.a"),
        (Tree, {"size": 1, "branches": [{"size": 2}, {"size": 3, "branches": [{}]}]}, "$.a.branches[1].branches[0]"),
        (Tree | None, {"size": 1, "branches": [{"size": 2}, {"size": "x"}]}, "$.a.branches[1].size"),
        (Options, {"label": "x"}, "$.a"),
        (Point, ["x"], "$.a[0]"),
        (Point, [1, 2, 3], "$.a"),
        (tuple[int, str], [1, 2], "$.a[1]"),
        (Circle | Box, {"type": "box", "sideA": "x"}, "$.a.sideA"),
        (Circle | Box, {"type": "line"}, "$.a.type"),
        (Literal["a", 1], "b", "$.a"),
        (Colour, "green", "$.a"),
        (datetime.date, "yesterday", "$.a"),
        (list[datetime.datetime], ["2026-01-31T08:00:00", "soon"], "$.a[1]"),
        (Annotated[datetime.datetime, msgspec.Meta(tz=True)], "2026-01-31T08:00:00", "$.a"),
        (bytes, "not base64!", "$.a"),
        (uuid.UUID, "1234", "$.a"),
    ],
)
def test_a_server_without_the_function_says_where_a_payload_is_wrong(annotation: Any, bad: Any, path: str) -> None:
    error = refusal(lambda: PayloadValidator("t", schema_of(annotation)).check({"a": bad}))
    assert error is not None
    assert error.path == path, error


def test_what_a_schema_cannot_express_is_left_to_the_worker() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "from-the-future"}}, "required": ["a"]}
    PayloadValidator("t", schema).check({"a": [1]})
    assert refusal(lambda: PayloadValidator("t", schema).check({})) is not None
