"""A small explicit-state model checker: it visits every state that a model can reach, nearest first.

A model is a start state, a list of `Step`s, a `broken` function that judges each transition, and a `good` function
that says what a good end looks like. States are nested named tuples: frozen, hashable, equal when their fields are.

Two questions are answered. *Safety*: does any transition break an invariant? The search is breadth first, so the
first one found has a shortest trace. *Recoverability*: is there, from every state that can be reached, a way to a
good state without a further fault? That is looked up backwards, from the good states over the fault-free steps.
"""

from __future__ import annotations

import gc
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

S = TypeVar("S", bound=tuple[Any, ...])
T = TypeVar("T")


class Step(NamedTuple, Generic[S]):
    """One thing that can happen: `run` gives the states it leads to, none when it cannot happen now."""

    #: Begins with the number of the step in protocol.md where it has one.
    label: str
    run: Callable[[S], Iterable[S]]
    #: A fault, or something that cannot be relied on (a cancel, a failing task): no part of a recovery.
    fault: bool = False
    #: The worker or leader that acts, for invariants that ask who did it.
    actor: int | None = None


class Model(NamedTuple, Generic[S]):
    """All that the search needs to know."""

    start: S
    steps: Sequence[Step[S]]
    #: What a transition breaks: the words for it, or None.
    broken: Callable[[S, Step[S], S], str | None]
    good: Callable[[S], bool]


@dataclass(frozen=True)
class Rules:
    """The guards of the protocol that are taken away; a model that has bounds of its own adds them."""

    removed: frozenset[str] = frozenset()

    def without(self, guard: str) -> bool:
        return guard in self.removed


def replaced(items: tuple[T, ...], at: int, item: T) -> tuple[T, ...]:
    """`items` with another one at that place."""
    return (*items[:at], item, *items[at + 1 :])


class Event(NamedTuple):
    """One line of a trace: the step, and which fields it changed."""

    label: str
    fault: bool
    changes: tuple[str, ...]


class Trace(NamedTuple):
    """A shortest way to something that must not be."""

    problem: str
    events: tuple[Event, ...]

    def __len__(self) -> int:
        return len(self.events)

    def __str__(self) -> str:
        lines = [f"{len(self.events)} steps: {self.problem}"]
        for number, event in enumerate(self.events, 1):
            mark = "!" if event.fault else " "
            lines.append(f"  {number:2}.{mark} {event.label:<46} {', '.join(event.changes)}".rstrip())
        return "\n".join(lines)


class Result(NamedTuple):
    """What the search found. `complete` is False when it stopped early: at a violation, or at the limit."""

    states: int
    transitions: int
    good_states: int
    #: Of one core.
    seconds: float
    complete: bool
    violation: Trace | None
    stuck: Trace | None

    @property
    def problem(self) -> Trace | None:
        return self.stuck if self.violation is None else self.violation


STUCK = "from here no good state can be reached any more"


def explore(model: Model[S], limit: int = 3_000_000) -> Result:
    """Visit every reachable state, until an invariant breaks. Raises MemoryError beyond `limit` states."""
    with _no_garbage_collection():
        return _explore(model, limit)


def _explore(model: Model[S], limit: int) -> Result:
    began = time.process_time()
    seen: dict[S, int] = {model.start: 0}
    order: list[S] = [model.start]
    parents = array("l", [-1])
    sources, targets = array("l"), array("l")
    transitions = 0
    for number, state in enumerate(order):  # `order` grows while it is read: that is the breadth-first queue
        for step in model.steps:
            for after in step.run(state):
                transitions += 1
                if problem := model.broken(state, step, after):
                    events = (*_events(model, order, parents, number), _event(step, state, after))
                    seconds = time.process_time() - began
                    return Result(len(order), transitions, 0, seconds, False, Trace(problem, events), None)
                target = seen.get(after)
                if target is None:
                    target = seen[after] = len(order)
                    order.append(after)
                    parents.append(number)
                if not step.fault:
                    sources.append(number)
                    targets.append(target)
        if len(order) > limit:
            raise MemoryError(f"more than {limit:,} states; make the bounds smaller or raise the limit")
    good = [number for number, state in enumerate(order) if model.good(state)]
    stuck = _first_that_cannot_reach(good, sources, targets, len(order))
    trace = None if stuck is None else Trace(STUCK, _events(model, order, parents, stuck))
    return Result(len(order), transitions, len(good), time.process_time() - began, True, None, trace)


def _first_that_cannot_reach(
    good: Sequence[int], sources: Sequence[int], targets: Sequence[int], count: int
) -> int | None:
    """The nearest state from which no path of `sources[k] -> targets[k]` leads to a good one."""
    # All edges in one flat array, grouped by target: those into t stand in backwards[first[t]:first[t + 1]].
    first = array("l", [0]) * (count + 1)
    for target in targets:
        first[target + 1] += 1
    for number in range(count):
        first[number + 1] += first[number]
    backwards, free = array("l", [0]) * len(sources), array("l", first)
    for source, target in zip(sources, targets, strict=True):
        backwards[free[target]] = source
        free[target] += 1
    reaches = bytearray(count)
    for number in good:
        reaches[number] = 1
    queue = deque(good)
    while queue:
        number = queue.popleft()
        for source in backwards[first[number] : first[number + 1]]:
            if not reaches[source]:
                reaches[source] = 1
                queue.append(source)
    stuck = reaches.find(0)
    return None if stuck < 0 else stuck


def _events(model: Model[S], order: Sequence[S], parents: Sequence[int], number: int) -> tuple[Event, ...]:
    """The way from the start to a state. The steps' names are not stored: each one is found again by trying."""
    events: list[Event] = []
    while (parent := parents[number]) >= 0:
        before, after = order[parent], order[number]
        step = next(step for step in model.steps if any(after == found for found in step.run(before)))
        events.append(_event(step, before, after))
        number = parent
    return tuple(reversed(events))


def _event(step: Step[S], before: S, after: S) -> Event:
    return Event(step.label, step.fault, tuple(changes(before, after)))


def changes(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """What differs between two states, field by field: `job.status pending>running`."""
    if before == after:
        return
    fields: Sequence[str] | None = getattr(before, "_fields", None)
    if fields is None and isinstance(before, tuple) and len(before) == len(after):
        fields = [str(number) for number in range(len(before))]
    if fields is None or type(before) is not type(after):
        yield f"{path} {before}>{after}"
        return
    for name, old, new in zip(fields, before, after, strict=True):
        yield from changes(old, new, f"{path}.{name}" if path else name)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """States have no cycles; looking for some among a million of them takes most of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
