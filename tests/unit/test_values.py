"""What has a JSON form, and how it is read back."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import bson
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtqkit.model.errors import InvalidPayload, InvalidResult
from dtqkit.model.values import INT_MAX, INT_MIN, MAX_DEPTH, as_result, check_payload, from_json
from dtqkit.store.packing import pack, unpack


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Page:
    width: Any


class Size(msgspec.Struct):
    height: Any


class Point(NamedTuple):
    x: Any


def nested(depth: int) -> list[Any]:
    """`depth` lists inside each other."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (INT_MAX, INT_MAX),
        (INT_MIN, INT_MIN),
        (1.5, 1.5),
        ("naïve 🦉", "naïve 🦉"),
        ((1, (2,)), [1, [2]]),
        ({3}, [3]),
        (Colour.RED, "red"),
        (datetime.date(2026, 1, 31), "2026-01-31"),
        (datetime.datetime(2026, 1, 31, 8, tzinfo=datetime.UTC), "2026-01-31T08:00:00Z"),
        (datetime.timedelta(minutes=90), "PT5400S"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.50"), "1.50"),
        (b"\x00\xff", "AP8="),
        (Page(Size(Point(1))), {"width": {"height": [1]}}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (nested(MAX_DEPTH), nested(MAX_DEPTH)),
    ],
    ids=repr,
)
def test_a_python_value_becomes_its_json_form(value: object, expected: object) -> None:
    assert as_result(value) == expected


@pytest.mark.parametrize(
    ("value", "path", "part"),
    [
        pytest.param({"n": INT_MAX + 1}, "$.n", "an integer of 64 bits does not fit", id="65 bits"),
        pytest.param(10**5000, "$", "an integer of 16610 bits", id="huge"),
        pytest.param("a\0b", "$", "NUL", id="nul"),
        pytest.param(["x" * 1000 + "\0"], "$[0]", "x…", id="long"),
        pytest.param({"t": "\ud800"}, "$.t", "lone surrogate at 0", id="surrogate"),
        pytest.param({"k\0": 1}, "$['k\\x00']", "NUL", id="nul in a key"),
        pytest.param({"\udfff": 1}, "$['\\udfff']", "surrogate", id="surrogate in a key"),
        pytest.param({"a": {1: 2, "1": 3}}, "$.a['1']", "two keys are '1' as text", id="keys that meet"),
        pytest.param({"a": {(1, 2): 3}}, "$.a[a tuple]", "the key (1, 2) has no text form", id="tuple key"),
        pytest.param(object(), "$", "an object has no JSON form", id="object"),
        pytest.param({"rows": (i for i in range(3))}, "$.rows", "a generator has no JSON form", id="generator"),
        pytest.param(Page([1, Size(Point(1j))]), "$.width[1].height[0]", "a complex", id="in a dataclass"),
        pytest.param(nested(MAX_DEPTH + 1), "$" + "[0]" * MAX_DEPTH, "nested more than 32", id="deep"),
        pytest.param(nested(100_000), "$" + "[0]" * MAX_DEPTH, "nested more than 32", id="very deep"),
    ],
)
def test_a_result_that_cannot_be_recorded_is_refused_with_its_path(value: object, path: str, part: str) -> None:
    with pytest.raises(InvalidResult) as caught:
        as_result(value)
    assert (caught.value.path, part in caught.value.detail) == (path, True), caught.value


def test_a_list_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(InvalidResult, match="nested more than 32"):
        as_result(loop)


def test_a_payload_that_cannot_be_kept_is_refused_in_the_name_of_the_task() -> None:
    with pytest.raises(InvalidPayload) as caught:
        check_payload("render", {"pages": [{"width": {"a.b": "\0"}}]})
    assert (caught.value.task, caught.value.path) == ("render", "$.pages[0].width['a.b']")


def test_an_error_stays_short_whatever_the_value() -> None:
    with pytest.raises(InvalidResult) as caught:
        as_result({"\0" + "k" * 100_000: 1})
    assert len(str(caught.value)) < 300


any_text = st.text(st.characters(codec=None))
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
numbers = st.integers(INT_MIN, INT_MAX) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts, lambda inner: st.lists(inner) | st.dictionaries(names, inner)
)
wild_values = st.recursive(
    st.none() | st.integers() | st.floats() | any_text | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(any_text | st.integers(), inner),
)


@given(json_values)
def test_every_json_value_that_mongodb_can_hold_passes_unchanged(value: object) -> None:
    assert as_result(value) == value


@given(json_values)
def test_what_passes_is_the_same_after_json(value: object) -> None:
    assert json.loads(msgspec.json.encode(as_result(value))) == value


@given(wild_values)
def test_any_value_is_recorded_as_strict_json_or_refused_with_a_path(value: object) -> None:
    try:
        recorded = as_result(value)
    except InvalidResult as error:
        assert error.path.startswith("$")  # noqa: PT017 - it may end either way
    else:
        assert json.loads(json.dumps(recorded, allow_nan=False)) == recorded


floats = st.recursive(
    st.none() | numbers | st.floats() | texts, lambda inner: st.lists(inner) | st.dictionaries(names, inner)
)


@given(floats)
def test_every_float_comes_back_as_it_was(value: object) -> None:
    recorded = as_result(value)
    assert repr(from_json(json.loads(json.dumps(recorded, allow_nan=False)))) == repr(value)


@given(json_values)
def test_what_is_stored_in_mongodb_is_unpacked_as_it_was(value: object) -> None:
    stored = bson.decode(bson.encode({"payload": pack(value)}))["payload"]
    assert unpack(stored) == value
    assert list(keys_of(stored)) == [""] or all(key and "." not in key and key[0] != "$" for key in keys_of(stored))


def keys_of(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, part in value.items():
                yield key
                yield from keys_of(part)
        case list():
            for part in value:
                yield from keys_of(part)
        case _:
            pass
