"""What is listed again after Redis lost everything (protocol.md, step 11, first half).

Two waiting jobs: one that was there long before, and one that is submitted just now. Redis is flushed at any moment,
perhaps while a leader rebuilds; a leader may be paused between any two of its steps, and another one may rebuild too.
An `epoch` that is set says "what waits is listed": no leader rebuilds again, and only the audit, a minute later, would
see that something is missing. That would break the bound of 10 s, so here it counts as broken.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from tests.model.explore import Model, Rules, Step

OLD, NEW = 0, 1
BOTH: Final = (True, True)


class Rebuild(NamedTuple):
    """Where a leader is in its rebuild, and what its find has shown."""

    doing: Literal["", "marked", "found", "pushed old", "pushed both"] = ""
    #: The new job was in what it found.
    saw_new: bool = False


class World(NamedTuple):
    leaders: tuple[Rebuild, Rebuild] = (Rebuild(), Rebuild())
    #: `epoch` is there, with this server's run_id. (An old snapshot brings back an old one: as if it were gone.)
    epoch: bool = False
    #: Whose nonce `epoch:building` holds: a leader's number + 1, or 0.
    mark: int = 0
    #: Is the old job, is the new job in its lane?
    listed: tuple[bool, bool] = (False, False)
    submit: Literal["none", "inserted", "done"] = "none"
    flushes: int = 2


Worlds = Iterable[World]


def model(rules: Rules) -> Model[World]:
    steps = [
        Step("1 submit: insert", insert),
        Step("1 submit: push", push),
        Step("FLUSHALL", flush, fault=True),
        *rebuild_steps(rules, 0),
        *rebuild_steps(rules, 1),
    ]
    return Model(World(), steps, broken, good)


def insert(world: World) -> Worlds:
    return (world._replace(submit="inserted"),) if world.submit == "none" else ()


def push(world: World) -> Worlds:
    if world.submit != "inserted":
        return ()
    return (world._replace(submit="done", listed=(world.listed[OLD], True)),)


def flush(world: World) -> Worlds:
    if not world.flushes:
        return ()
    return (world._replace(epoch=False, mark=0, listed=(False, False), flushes=world.flushes - 1),)


def rebuild_steps(rules: Rules, n: int) -> list[Step[World]]:
    nonce = 1 if rules.without("epoch: a nonce of its own") else n + 1

    def now(world: World, doing: Rebuild) -> World:
        leaders = (doing, world.leaders[1]) if n == 0 else (world.leaders[0], doing)
        return world._replace(leaders=leaders)

    def mark(world: World) -> Worlds:
        if world.epoch or world.leaders[n].doing:
            return ()
        return (now(world, Rebuild("marked"))._replace(mark=nonce),)

    def find(world: World) -> Worlds:
        if world.leaders[n].doing != "marked":
            return ()
        return (now(world, Rebuild("found", saw_new=world.submit != "none")),)

    def push_old(world: World) -> Worlds:
        if world.leaders[n].doing != "found":
            return ()
        listed = (True, world.listed[NEW])
        if rules.without("rebuild: never delete a lane after the find"):
            listed = (True, False)
        return (now(world, world.leaders[n]._replace(doing="pushed old"))._replace(listed=listed),)

    def push_new(world: World) -> Worlds:
        leader = world.leaders[n]
        if leader.doing != "pushed old":
            return ()
        listed = (world.listed[OLD], world.listed[NEW] or leader.saw_new)
        return (now(world, Rebuild("pushed both"))._replace(listed=listed),)

    def finish(world: World) -> Worlds:
        """In a script: only if the mark still holds that nonce."""
        if world.leaders[n].doing != "pushed both":
            return ()
        if world.mark == nonce or rules.without("epoch: set only under the mark"):
            return (now(world, Rebuild())._replace(epoch=True, mark=0),)
        return (now(world, Rebuild()),)

    def die(world: World) -> Worlds:
        return (now(world, Rebuild()),) if world.leaders[n].doing else ()

    at = f" (leader {n})"
    return [
        Step("11 epoch missing: sets its mark" + at, mark, actor=n),
        Step("11 finds what waits" + at, find, actor=n),
        Step("11 pushes the old job" + at, push_old, actor=n),
        Step("11 pushes the new job, if found" + at, push_new, actor=n),
        Step("11 sets the epoch, if its mark is there" + at, finish, actor=n),
        Step("LEADER DIES" + at, die, fault=True),
    ]


def broken(world: World, step: Step[World], after: World) -> str | None:
    """No worker pops in this model: what was listed can only be lost by a flush, or by the rebuild itself."""
    quiet = after.epoch and not any(leader.doing for leader in after.leaders)
    if quiet and (not after.listed[OLD] or (after.submit == "done" and not after.listed[NEW])):
        return "bound: the epoch is set, no leader rebuilds, and an accepted job is not listed"
    return None


def good(world: World) -> bool:
    return world.epoch and world.submit == "done" and world.listed == BOTH
