"""Unique jobs that expire: a waiting job that is too late holds its key no more (steps 3, 11 and 18).

Three submits of one key, one worker, the leader's audit. A job is late once its time has passed; that matters only
until its first attempt begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.model import explore
from tests.model.explore import Model, Step, replaced


class Job(NamedTuple):
    status: Literal["waiting", "running", "over", "dropped"] = "waiting"
    slot: bool = True
    late: bool = False
    #: Whether an attempt has ended: what waits now is a retry.
    tried: bool = False

    @property
    def never_runs(self) -> bool:
        return self.status == "waiting" and self.late and not self.tried


class World(NamedTuple):
    jobs: tuple[Job, ...] = ()
    #: Of each submit: the job that it was answered with; -1: none yet.
    answers: tuple[int, ...] = (-1, -1, -1)
    failures: int = 1


@dataclass(frozen=True)
class Rules(explore.Rules):
    during: Literal["waiting", "active"] = "waiting"
    replace: bool = False

    def stale(self, job: Job) -> bool:
        """Whether it should not hold a slot any more, so that the next submit frees it."""
        first = not job.tried or self.without("unique: a retry keeps its slot however late it is")
        expired = job.status == "waiting" and job.late and first
        if expired and not self.without("unique: an expired job holds no slot"):
            return True
        return job.status != "waiting" if self.during == "waiting" else job.status in ("over", "dropped")


Worlds = Iterable[World]


def model(rules: Rules) -> Model[World]:
    def broken(world: World, step: Step[World], after: World) -> str | None:
        del step
        if sum(job.slot for job in after.jobs) > 1:
            return "U1: two jobs hold the slot"
        can_run = [job for job in after.jobs if job.status in ("waiting", "running") and not job.never_runs]
        if rules.during == "active" and len(can_run) > 1:
            return "U2: two jobs of the key are active"
        for before, now in zip(world.answers, after.answers, strict=True):
            if before != now and after.jobs[now].never_runs:
                return "U7: a submit is answered with a job that will never run"
        for before, now in zip(world.jobs, after.jobs, strict=False):
            if now.status == "dropped" and before.status != "dropped" and before.tried:
                return "a retry was dropped: its first attempt had started in time"
        return None

    def good(world: World) -> bool:
        return min(world.answers) >= 0 and all(job.status in ("over", "dropped") for job in world.jobs)

    steps = [Step(f"18 submit {n}", submits(rules, n)) for n in range(3)]
    return Model(World(), [*steps, *(step for at in range(3) for step in changes(rules, at))], broken, good)


def job_is(world: World, at: int, job: Job) -> World:
    return world._replace(jobs=replaced(world.jobs, at, job))


def submits(rules: Rules, n: int) -> Callable[[World], Worlds]:
    def answered(world: World, at: int) -> World:
        return world._replace(answers=replaced(world.answers, n, at))

    def submit(world: World) -> Worlds:
        """One write: it makes the job, or finds the one that holds the slot, frees that or replaces its payload."""
        if world.answers[n] >= 0 or (n and world.answers[n - 1] < 0):
            return ()  # they are alike: the first one begins first
        for at, job in enumerate(world.jobs):
            if not job.slot:
                continue
            if rules.replace and job.status == "waiting":
                late = job.late and rules.without("unique: a replacement expires by its own submit")
                return (answered(job_is(world, at, job._replace(late=late, tried=False)), at),)
            if not rules.stale(job):
                return (answered(world, at),)
            world = job_is(world, at, job._replace(slot=False))
        made = world._replace(jobs=(*world.jobs, Job()))
        return (answered(made, len(world.jobs)),)

    return submit


def changes(rules: Rules, at: int) -> list[Step[World]]:
    def step(label: str, change: Callable[[World, Job], Job | None], *, fault: bool = False) -> Step[World]:
        def run(world: World) -> Worlds:
            if at >= len(world.jobs) or (after := change(world, world.jobs[at])) is None:
                return ()
            failures = world.failures - 1 if fault else world.failures
            return (job_is(world._replace(failures=failures), at, after),)

        return Step(f"{label} (job {at})", run, fault)

    def passes(_: World, job: Job) -> Job | None:
        return None if job.late else job._replace(late=True)

    def begins(_: World, job: Job) -> Job | None:
        """The claim, and the question before the first line of the task: two writes, between which only time passes."""
        if job.status != "waiting":
            return None
        slot = job.slot and rules.during == "active"
        if job.never_runs and not rules.without("unique: an expired job that is claimed is dropped"):
            return job._replace(status="dropped", slot=False)
        return job._replace(status="running", slot=slot)

    def completes(_: World, job: Job) -> Job | None:
        return job._replace(status="over", slot=False) if job.status == "running" else None

    def fails(world: World, job: Job) -> Job | None:
        if job.status != "running" or not world.failures:
            return None
        return job._replace(status="waiting", tried=True)

    def drops(_: World, job: Job) -> Job | None:
        return job._replace(status="dropped", slot=False) if job.never_runs else None

    return [
        step("ITS TIME PASSES", passes),
        step("3 is claimed, and begins or is dropped", begins),
        step("6 completes", completes),
        step("6 FAILS", fails, fault=True),
        step("11 audit: drops it", drops),
    ]
