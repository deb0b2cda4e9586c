"""The leader's lock, with anything in its place (protocol.md, keys; the script is `broker/lua/lead.lua`).

Two leaders at once are harmless (`one_job` has two). There must never be a state without a leader forever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from tests.model.explore import Model, Rules, Step

Lock = Literal["free", "held by 0", "held by 1", "a stranger's", "with a long TTL", "without a TTL", "of a wrong type"]
ANYTHING: Final[tuple[Lock, ...]] = (
    "free",
    "a stranger's",
    "with a long TTL",
    "without a TTL",
    "of a wrong type",
)
#: What a candidate takes although it is not free, with the guard that says so.
TAKEN: Final[tuple[tuple[Lock, str], ...]] = (
    ("with a long TTL", "lock: with a longer TTL is taken"),
    ("without a TTL", "lock: without a TTL is taken"),
    ("of a wrong type", "lock: of a wrong type is taken"),
)


class World(NamedTuple):
    lock: Lock = "free"
    faults: int = 2


def model(rules: Rules) -> Model[World]:
    takes = {lock for lock, guard in TAKEN if not rules.without(guard)} | {"free"}

    def take(mine: Lock) -> Step[World]:
        def run(world: World) -> Iterable[World]:
            return (world._replace(lock=mine),) if world.lock in takes else ()

        return Step(f"11 candidate takes the lock: {mine}", run)

    def resign(mine: Lock) -> Step[World]:
        """At a graceful stop: only one's own lock is deleted."""

        def run(world: World) -> Iterable[World]:
            own = world.lock == mine or rules.without("lock: only one's own is released")
            return (world._replace(lock="free"),) if own else ()

        return Step(f"11 a leader stops that thinks it is {mine}", run)

    def runs_out(world: World) -> Iterable[World]:
        """No process renews it. A long TTL is longer than any process waits."""
        return (world._replace(lock="free"),) if world.lock in ("held by 0", "held by 1", "a stranger's") else ()

    def meddle(world: World) -> Iterable[World]:
        if not world.faults:
            return ()
        return (World(lock, world.faults - 1) for lock in ANYTHING)

    steps = [take("held by 0"), take("held by 1"), resign("held by 0"), resign("held by 1")]
    steps += [Step("time: the lock runs out", runs_out), Step("REDIS HOLDS ANYTHING", meddle, fault=True)]
    return Model(World(), steps, lambda _world, _step, _after: None, good)


def good(world: World) -> bool:
    return world.lock in ("held by 0", "held by 1")
