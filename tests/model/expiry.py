"""Expiry: a job that is not started in time, seen by a worker that claims it or by the leader's audit (steps 3 and 11).

The audit has read some time ago, so its write looks again. A worker serves the job's lane, or none does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.model import explore
from tests.model.explore import Model, Step


class World(NamedTuple):
    status: Literal["waiting", "claimed", "running", "completed", "cancelled"] = "waiting"
    #: Whether its time has passed, and whether it had when it was claimed.
    late: bool = False
    claimed_late: bool = False
    #: Whether an attempt has ended: what waits now is a retry.
    tried: bool = False
    #: Whether the audit has read it as one to drop.
    found: bool = False
    failures: int = 1


@dataclass(frozen=True)
class Rules(explore.Rules):
    served: bool = True


Worlds = Iterable[World]


def model(rules: Rules) -> Model[World]:
    def broken(before: World, step: Step[World], after: World) -> str | None:
        if before.status in ("completed", "cancelled") and after.status != before.status:
            return "I2: a job that is over has changed"
        if after.status == "cancelled" and before.status == "running":
            return "a job that runs was dropped"
        if after.status == "cancelled" and before.status != "cancelled" and before.tried:
            return "a retry was dropped: its first attempt had started in time"
        if after.status == "running" and after.claimed_late and not after.tried:
            return "it was started too late"
        return None

    steps = [Step("ITS TIME PASSES", passes), *worker(rules), *leader(rules)]
    return Model(World(), steps, broken, lambda world: world.status in ("completed", "cancelled"))


def passes(world: World) -> Worlds:
    return () if world.late else (world._replace(late=True),)


def worker(rules: Rules) -> list[Step[World]]:
    def claims(world: World) -> Worlds:
        if world.status != "waiting" or not rules.served:
            return ()
        return (world._replace(status="claimed", claimed_late=world.late),)

    def begins(world: World) -> Worlds:
        if world.status != "claimed":
            return ()
        if world.claimed_late and not world.tried and not rules.without("expiry: asked before the first run"):
            return (world._replace(status="cancelled"),)
        return (world._replace(status="running"),)

    def completes(world: World) -> Worlds:
        return (world._replace(status="completed"),) if world.status == "running" else ()

    def fails(world: World) -> Worlds:
        if world.status != "running" or not world.failures:
            return ()
        return (world._replace(status="waiting", tried=True, failures=0),)

    return [
        Step("3 claim", claims),
        Step("3 begins, or is dropped", begins),
        Step("6 settle: completed", completes),
        Step("6 the task FAILS", fails, fault=True),
    ]


def leader(rules: Rules) -> list[Step[World]]:
    def finds(world: World) -> Worlds:
        if world.status != "waiting" or not world.late or world.tried or world.found:
            return ()
        return () if rules.without("expiry: audit") else (world._replace(found=True),)

    def drops(world: World) -> Worlds:
        if not world.found:
            return ()
        waits = world.status == "waiting" or rules.without("expiry: still waits, inside the write")
        first = not world.tried or rules.without("expiry: still no attempt, inside the write")
        over = world.status in ("completed", "cancelled")
        if waits and first and not over:
            return (world._replace(status="cancelled", found=False),)
        return (world._replace(found=False),)

    def dies(world: World) -> Worlds:
        return (world._replace(found=False),) if world.found else ()

    return [
        Step("11 audit: finds it too late", finds),
        Step("11 audit: drops it", drops),
        Step("LEADER DIES in the audit", dies, fault=True),
    ]
