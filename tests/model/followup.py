"""Follow-ups: what is submitted once a job has ended, by who ended it or by the leader (protocol.md, step 17).

Two processes may submit the same, both may die between each two of their writes, and the job may be requeued and end
again meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from tests.model.explore import Model, Rules, Step


class Submitter(NamedTuple):
    """A process that submits what is to follow: the end that it has read, and what it did about it."""

    doing: Literal["", "read", "inserted"] = ""
    end: int = 0


class World(NamedTuple):
    status: Literal["running", "failed", "cancelled"] = "running"
    #: Whether somebody has asked for its cancellation.
    cancel: bool = False
    #: Its ends so far; how often it may run again.
    ends: int = 0
    requeues: int = 1
    #: The ends that are recorded as to be followed, and the one that is about to be, where the end does not record it.
    recorded: frozenset[int] = frozenset()
    late: int = 0
    #: The jobs that followed, by the end and a number that is 0 unless ids differ.
    followers: frozenset[tuple[int, int]] = frozenset()
    #: Ends that were failures, by the record: what must have been followed (ghost).
    failures: frozenset[int] = frozenset()
    worker: Submitter = Submitter()
    leader: Submitter = Submitter()


Worlds = Iterable[World]


def model(rules: Rules) -> Model[World]:
    def broken(before: World, step: Step[World], after: World) -> str | None:
        del before, step
        followed = [end for end, _ in after.followers]
        if len(followed) != len(set(followed)):
            return "an end was followed twice"
        if not set(followed) <= after.failures:
            return "an end that was no failure was followed"
        return None

    steps = [
        *job(rules),
        *submitter(rules, "worker"),
        *([] if rules.without("follow-up: audit") else submitter(rules, "leader")),
    ]
    return Model(World(), steps, broken, good)


def good(world: World) -> bool:
    """Each failure was followed, and nothing is left to do."""
    over = world.status != "running" and not world.recorded and not world.late
    return over and {end for end, _ in world.followers} == world.failures


def job(rules: Rules) -> list[Step[World]]:
    def ends(world: World) -> Worlds:
        """One write: the end, and what is to follow, with the cancel request tested inside it."""
        if world.status != "running":
            return ()
        end = world.ends + 1
        status: Literal["failed", "cancelled"] = "cancelled" if world.cancel else "failed"
        after = world._replace(status=status, ends=end)
        if status == "failed":
            after = after._replace(failures=world.failures | {end})
        if status == "failed" or rules.without("follow-up: cancel inside the write"):
            if rules.without("follow-up: recorded with the end"):
                after = after._replace(late=end)
            else:
                after = after._replace(recorded=world.recorded | {end})
        return (after,)

    def records_late(world: World) -> Worlds:
        """How it must not be done."""
        return (world._replace(recorded=world.recorded | {world.late}, late=0),) if world.late else ()

    def cancels(world: World) -> Worlds:
        return () if world.cancel or world.status != "running" else (world._replace(cancel=True),)

    def requeued(world: World) -> Worlds:
        if world.status != "failed" or not world.requeues:
            return ()
        return (world._replace(status="running", requeues=0),)

    def worker_dies(world: World) -> Worlds:
        return (world._replace(worker=Submitter(), late=0),) if world.worker.doing or world.late else ()

    def leader_dies(world: World) -> Worlds:
        return (world._replace(leader=Submitter()),) if world.leader.doing else ()

    return [
        Step("6 the job ends", ends),
        Step("17 records it apart", records_late),
        Step("13 CANCEL asked for", cancels, fault=True),
        Step("12 REQUEUE", requeued, fault=True),
        Step("WORKER DIES", worker_dies, fault=True),
        Step("LEADER DIES", leader_dies, fault=True),
    ]


def submitter(rules: Rules, who: Literal["worker", "leader"]) -> list[Step[World]]:
    def put(world: World, now: Submitter) -> World:
        return world._replace(worker=now) if who == "worker" else world._replace(leader=now)

    def of(world: World) -> Submitter:
        return world.worker if who == "worker" else world.leader

    def reads(world: World) -> Worlds:
        if of(world).doing:
            return ()
        # The worker reads what it has just ended, and only then; the leader reads what there is.
        mine = sorted(world.recorded)[-1:] if who == "worker" else sorted(world.recorded)
        if who == "worker" and world.followers:
            return ()
        return [put(world, Submitter("read", end)) for end in mine]

    def inserts(world: World) -> Worlds:
        now = of(world)
        if now.doing != "read":
            return ()
        number = 0
        if rules.without("follow-up: one id for an end"):
            number = len(world.followers)
        followers = world.followers | {(now.end, number)}
        return (put(world._replace(followers=followers), now._replace(doing="inserted")),)

    def clears(world: World) -> Worlds:
        now = of(world)
        if now.doing != "inserted":
            return ()
        everything = rules.without("follow-up: cleared by its end")
        left = frozenset[int]() if everything else world.recorded - {now.end}
        return (put(world._replace(recorded=left), Submitter()),)

    at = f" ({who})"
    return [
        Step("17 reads what is to follow" + at, reads),
        Step("17 inserts it" + at, inserts),
        Step("17 clears the record" + at, clears),
    ]
