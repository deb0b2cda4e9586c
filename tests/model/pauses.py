"""A pause begins and ends while workers pop, park and claim; and a waiting job is changed (protocol, 20 and 21).

One job, its id in Redis, workers that know the pauses of some version, a client that pauses and resumes, a leader. The
pause is of jobs with certain values, and a change of the job takes it out of the pause. The questions: does no worker
start a job that it knows to be paused, and does a job whose pause has ended, or that it is out of, always find its way
back, whichever of them dies in between and whatever Redis forgets?
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from tests.model.explore import Model, Rules, Step, replaced

#: Versions of the record after nothing, after the pause, after the resume.
_LAST: Final = 2


class Worker(NamedTuple):
    #: The version of the pauses that it knows.
    knows: int = 0
    popped: bool = False
    #: It has read that the job is paused by the pauses of this version, and is about to park it; it has parked it, and
    #: is to look at it again.
    parks: int | None = None
    looks: bool = False
    #: What it has seen that its next claim is to leave out; as a ghost, for the invariant.
    claimed_under: int | None = None


class World(NamedTuple):
    job: Literal["pending", "running", "completed"] = "pending"
    rev: int = 1
    #: The record: paused at version 1, and not any more at version 2.
    version: int = 0
    #: In Redis: the version, and where the job's id is.
    hint: int | None = 0
    lane: bool = True
    parked: bool = False
    #: A pause or a resume that has written the record and has not announced it; one that has not listed what is parked.
    announcing: bool = False
    listing: bool = False
    #: For which version the leader has looked at what is parked.
    looked: int | None = None
    workers: tuple[Worker, ...] = (Worker(), Worker())
    #: The revision that somebody has read who is about to change the job; whether a job was changed that did not wait.
    read: int | None = None
    changed_late: bool = False
    #: Whether its payload has the values of the pause; whether who has changed that is about to list it, if it is
    #: parked.
    matches: bool = True
    unparks: bool = False
    faults: int = 1


Worlds = Iterable[World]


def paused(version: int) -> bool:
    return version == 1


def held(world: World) -> bool:
    """Whether the job is paused, by the record."""
    return paused(world.version) and world.matches


def model(rules: Rules) -> Model[World]:
    steps: list[Step[World]] = []
    for i in range(2):
        steps += WorkerSteps(rules, i).steps()
    steps += Others(rules).steps()
    return Model(World(), steps, broken, good)


def broken(_before: World, _step: Step[World], world: World) -> str | None:
    if any(worker.claimed_under == 1 for worker in world.workers):
        return "a worker starts a job that it knows to be paused"
    return "a job is changed that runs or is over" if world.changed_late else None


def good(world: World) -> bool:
    """Done; or paused, and listed where its end is found."""
    waits = held(world) and not world.announcing and (world.lane or world.parked)
    return world.job == "completed" or waits


class WorkerSteps:
    def __init__(self, rules: Rules, i: int) -> None:
        self.rules = rules
        self.i = i

    def steps(self) -> list[Step[World]]:
        at = f" (worker {self.i})"
        return [
            Step("8 beats, and reads the pauses" + at, self.beat, actor=self.i),
            Step("2 pops" + at, self.pop, actor=self.i),
            Step("3 claims" + at, self.claim, actor=self.i),
            Step("20 reads what is paused" + at, self.sift, actor=self.i),
            Step("20 parks" + at, self.park, actor=self.i),
            Step("20 looks again" + at, self.look, actor=self.i),
            Step("6 completed" + at, self.complete, actor=self.i),
        ]

    def me(self, world: World, worker: Worker) -> World:
        return world._replace(workers=replaced(world.workers, self.i, worker))

    def beat(self, world: World) -> Worlds:
        """Another version in Redis, or none: it reads the record, and repairs what Redis has. So every 150 beats."""
        worker = world.workers[self.i]
        if world.hint != worker.knows or not self.rules.without("beat: reads the record every 150 beats"):
            yield self.me(world._replace(hint=world.version), worker._replace(knows=world.version))

    def pop(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        if world.lane and not worker.popped:
            yield self.me(world._replace(lane=False), worker._replace(popped=True))

    def claim(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        known = paused(worker.knows) and world.matches
        leaves = known and not self.rules.without("claim: not what is paused")
        if worker.popped and worker.parks is None and not leaves:
            claimed = worker._replace(popped=False, claimed_under=worker.knows if world.matches else 0)
            if world.job == "pending":
                yield self.me(world._replace(job="running", rev=world.rev + 1), claimed)
            else:
                yield self.me(world, worker._replace(popped=False))

    def sift(self, world: World) -> Worlds:
        """It looks at what it has not claimed: what it knows to be paused is parked, the rest goes back to its lane."""
        worker = world.workers[self.i]
        if worker.popped and worker.parks is None and paused(worker.knows):
            if world.matches:
                yield self.me(world, worker._replace(parks=worker.knows))
            else:
                yield self.me(world, worker._replace(popped=False))._replace(lane=True)

    def park(self, world: World) -> Worlds:
        """By the pauses that it looked by, if these are still those of Redis; else it goes back to its lane."""
        worker = world.workers[self.i]
        if worker.parks is not None:
            free = worker._replace(popped=False, parks=None)
            if world.hint == worker.parks or self.rules.without("park: only under the known version"):
                looks = not self.rules.without("park: looks again")
                yield self.me(world, free._replace(looks=looks))._replace(parked=True)
            else:
                yield self.me(world, free)._replace(lane=True)

    def look(self, world: World) -> Worlds:
        """The payload may have been changed in between."""
        worker = world.workers[self.i]
        if worker.looks:
            found = world.parked and not world.matches
            seen = self.me(world, worker._replace(looks=False))
            yield seen._replace(lane=world.lane or found, parked=world.parked and not found)

    def complete(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        if world.job == "running" and worker.claimed_under is not None:
            yield self.me(world._replace(job="completed", rev=world.rev + 2), worker._replace(claimed_under=None))


class Others:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def steps(self) -> list[Step[World]]:
        return [
            Step("20 PAUSES OR RESUMES: the record", self.write, fault=True),
            Step("20 announces the version", self.announce),
            Step("20 lists what was parked", self.list),
            Step("20 the leader lists what was parked", self.lead),
            Step("11 audits", self.audit),
            Step("21 READS the job to change it", self.read, fault=True),  # nobody has to
            Step("21 changes it", self.change),
            Step("21 lists it if it was parked", self.unpark),
            Step("WHO PAUSES OR RESUMES DIES", self.die, fault=True),
            Step("FLUSHALL", self.flush, fault=True),
        ]

    def write(self, world: World) -> Worlds:
        if world.version < _LAST and not world.announcing and not world.listing:
            yield world._replace(version=world.version + 1, announcing=True)

    def announce(self, world: World) -> Worlds:
        if world.announcing:
            yield world._replace(announcing=False, hint=world.version, listing=True)

    def list(self, world: World) -> Worlds:
        if world.listing:
            found = world.parked and not held(world)
            yield world._replace(listing=False, lane=world.lane or found, parked=world.parked and not found)

    def lead(self, world: World) -> Worlds:
        """Once for each version that Redis shows."""
        if self.rules.without("resume: the leader lists what is parked"):
            return
        if world.parked and world.hint != world.looked:
            found = not held(world)
            yield world._replace(looked=world.hint, lane=world.lane or found, parked=not found)

    def audit(self, world: World) -> Worlds:
        """Every five minutes, and after a flush."""
        if world.job != "pending":
            return
        if world.parked and not held(world) and not self.rules.without("audit: lists what is not paused"):
            yield world._replace(parked=False, lane=True)
        elif not world.lane and not world.parked and not any(worker.popped for worker in world.workers):
            yield world._replace(lane=True)

    def read(self, world: World) -> Worlds:
        if world.job == "pending" and world.read is None and world.rev == 1:
            yield world._replace(read=world.rev)

    def change(self, world: World) -> Worlds:
        if world.read is None:
            return
        waits = world.job == "pending" or self.rules.without("update: status inside the write")
        same = world.rev == world.read or self.rules.without("update: rev inside the write")
        after = world._replace(read=None)
        if waits and same:
            late = world.job != "pending"
            yield after._replace(rev=world.rev + 1, changed_late=late, matches=False, unparks=not late)
        else:
            yield after

    def unpark(self, world: World) -> Worlds:
        if world.unparks:
            yield world._replace(unparks=False, lane=world.lane or world.parked, parked=False)

    def die(self, world: World) -> Worlds:
        """Who changes a job and dies before it is listed again leaves that to the audit."""
        if world.faults and (world.announcing or world.listing):
            yield world._replace(announcing=False, listing=False, faults=world.faults - 1)

    def flush(self, world: World) -> Worlds:
        if world.faults:
            yield world._replace(hint=None, lane=False, parked=False, faults=world.faults - 1)
