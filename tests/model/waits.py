"""Jobs that wait for other jobs, slots of two kinds, and jobs that a worker cannot begin (protocol.md, 2 and 3).

A parent submits its children when it begins, and ends once they are done. A worker has slots for its loop and for
child processes, and each job needs one kind. What is asked: does everything end, whatever stands in front of what in
the lane, also when every slot is held by a parent, and when a worker has code that cannot begin a job?
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from tests.model import explore
from tests.model.explore import Model, Step, replaced

Kind = Literal["loop", "process"]
NOBODY: Final = -1


class Job(NamedTuple):
    #: `waits`: it has begun, and waits for its children.
    status: Literal["not submitted", "pending", "claimed", "runs", "waits", "completed", "failed"] = "not submitted"
    worker: int = NOBODY
    #: Whether it runs in a slot that a waiting job lends.
    borrowed: bool = False


class World(NamedTuple):
    jobs: tuple[Job, ...]
    lane: tuple[int, ...]
    faults: int = 0


@dataclass(frozen=True)
class Rules(explore.Rules):
    #: Of each job, the kind of slot that it needs, and the jobs that it submits and waits for.
    kinds: tuple[Kind, ...] = ()
    needs: tuple[tuple[int, ...], ...] = ()
    #: Slots of each kind of each worker.
    slots: int = 1
    #: Jobs that a worker's code cannot begin.
    unable: frozenset[tuple[int, int]] = frozenset()


Worlds = Iterable[World]


def model(rules: Rules, *, workers: int = 1, faults: int = 0) -> Model[World]:
    steps: list[Step[World]] = []
    for i in range(workers):
        steps += WorkerSteps(rules, i).steps()
    children = {job for needs in rules.needs for job in needs}
    first = tuple(number for number in range(len(rules.kinds)) if number not in children)
    jobs = tuple(Job("pending" if number in first else "not submitted") for number in range(len(rules.kinds)))

    def broken(_before: World, _step: Step[World], world: World) -> str | None:
        if any(job.status == "failed" for job in world.jobs):
            return "I4: a job has failed that never began"
        for i in range(workers):
            for kind in ("loop", "process"):
                if taken(rules, world, i, kind) > rules.slots:
                    return "a worker runs more than its slots and what is waited for"
        return None

    def good(world: World) -> bool:
        return all(job.status == "completed" for job in world.jobs)

    return Model(World(jobs, first, faults), steps, broken, good)


def taken(rules: Rules, world: World, i: int, kind: Kind) -> int:
    """Slots of worker `i` that are held, besides those that waiting jobs lend."""
    return sum(
        job.worker == i and not job.borrowed and rules.kinds[number] == kind for number, job in enumerate(world.jobs)
    )


class WorkerSteps:
    def __init__(self, rules: Rules, i: int) -> None:
        self.rules = rules
        self.i = i

    def steps(self) -> list[Step[World]]:
        at = f" (worker {self.i})"
        return [
            Step("2 takes the first that fits" + at, self.fetch, actor=self.i),
            Step("3 takes what is waited for" + at, self.help, actor=self.i),
            Step("3 gives back what it cannot begin" + at, self.decline, actor=self.i),
            Step("4 begins" + at, self.begin, actor=self.i),
            Step("6 completed" + at, self.complete, actor=self.i),
            Step("CRASH, and lost" + at, self.crash, fault=True, actor=self.i),
        ]

    def fetch(self, world: World) -> Worlds:
        """From the front of the lane: a job for which a slot is free, from behind those for which there is none."""
        for place, number in enumerate(world.lane):
            rest = (*world.lane[:place], *world.lane[place + 1 :])
            kind = self.rules.kinds[number]
            if world.jobs[number].status != "pending":
                yield world._replace(lane=rest)
                return
            if taken(self.rules, world, self.i, kind) < self.rules.slots or self.takes_anything(world, kind):
                yield with_job(world._replace(lane=rest), number, Job("claimed", self.i))
                return
            if self.rules.without("fetch: from behind what does not fit"):
                return

    def takes_anything(self, world: World, kind: Kind) -> bool:
        return self.rules.without("lent slot: only for what is waited for") and self.lent(world, kind) > 0

    def help(self, world: World) -> Worlds:
        """What running jobs wait for, in the slots that these lend. Its id stays in the lane, and is dropped later."""
        if self.rules.without("a waiting job lends its slot"):
            return
        for number, job in enumerate(world.jobs):
            kind = self.rules.kinds[number]
            if job.status == "pending" and self.awaited(world, number) and self.lent(world, kind) > 0:
                yield with_job(world, number, Job("claimed", self.i, borrowed=True))

    def lent(self, world: World, kind: Kind) -> int:
        mine = [
            job for number, job in enumerate(world.jobs) if job.worker == self.i and self.rules.kinds[number] == kind
        ]
        return sum(job.status == "waits" for job in mine) - sum(job.borrowed for job in mine)

    def awaited(self, world: World, number: int) -> bool:
        return any(
            job.status == "waits" and job.worker == self.i and number in needs
            for job, needs in zip(world.jobs, self.rules.needs, strict=True)
        )

    def decline(self, world: World) -> Worlds:
        for number, job in enumerate(world.jobs):
            if job.status == "claimed" and job.worker == self.i and (self.i, number) in self.rules.unable:
                if self.rules.without("decline: no attempt is used up"):
                    yield with_job(world, number, Job("failed"))
                else:
                    yield pending(world, number)

    def begin(self, world: World) -> Worlds:
        for number, job in enumerate(world.jobs):
            if job.status != "claimed" or job.worker != self.i or (self.i, number) in self.rules.unable:
                continue
            needs = self.rules.needs[number]
            after = with_job(world, number, job._replace(status="waits" if needs else "runs"))
            for child in needs:
                if after.jobs[child].status == "not submitted":
                    after = pending(after, child)
            yield after

    def complete(self, world: World) -> Worlds:
        for number, job in enumerate(world.jobs):
            done = all(world.jobs[child].status == "completed" for child in self.rules.needs[number])
            if job.worker == self.i and job.status in ("runs", "waits") and done:
                yield with_job(world, number, Job("completed"))

    def crash(self, world: World) -> Worlds:
        if not world.faults:
            return
        world = world._replace(faults=world.faults - 1)
        for number, job in enumerate(world.jobs):
            if job.worker == self.i:
                world = pending(world, number)
        yield world


def pending(world: World, number: int) -> World:
    return with_job(world, number, Job("pending"))._replace(lane=(*world.lane, number))


def with_job(world: World, number: int, job: Job) -> World:
    return world._replace(jobs=replaced(world.jobs, number, job))
