"""The rules of pauses, without a server; and in a TestQueue."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from dtqkit.control.pauses import PauseRequest, PauseTarget, check_target, check_until, defaults_of, pause_request
from dtqkit.model.jobs import Job
from dtqkit.model.outcomes import Delayed
from dtqkit.model.pause_errors import InvalidPause
from dtqkit.model.pauses import PACKED_S, SOON_S, Pause, PauseGate, Pauses, id_of, sentences
from dtqkit.store.packing import is_packed
from dtqkit.store.pauses import not_held
from dtqkit.testing import TestQueue

NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)


def pause(**given: Any) -> Pause:
    target = {name: given.get(name) for name in ("lane", "task")}
    return Pause(id=id_of(target["lane"], target["task"], given.get("where", {})), paused_at=NOW, **given)


def job(task: str = "render", **payload: Any) -> Job:
    return Job(id="0" * 24, task=task, payload=payload, created_at=NOW)


@pytest.mark.parametrize(
    ("held", "where", "payload"),
    [
        (True, {}, {}),
        (True, {"a": 7}, {"a": 7, "b": 1}),
        (True, {"a": 7}, {"a": 7.0}),
        (False, {"a": 7}, {"a": "7"}),
        (False, {"a": 7}, {"a": [7]}),
        (False, {"a": 1}, {"a": True}),
        (False, {"a": None}, {}),
        (True, {"a": None}, {"a": None}),
        (False, {"a": 7, "b": 1}, {"a": 7, "b": 2}),
    ],
)
def test_a_job_is_held_by_equal_values_only(held: bool, where: dict[str, Any], payload: dict[str, Any]) -> None:
    assert pause(task="render", where=where).holds(job(**payload)) is held
    assert not pause(task="other", where=where).holds(job(**payload))


def test_the_default_of_a_parameter_stands_for_one_that_is_left_out() -> None:
    one = pause(task="render", where={"a": 7}, defaults={"a": 7})
    assert one.holds(job())
    assert not one.holds(job(a=8))
    assert not one.holds(job(a=None))


def test_a_target_has_one_id_in_whatever_order_its_values_are_given() -> None:
    assert id_of(None, "t", {"a": 1, "b": 2}) == id_of(None, "t", {"b": 2, "a": 1})
    assert (
        len({id_of(None, "t", {}), id_of(None, "t", {"a": 1}), id_of(None, "t", {"a": "1"}), id_of("low", None, {})})
        == 4
    )


def test_of_several_pauses_the_one_that_lasts_longest_is_named() -> None:
    soon = pause(task="render", until=NOW + timedelta(hours=1))
    late = pause(lane="medium", until=NOW + timedelta(hours=2))
    lasting = pause(task="render", where={"a": 7}, reason="why")
    assert Pauses(1, (late, soon)).of(job(a=7)) == late
    assert Pauses(1, (lasting, late)).of(job(a=7)) == lasting
    assert Pauses(1, (soon, late)).at(NOW + timedelta(hours=1)) == Pauses(1, (late,))
    assert sentences(Pauses(1, (lasting,)), [job(a=7), job(a=7), job(a=8)]) == [
        "task 'render' where a=7 is paused since 2026-01-31 08:00:00 UTC: why"
    ]


def test_what_was_claimed_while_the_pause_was_on_its_way_goes_back_without_an_attempt() -> None:
    gate = PauseGate(Pauses(1, (pause(task="render", where={"a": 7}),)), is_packed)
    assert gate.admit(job(a=7), lambda: NOW) == Delayed(SOON_S)
    assert gate.admit(job(a=7, more={"x.y": 1}), lambda: NOW) == Delayed(PACKED_S)
    assert gate.admit(job(a=8), lambda: NOW) is None


def test_claims_have_no_filter_more_while_nothing_is_paused() -> None:
    assert not_held(Pauses(3)) == {}
    assert not_held(Pauses(1, (pause(lane="low"),))) == {"$nor": [{"priority": "low"}]}


def test_a_wrong_argument_is_named() -> None:
    for given, field in (
        ({"task": 7}, "task"),
        ({"task": "a", "where": ["b"]}, "where"),
        ({"task": "a", "where": {"b": object()}}, "where"),
        ({"lane": "low", "until": "tomorrow"}, "until"),
        ({"lane": "low", "reason": 7}, "reason"),
    ):
        with pytest.raises(InvalidPause) as refused:
            pause_request(given)
        assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("where", {"where": {"n": 2**63}}, "an integer of 64 bits"),
        ("where", {"where": {"n": -(2**63) - 1}}, "an integer of 64 bits"),
        ("where", {"where": {"n": float("nan")}}, "nan, which is equal to no number"),
        ("where", {"where": {"n": float("-inf")}}, "-inf, which is equal to no number"),
        ("where", {"where": {"n": "\ud800"}}, "lone surrogate"),
        ("where", {"where": {"n": "a\0b"}}, "NUL"),
        ("where", {"where": {"n": "x" * 501}}, "501 characters; at most 500"),
        ("where", {"where": {"n" * 501: 1}}, "501 characters; at most 500"),
        ("where", {"where": {f"n{i}": i for i in range(11)}}, "has 11 parameters; at most 10"),
        ("task", {"task": "x" * 501}, "501 characters; at most 500"),
        ("task", {"task": "\ud800"}, "lone surrogate"),
        ("reason", {"reason": "x" * 501}, "501 characters; at most 500"),
        ("reason", {"reason": "\udfff"}, "lone surrogate"),
    ],
)
def test_what_a_claim_could_not_carry_is_no_pause(field: str, given: dict[str, Any], message: str) -> None:
    given = {"task": "render", **given}
    calls: list[Callable[[], object]] = [lambda: pause_request(given), lambda: check_target(PauseRequest(**given))]
    if field != "reason":
        calls.append(lambda: check_target(PauseTarget(**given)))
    for call in calls:
        with pytest.raises(InvalidPause, match=message) as refused:
            call()
        assert refused.value.field == field


def test_where_is_written_as_a_payload_is() -> None:
    class Size(enum.IntEnum):
        BIG = 3

    asked = pause_request({"task": "render", "where": {"size": Size.BIG, "day": date(2026, 1, 31)}})
    assert asked.where == {"size": 3, "day": "2026-01-31"}
    assert type(asked.where["size"]) is int
    with pytest.raises(InvalidPause, match="names 7; the name of a parameter is a text"):
        pause_request({"task": "render", "where": {7: 1}})


def test_a_default_that_no_value_can_equal_is_not_kept() -> None:
    defaults = {"a": 2**63, "b": 7, "c": [1], "d": "x" * 501, "e": {"$float": "nan"}, "f": None}
    schema = {"properties": {name: {"default": value} for name, value in defaults.items()}}
    assert defaults_of("render", defaults, schema, allow_unknown=False) == {"b": 7, "f": None}


def test_a_paused_job_waits_in_a_test_queue_until_its_pause_ends() -> None:
    with TestQueue() as queue:

        @queue.task
        def render(page: int, customer: int = 1) -> int:
            return page

        queue.pause(task="render", where={"customer": 7})
        held, free = render.submit(1, customer=7), render.submit(2)
        queue.run_until_idle()
        assert (held.refresh().status, free.refresh().status) == ("pending", "completed")
        queue.advance(days=3)
        assert held.refresh().status == "pending"
        queue.resume(task="render", where={"customer": 7})
        queue.run_until_idle()
        assert held.refresh().status == "completed"


def test_an_end_that_is_after_the_year_9999_in_utc_is_refused_by_its_field() -> None:
    until = datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-5)))
    with pytest.raises(InvalidPause, match=r"^until is 9999") as refused:
        check_until(until, NOW)
    assert refused.value.field == "until"
