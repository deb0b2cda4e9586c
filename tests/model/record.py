"""Two environments that share a Redis by mistake (protocol.md, identity; the script is `broker/lua/record.lua`).

Each has a record of its own with one job. The first one has the Redis; neither may take or drop the other's ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from tests.model.explore import Model, Rules, Step

ENVIRONMENTS: Final = (0, 1)


class World(NamedTuple):
    #: Whose jobs are listed, by the key in Redis.
    owner: int | None = None
    #: Jobs in the lane, and jobs that are done, by environment.
    lane: frozenset[int] = frozenset()
    done: frozenset[int] = frozenset()
    #: Environments whose blocking pop is under way: it looked before it began, and looks no more.
    blocked: frozenset[int] = frozenset()
    faults: int = 2


def model(rules: Rules) -> Model[World]:
    def may(world: World, mine: int, guard: str) -> bool:
        return world.owner in (None, mine) or rules.without(guard)

    def push(mine: int) -> Step[World]:
        def run(world: World) -> Iterable[World]:
            if mine in world.done or not may(world, mine, "record: looked at before a push"):
                return ()
            owner = world.owner if rules.without("record: set with a push") or world.owner is not None else mine
            return (world._replace(owner=owner, lane=world.lane | {mine}),)

        return Step(f"1 environment {mine} pushes", run)

    def pop(mine: int) -> Step[World]:
        def run(world: World) -> Iterable[World]:
            if not may(world, mine, "record: looked at before a pop"):
                return ()
            return (taken(world, mine, job) for job in world.lane)

        return Step(f"2 environment {mine} pops and claims", run, actor=mine)

    def block(mine: int) -> Step[World]:
        def run(world: World) -> Iterable[World]:
            if mine in world.blocked or not may(world, mine, "record: looked at before a pop"):
                return ()
            return (world._replace(blocked=world.blocked | {mine}),)

        return Step(f"2 environment {mine} begins a blocking pop", run)

    def unblock(mine: int) -> Step[World]:
        def run(world: World) -> Iterable[World]:
            if mine not in world.blocked:
                return ()
            return (taken(world, mine, job)._replace(blocked=world.blocked - {mine}) for job in world.lane)

        return Step(f"2 the blocking pop of environment {mine} brings an id", run)

    def lead(mine: int) -> Step[World]:
        """Its audit lists what is missing and drops what its record does not know."""

        def run(world: World) -> Iterable[World]:
            if not may(world, mine, "record: looked at by the leader"):
                return ()
            return (world._replace(owner=mine, lane=frozenset({mine}) - world.done),)

        return Step(f"11 environment {mine} leads and audits", run, actor=mine)

    def flush(world: World) -> Iterable[World]:
        return (world._replace(owner=None, lane=frozenset(), faults=world.faults - 1),) if world.faults else ()

    steps = [make(mine) for make in (push, pop, block, unblock, lead) for mine in ENVIRONMENTS]
    return Model(World(), [*steps, Step("FLUSHALL", flush, fault=True)], broken, good)


def taken(world: World, mine: int, job: int) -> World:
    """A claim finds the job in its own record only: another's id is gone."""
    done = world.done | {job} if job == mine else world.done
    return world._replace(lane=world.lane - {job}, done=done)


def broken(world: World, step: Step[World], after: World) -> str | None:
    """A blocking pop may drop one: the other's audit lists it again, which is what `good` asks for."""
    lost = {job for job in world.lane - after.lane if step.actor is not None and job not in (step.actor, *after.done)}
    return f"environment {step.actor} drops an id of another one" if lost else None


def good(world: World) -> bool:
    """Who has the Redis gets its jobs done."""
    return world.owner is not None and world.owner in world.done
