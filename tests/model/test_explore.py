"""The checker itself, on models that are small enough to see through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pytest

from tests.model.explore import STUCK, Model, Step, explore


class Count(NamedTuple):
    n: int = 0


def up(limit: int) -> Step[Count]:
    def run(count: Count) -> Iterable[Count]:
        return (Count(count.n + 1),) if count.n < limit else ()

    return Step("up", run)


def jump(to: int, *, fault: bool = False) -> Step[Count]:
    return Step(f"jump to {to}", lambda count: (Count(to),) if count.n == 0 else (), fault=fault)


def never(_before: Count, _step: Step[Count], _after: Count) -> str | None:
    return None


def test_every_state_is_visited_once() -> None:
    result = explore(Model(Count(), [up(9), up(9)], never, lambda count: count.n == 9))
    assert (result.states, result.transitions, result.good_states) == (10, 18, 1)
    assert result.complete
    assert result.problem is None


def test_the_trace_to_a_broken_invariant_is_a_shortest_one() -> None:
    def broken(_before: Count, _step: Step[Count], after: Count) -> str | None:
        return "six" if after.n == 6 else None

    result = explore(Model(Count(), [up(9), jump(4)], broken, lambda _count: True))
    assert result.violation is not None
    assert [event.label for event in result.violation.events] == ["jump to 4", "up", "up"]
    assert result.violation.events[-1].changes == ("n 5>6",)
    assert not result.complete


def test_a_state_without_a_way_back_is_found() -> None:
    result = explore(Model(Count(), [up(3), jump(7, fault=True)], never, lambda count: count.n == 3))
    assert result.violation is None
    assert result.stuck is not None
    assert result.stuck.problem == STUCK
    assert [event.label for event in result.stuck.events] == ["jump to 7"]
    assert "!" in str(result.stuck)


def test_a_fault_is_no_way_to_recover() -> None:
    model = Model(Count(), [jump(1, fault=True)], never, lambda count: count.n == 1)
    assert explore(model).stuck is not None


def test_a_loop_is_no_obstacle_if_there_is_a_way_out_of_it() -> None:
    around: Step[Count] = Step("around", lambda count: (Count((count.n + 1) % 5),) if count.n < 5 else ())
    out: Step[Count] = Step("out", lambda count: (Count(5),) if count.n == 4 else ())
    assert explore(Model(Count(), [around, out], never, lambda count: count.n == 5)).problem is None


def test_too_many_states_are_an_error_and_not_a_pass() -> None:
    with pytest.raises(MemoryError, match="more than 50 states"):
        explore(Model(Count(), [up(1000)], never, lambda _count: True), limit=50)
