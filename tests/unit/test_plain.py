"""Plain types, as people use them: their form in the record, and their return where they are annotated."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import io
import json
import math
import pathlib
import types
import uuid
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict

import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtqkit.model.errors import InvalidPayload, InvalidResult, TaskDefinitionError
from dtqkit.model.values import as_result
from dtqkit.tasks.schema import PayloadValidator
from dtqkit.tasks.task import Task

UTC = dt.UTC


class Colour(enum.Enum):
    RED = "red"
    DARK = "dark"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Page:
    path: pathlib.Path
    sizes: dict[int, float] = dataclasses.field(default_factory=dict)


class Options(TypedDict):
    where: pathlib.Path
    ratio: float


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Row(msgspec.Struct):
    key: str
    value: float


class Order(pydantic.BaseModel):
    id: int = pydantic.Field(alias="orderId")
    total: decimal.Decimal = decimal.Decimal(0)
    due: dt.date | None = None
    ratio: float = 1.0
    parts: list[Order] = []


class Account:
    """Of a kind that has no JSON form."""


ORDER = Order(orderId=3, total=decimal.Decimal("1.50"))
frame = pd.DataFrame({"x": [1.0, math.nan], "t": [pd.Timestamp("2026-01-31"), pd.NaT]})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.longdouble(1.5), 1.5),
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.datetime64("2026-01-31"), "2026-01-31"),
        (np.datetime64("NaT"), None),
        (np.timedelta64(90, "m"), "PT5400S"),
        (np.float64("nan"), {"$float": "nan"}),
        (np.array(1.5), 1.5),
        (np.arange(3), [0, 1, 2]),
        (np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
        (np.array(["2026-01-31"], dtype="datetime64[D]"), ["2026-01-31"]),
        (np.ma.masked_array([1, 2], mask=[False, True]), [1, None]),
        ([np.float64(1), {"n": np.int64(2)}], [1.0, {"n": 2}]),
        (pd.Timestamp("2026-01-31 08:00", tz="UTC"), "2026-01-31T08:00:00+00:00"),
        (pd.Timedelta("90min"), "PT5400S"),
        (pd.NaT, None),
        (pd.NA, None),
        (pd.Index([1, 2]), [1, 2]),
        (pd.Categorical(["a", "b"]), ["a", "b"]),
        (frame.to_dict("records"), [{"x": 1.0, "t": "2026-01-31T00:00:00"}, {"x": {"$float": "nan"}, "t": None}]),
        (frame["x"].to_dict(), {"0": 1.0, "1": {"$float": "nan"}}),
        (pathlib.Path("/a/b"), "/a/b"),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": 1}.items(), [["a", 1]]),
        (collections.deque([1, 2]), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({2, 1}), [1, 2]),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (Level.LOW, 1),
        ({1: "a", 2.5: "b", False: "c", None: "d"}, {"1": "a", "2.5": "b", "false": "c", "null": "d"}),
        ({Colour.RED: 1, Level.LOW: 2}, {"red": 1, "1": 2}),
        ({dt.date(2026, 1, 31): 1, uuid.UUID(int=1): 2}, {"2026-01-31": 1, str(uuid.UUID(int=1)): 2}),
        ({np.int64(1): 1, np.str_("b"): 2, pathlib.Path("c"): 3}, {"1": 1, "b": 2, "c": 3}),
        ({pd.Timestamp("2026-01-31"): 1}, {"2026-01-31T00:00:00": 1}),
        ({"": 1, "$set": 2, "a.b": 3}, {"": 1, "$set": 2, "a.b": 3}),
        (math.nan, {"$float": "nan"}),
        (-math.inf, {"$float": "-inf"}),
        (ORDER, {"orderId": 3, "total": "1.50", "due": None, "ratio": 1.0, "parts": []}),
        (Page(pathlib.Path("a"), {1: math.inf}), {"path": "a", "sizes": {"1": {"$float": "inf"}}}),
    ],
    ids=repr,
)  # fmt: skip
def test_a_plain_value_becomes_the_json_that_people_expect(value: object, expected: object) -> None:
    recorded = as_result(value)
    assert json.loads(json.dumps(recorded, allow_nan=False)) == expected


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (frame, ["pandas.DataFrame", "to_dict('records')", "file"]),
        (frame["x"], ["Series", ".tolist()", ".to_dict()"]),
        (np.zeros(2_000_000), ["2,000,000 items", "file"]),
        (np.timedelta64(3, "M"), ["months"]),
        (np.complex64(1), ["complex", "z.real"]),
        (1j, ["complex", "z.real"]),
        (2**70, ["71 bits", "str(n)"]),
        ((n for n in range(3)), ["generator", "list("]),
        (map(str, []), ["map", "list("]),
        (ValueError("x"), ["ValueError", "raise it"]),
        (Account(), ["Account", "dataclass"]),
        (Account, ["type", "name"]),
        (len, ["builtin_function", "()"]),
        (io.StringIO(), ["StringIO", "path"]),
        ("a\0b", ["NUL", "bytes"]),
        ("a\udcff", ["surrogate", "bytes"]),
        ({"a": [1, {"b": Account()}]}, ["$.a[1].b"]),
        ({(1, 2): 3}, ["(1, 2)", "pairs"]),
        ({1: "a", "1": "b"}, ["two keys", "'1'"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_json_form_is_refused_with_its_type_and_the_cure(value: object, parts: list[str]) -> None:
    with pytest.raises(InvalidResult) as caught:
        as_result(value)
    assert [part for part in parts if part not in str(caught.value)] == [], caught.value


def test_the_same_set_is_the_same_payload_whatever_its_order() -> None:
    assert as_result({"b", "c", "a"}) == as_result({"c", "a", "b"}) == ["a", "b", "c"]


# -- back again

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats()
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)

BACK: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (float, floats),
    (list[float], st.lists(floats, max_size=3)),
    (dict[str, float], st.dictionaries(texts, floats, max_size=3)),
    (Any, st.none() | floats | texts | st.dictionaries(texts, st.lists(floats, max_size=2), max_size=2)),
    (pathlib.Path, names.map(pathlib.Path)),
    (pathlib.PurePosixPath | None, st.none() | names.map(pathlib.PurePosixPath)),
    (list[pathlib.Path], st.lists(names.map(pathlib.Path), max_size=3)),
    (dict[int, str], st.dictionaries(integers, texts, max_size=3)),
    (dict[bool, int], st.dictionaries(st.booleans(), integers)),
    (dict[float, int], st.dictionaries(st.floats(allow_nan=False), integers, max_size=3)),
    (dict[dt.date, int], st.dictionaries(st.dates(), integers, max_size=3)),
    (dict[dt.datetime, int], st.dictionaries(st.datetimes(), integers, max_size=3)),
    (dict[uuid.UUID, int], st.dictionaries(st.uuids(), integers, max_size=3)),
    (dict[Colour, int], st.dictionaries(st.sampled_from(Colour), integers)),
    (dict[Level, int], st.dictionaries(st.sampled_from(Level), integers)),
    (dict[np.int64, int], st.dictionaries(integers.map(np.int64), integers, max_size=3)),
    (list[dict[bool, float]] | None, st.none() | st.lists(st.dictionaries(st.booleans(), floats), max_size=2)),
    (dict[pathlib.Path, int], st.dictionaries(names.map(pathlib.Path), integers, max_size=3)),
    (dict[Literal[1, 2], int], st.dictionaries(st.sampled_from([1, 2]), integers)),
    (dict[int, dict[int, float]], st.dictionaries(integers, st.dictionaries(integers, floats, max_size=2), max_size=2)),
    (dict[str, int], st.dictionaries(texts, integers, max_size=3)),
    (Page, st.builds(Page, names.map(pathlib.Path), st.dictionaries(integers, floats, max_size=2))),
    (Options, st.fixed_dictionaries({"where": names.map(pathlib.Path), "ratio": floats})),
    (Point, st.builds(Point, floats, floats)),
    (Row, st.builds(Row, texts, floats)),
    (Order, st.builds(Order, orderId=integers, due=st.none() | st.dates(), ratio=floats)),
    (list[Order], st.lists(st.builds(Order, orderId=integers), max_size=2)),
    (Order | None, st.none() | st.builds(Order, orderId=integers)),
    (np.float64, floats.map(np.float64)),
    (np.int64, integers.map(np.int64)),
    (np.bool_, st.booleans().map(np.bool_)),
    (np.datetime64, st.dates().map(np.datetime64)),
    (pd.Timestamp, st.integers(0, 2**53).map(lambda us: pd.Timestamp(us, unit="us"))),
    (pd.Timedelta, st.integers(-(10**12), 10**12).map(lambda us: pd.Timedelta(us, unit="us"))),
    (bytes, st.binary(max_size=8)),
    (decimal.Decimal, st.decimals(allow_nan=False)),
    (dt.datetime, st.datetimes(timezones=st.none() | st.just(UTC))),
    (dt.timedelta, st.timedeltas()),
    (frozenset[int], st.frozensets(integers, max_size=3)),
    (tuple[float, ...], st.lists(floats, max_size=3).map(tuple)),
    (str | pathlib.Path, texts),
    (float | np.float64, floats),
    (Annotated[float, msgspec.Meta(ge=0)], st.floats(0)),
]  # fmt: skip


def task_returning(annotation: Any) -> Task[..., Any]:
    def give(value: Any) -> Any: ...

    give.__annotations__ = {"value": annotation, "return": annotation}
    return Task(give, "give")


def same(one: Any, other: Any) -> bool:
    """Equal and of one type, NaN being equal to NaN."""
    return type(one) is type(other) and (one == other or repr(one) == repr(other))


@pytest.mark.parametrize(
    ("annotation", "values"), BACK, ids=lambda one: str(one) if not hasattr(one, "example") else ""
)
def test_an_annotated_argument_and_result_come_back_equal_and_of_their_type(
    annotation: Any, values: st.SearchStrategy[Any]
) -> None:
    task = task_returning(annotation)
    server = PayloadValidator("give", msgspec.json.decode(msgspec.json.encode(task.schema)))

    @given(values)
    def check(value: Any) -> None:
        payload = msgspec.json.decode(msgspec.json.encode(task.bind_payload(value)))
        assert same(task.decode_payload(payload)["value"], value)
        assert same(task.decode_result(msgspec.json.decode(msgspec.json.encode(as_result(value)))), value)
        server.check(payload)

    check()


def test_an_array_comes_back_as_an_array() -> None:
    task = task_returning(np.ndarray)
    value = np.arange(6.0).reshape(2, 3)
    back = task.decode_payload(task.bind_payload(value))["value"]
    assert isinstance(back, np.ndarray)
    assert (back == value).all()


def test_a_default_may_be_nan_a_path_or_a_model() -> None:
    def fit(rate: float = math.nan, where: pathlib.Path = pathlib.Path("a"), order: Order = ORDER) -> None: ...

    properties = Task(fit, "fit").schema["properties"]
    assert "default" not in properties["rate"]
    assert (properties["where"]["default"], properties["order"]["default"]["orderId"]) == ("a", 3)


@pytest.mark.parametrize(
    ("annotation", "bad", "part"),
    [
        (Order, {"orderId": "x"}, "orderId"),
        (pathlib.Path, 3, "str"),
        (np.int64, 1.5, "int"),
        (dict[np.int64, int], {"one": 1}, "int"),
        (dict[bool, int], [], "object"),
        (np.ndarray, 3, "array"),
        (dict[int, str], {"one": "a"}, "int"),
        (dict[bool, str], {"yes": "a"}, "true"),
        (pd.Timestamp, "never", ""),
        (pd.Timedelta, "never", ""),
    ],
)
def test_a_payload_that_is_none_of_them_is_refused_by_name(annotation: Any, bad: Any, part: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        task_returning(annotation).check_payload({"value": bad})
    assert caught.value.path.startswith("$.value")
    assert part in f"{caught.value.path} {caught.value.detail}"
    assert "\n" not in caught.value.detail


# -- known from the annotation


class Shape:
    pass


@dataclasses.dataclass
class Circle(Shape):
    radius: float


class Named(Protocol):
    name: str


@pytest.mark.parametrize(
    ("annotation", "part"),
    [
        (pd.DataFrame, "to_dict('records')"),
        (pd.Series, ".tolist()"),
        (list[pd.DataFrame], "DataFrame"),
        (dict[str, pd.DataFrame], "DataFrame"),
        (pd.DataFrame | pd.Series, "DataFrame"),
        (complex, "complex"),
        (Callable[[], int], "Callable"),
        (Iterator[int], "Iterator"),
        (Generator[int, None, None], "Generator"),
        (Awaitable[int], "Awaitable"),
        (type[int], "type"),
        (ValueError, "ValueError"),
        (io.StringIO, "StringIO"),
        (types.ModuleType, "module"),
        (Account, "Account"),
    ],
    ids=str,
)
def test_a_result_that_can_never_be_recorded_is_refused_when_the_task_is_made(annotation: Any, part: str) -> None:
    with pytest.raises(TaskDefinitionError, match=r"give: it returns .* has no JSON form") as caught:
        task_that_returns(annotation)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "annotation",
    [Any, None, object, pd.DataFrame | None, Shape, Circle, Named, Order, list[Any], tuple[int, ...], np.ndarray,
     np.float64, collections.Counter, collections.OrderedDict, range, pathlib.Path, "Nowhere", Options, Level,
     dict[int, str], Literal["a"], collections.abc.Iterable[int], pd.Timestamp, pd.Index],
    ids=str,
)  # fmt: skip
def test_what_may_be_recorded_is_accepted(annotation: Any) -> None:
    assert task_that_returns(annotation).name == "give"


def task_that_returns(annotation: Any) -> Task[..., Any]:
    def give() -> Any: ...

    give.__annotations__ = {"return": annotation}
    return Task(give, "give")
