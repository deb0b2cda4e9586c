"""Dead letters: the projection, its repair, two requeues at once, automatic recovery (protocol.md, step 12).

`status = failed` with its death_seq is the truth. Processes that project or repair have read some time ago, and may die
between the read and the write; a process that requeues may die between each two of its writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.model import explore
from tests.model.explore import Model, Step


class Job(NamedTuple):
    failed: bool = False
    #: Counts deaths; never reset.
    death: int = 0
    #: Automatic recoveries since the last requeue by hand, as the document says; and as it really was (ghost).
    recoveries: int = 0
    recovered: int = 0


class Requeue(NamedTuple):
    """One caller, or the recovery: the death that it was shown, and which of its writes come next."""

    doing: Literal["", "shown", "revived", "counted"] = ""
    death: int = 0


class World(NamedTuple):
    job: Job = Job()
    #: death_seq of the dead letter; 0: there is none.
    dead_letter: int = 0
    #: death_seq of the dead letter that is about to be written, and of the one that is about to be deleted.
    projecting: int = 0
    deleting: int = 0
    callers: tuple[Requeue, Requeue] = (Requeue(), Requeue())
    recovery: Requeue = Requeue()
    #: How many more times the job dies, and how many more requeues begin.
    deaths: int = 3
    requeues: int = 2


@dataclass(frozen=True)
class Rules(explore.Rules):
    #: DTQ_DEAD_LETTER_RECOVERIES.
    recoveries: int = 1


Worlds = Iterable[World]


def model(rules: Rules) -> Model[World]:
    def broken(world: World, step: Step[World], after: World) -> str | None:
        before, now = world.job, after.job
        if before.failed and not now.failed:
            caller = world.recovery if step.actor is None else world.callers[step.actor]
            if caller.death != before.death:
                return "I2: a requeue took a later death than the one that it was shown"
        if not before.failed and now.recovered != before.recovered:
            return "I2: a job that is not failed was requeued"
        if now.recovered > rules.recoveries:
            return "I4: recovered automatically more often than allowed"
        if now.death < before.death:
            return "I2: death_seq was lowered"
        return None

    steps = [*failures(rules), *projection(rules), *automatic(rules)]
    for n in (0, 1):
        steps += by_hand(rules, n)
    return Model(World(), steps, broken, good)


def good(world: World) -> bool:
    """I5: no more failures to come, and the collection is consistent."""
    return world.dead_letter == (world.job.death if world.job.failed else 0)


def failures(rules: Rules) -> list[Step[World]]:
    def dies(world: World) -> Worlds:
        """The job fails for good; its worker, or the leader, is to write the dead letter."""
        job = world.job
        if job.failed or not world.deaths:
            return ()
        return (world._replace(job=job._replace(failed=True, death=job.death + 1), deaths=world.deaths - 1),)

    return [Step("6 the job FAILS", dies, fault=True)]


def projection(rules: Rules) -> list[Step[World]]:
    def sees_death(world: World) -> Worlds:
        if not world.job.failed or world.dead_letter == world.job.death or world.projecting:
            return ()
        return (world._replace(projecting=world.job.death),)

    def writes_letter(world: World) -> Worlds:
        """Idempotent; a dead letter of a later failure is left as it is."""
        if not world.projecting:
            return ()
        blind = rules.without("dead letter: a later one is left")
        dead_letter = world.projecting if blind else max(world.dead_letter, world.projecting)
        return (world._replace(dead_letter=dead_letter, projecting=0),)

    def sees_ghost(world: World) -> Worlds:
        stale = world.dead_letter and (not world.job.failed or world.dead_letter != world.job.death)
        if not stale or world.deleting or rules.without("dead letters: repaired by the leader"):
            return ()
        return (world._replace(deleting=world.dead_letter),)

    def deletes_letter(world: World) -> Worlds:
        if not world.deleting:
            return ()
        return (world._replace(dead_letter=without_dead_letter(rules, world.dead_letter, world.deleting), deleting=0),)

    def projector_dies(world: World) -> Worlds:
        return (world._replace(projecting=0, deleting=0),) if world.projecting or world.deleting else ()

    return [
        Step("12 sees a failure without its dead letter", sees_death),
        Step("12 writes the dead letter", writes_letter),
        Step("12 sees a stale dead letter", sees_ghost),
        Step("12 deletes it", deletes_letter),
        Step("PROJECTOR DIES", projector_dies, fault=True),
    ]


def without_dead_letter(rules: Rules, dead_letter: int, death: int) -> int:
    """Delete the dead letter of this failure (or an earlier one), never that of a later one."""
    return 0 if dead_letter <= death or rules.without("dead letter: deleted with its death_seq") else dead_letter


def revive(rules: Rules, job: Job, death: int, recoveries: int) -> Job | None:
    """The compare-and-set {failed, death_seq: k}; None: a conflict."""
    if not job.failed or (job.death != death and not rules.without("requeue: death_seq inside the write")):
        return None
    return job._replace(failed=False, recoveries=recoveries)


def by_hand(rules: Rules, n: int) -> list[Step[World]]:
    def now(world: World, caller: Requeue) -> World:
        callers = (caller, world.callers[1]) if n == 0 else (world.callers[0], caller)
        return world._replace(callers=callers)

    def asks(world: World) -> Worlds:
        if world.callers[n].doing or not world.job.failed or not world.requeues:
            return ()
        return (now(world, Requeue("shown", world.job.death))._replace(requeues=world.requeues - 1),)

    def writes(world: World) -> Worlds:
        caller = world.callers[n]
        if caller.doing != "shown":
            return ()
        job = revive(rules, world.job, caller.death, 0)
        if job is None:
            return (now(world, Requeue()),)
        return (now(world, caller._replace(doing="revived"))._replace(job=job._replace(recovered=0)),)

    def deletes(world: World) -> Worlds:
        caller = world.callers[n]
        if caller.doing != "revived":
            return ()
        return (
            now(world, Requeue())._replace(dead_letter=without_dead_letter(rules, world.dead_letter, caller.death)),
        )

    def dies(world: World) -> Worlds:
        return (now(world, Requeue()),) if world.callers[n].doing else ()

    at = f" (caller {n})"
    return [
        Step("12 REQUEUE asked for" + at, asks, fault=True, actor=n),
        Step("12 requeue: the job is requeued, or a conflict" + at, writes, actor=n),
        Step("12 requeue: deletes the dead letter" + at, deletes, actor=n),
        Step("CALLER DIES" + at, dies, fault=True, actor=n),
    ]


def automatic(rules: Rules) -> list[Step[World]]:
    def looks(world: World) -> Worlds:
        if world.recovery.doing or not world.job.failed or world.job.recoveries >= rules.recoveries:
            return ()
        return (world._replace(recovery=Requeue("shown", world.job.death)),)

    def writes(world: World) -> Worlds:
        """`recoveries` is raised in that same write."""
        recovery = world.recovery
        if recovery.doing != "shown":
            return ()
        apart = rules.without("recovery: counted in the same write")
        job = revive(rules, world.job, recovery.death, world.job.recoveries + (0 if apart else 1))
        if job is None:
            return (world._replace(recovery=Requeue()),)
        after = recovery._replace(doing="counted" if apart else "revived")
        return (world._replace(recovery=after, job=job._replace(recovered=job.recovered + 1)),)

    def counts(world: World) -> Worlds:
        """How it must not be done."""
        if world.recovery.doing != "counted":
            return ()
        job = world.job._replace(recoveries=world.job.recoveries + 1)
        return (world._replace(job=job, recovery=world.recovery._replace(doing="revived")),)

    def deletes(world: World) -> Worlds:
        if world.recovery.doing != "revived":
            return ()
        dead_letter = without_dead_letter(rules, world.dead_letter, world.recovery.death)
        return (world._replace(dead_letter=dead_letter, recovery=Requeue()),)

    def dies(world: World) -> Worlds:
        return (world._replace(recovery=Requeue()),) if world.recovery.doing else ()

    return [
        Step("12 recovery: finds a death", looks),
        Step("12 recovery: the job is requeued, or a conflict", writes),
        Step("12 recovery: counted apart", counts),
        Step("12 recovery: deletes the dead letter", deletes),
        Step("LEADER DIES in the recovery", dies, fault=True),
    ]
