"""Several jobs, one claim for many of them, and a poison job that takes its worker with it (protocol.md, 3 and 9).

One claim call may get some of its jobs, all, or none, one document at a time, and may go on long after its worker
stopped waiting. A poison job kills the worker that runs it; all that this worker held is lost once. What is asked: does
the poison job end among the dead letters, do the good ones complete, is never a good one failed for its neighbour?
How a leader comes to take a job for lost is the matter of `one_job`; here it is one step, of a dead or overdue one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal, NamedTuple

from tests.model import explore
from tests.model.explore import Model, Step, replaced

NOBODY: Final = -1
GONE: Final = 9


class Job(NamedTuple):
    status: Literal["waiting", "running", "completed", "failed"] = "waiting"
    claim: int = 0
    worker: int = NOBODY
    leased: bool = False
    losses: int = 0


class Held(NamedTuple):
    """What a worker has found to be its own; all of it starts at once when slots are free."""

    job: int
    claim: int
    started: bool = False
    #: It has run for a while and harmed none; a poison job kills its worker before.
    proven: bool = False


class Ask(NamedTuple):
    """A claim that is under way: the ids that the server has not come to yet, and whose it is."""

    left: tuple[int, ...]
    #: Sent for one job that has lost a worker; a batch has `losses: 0` in its filter.
    single: bool
    owner: int
    #: 0 until it has got its first job.
    claim: int = 0
    #: Its worker has looked, and waits no more for what may still come.
    given_up: bool = False


class Worker(NamedTuple):
    mode: Literal["up", "paused", "dead"] = "up"
    held: tuple[Held, ...] = ()
    ask: Ask | None = None


class World(NamedTuple):
    jobs: tuple[Job, ...]
    workers: tuple[Worker, ...]
    #: Claims that have got a job so far.
    claims: int = 0
    faults: int = 0
    recoveries: int = 0


@dataclass(frozen=True)
class Rules(explore.Rules):
    faults: frozenset[str] = frozenset()
    jobs: int = 2
    poison: frozenset[int] = frozenset({0})
    max_losses: int = 2
    slots: int = 2
    recoveries: int = 0


Worlds = Iterable[World]
#: Every fault that the model knows.
FAULTS: Final = frozenset({"crash", "pause", "claim late"})


def model(rules: Rules, *, workers: int = 1, faults: int = 0) -> Model[World]:
    steps: list[Step[World]] = []
    for i in range(workers):
        steps += WorkerSteps(rules, i).steps()
    steps += leader_steps(rules)
    start = World((Job(),) * rules.jobs, (Worker(),) * workers, faults=faults, recoveries=rules.recoveries)

    def broken(world: World, step: Step[World], after: World) -> str | None:
        if world.jobs == after.jobs:
            return None
        for number, (before, now) in enumerate(zip(world.jobs, after.jobs, strict=True)):
            if before.status == "completed" and now != before:
                return "I2: a completed job was changed"
            if now.status == "failed" and number not in rules.poison:
                return "I4: a good job was failed as worker_lost, for what its neighbour did"
        return None

    def good(world: World) -> bool:
        return all(
            job.status == ("failed" if number in rules.poison else "completed") for number, job in enumerate(world.jobs)
        )

    return Model(start, steps, broken, good)


class WorkerSteps:
    """Fetch, claim, run and settle of worker number `i`, for several jobs at once."""

    def __init__(self, rules: Rules, i: int) -> None:
        self.rules = rules
        self.i = i

    def steps(self) -> list[Step[World]]:
        at = f" (worker {self.i})"
        protocol = [
            ("3 claims some", self.send_batch),
            ("3 claims one that has lost a worker", self.send_single),
            ("3 the server takes the next id", self.serve),
            ("3 the rest of the claim is dropped", self.drop),
            ("3 find by claim", self.find),
            ("4 starts", self.begin),
            ("4 has run for a while", self.prove),
            ("4 the poison KILLS THE WORKER", self.killed),
            ("5 renew: no match, stops it", self.stop),
            ("5 releases what it does not hold", self.release_not_held),
            ("6 settle: completed", self.settle),
            ("time: a lease runs out", self.lease_runs_out),
            ("wakes up", self.resume),
            ("is started again, with a new id", self.restart),
        ]
        faults = {
            "crash": ("CRASH", self.crash),
            "pause": ("PAUSE", self.pause),
            "claim late": ("3 TIME-OUT, find by claim", self.find_early),
        }
        chosen = [entry for name, entry in faults.items() if name in self.rules.faults]
        return [Step(label + at, run, actor=self.i) for label, run in protocol] + [
            Step(label + at, run, fault=True, actor=self.i) for label, run in chosen
        ]

    # -- what may be claimed

    def last_chance(self, job: Job) -> bool:
        return job.losses > 0 and job.losses >= min(2, self.rules.max_losses - 1)

    def free_slots(self, world: World) -> int:
        """None beside a job that runs alone."""
        worker = world.workers[self.i]
        alone = any(self.last_chance(world.jobs[held.job]) for held in worker.held)
        if alone and not self.rules.without("last chance: takes nothing else meanwhile"):
            return 0
        slots = self.rules.slots * (2 if self.rules.without("claim: no more than the free slots") else 1)
        return slots - len(worker.held)

    def idle(self, world: World) -> bool:
        worker = world.workers[self.i]
        return worker.mode == "up" and worker.ask is None

    def send_batch(self, world: World) -> Worlds:
        """Any of the waiting jobs: Redis is a hint, and may have given these ids, in this order, to anybody."""
        if not self.idle(world):
            return
        any_losses = self.rules.without("batch: losses 0 in the filter")
        fresh = [n for n, job in enumerate(world.jobs) if job.status == "waiting" and (any_losses or not job.losses)]
        for size in range(1, min(self.free_slots(world), len(fresh)) + 1):
            for some in combinations(fresh, size):
                yield self.now(world, ask=Ask(some, False, self.i))

    def send_single(self, world: World) -> Worlds:
        if not self.idle(world) or self.free_slots(world) <= 0:
            return
        held = world.workers[self.i].held
        unproven = any(world.jobs[h.job].losses and not h.proven for h in held)
        if self.rules.without("lost before: one at a time until it has run for a while"):
            unproven = False
        for number, job in enumerate(world.jobs):
            if job.status != "waiting" or not job.losses:
                continue
            alone = self.last_chance(job) and not self.rules.without("last chance: runs alone")
            if not (held if alone else unproven):
                yield self.now(world, ask=Ask((number,), True, self.i))

    # -- the claim, one document at a time

    def serve(self, world: World) -> Worlds:
        ask = world.workers[self.i].ask
        if ask is None or not ask.left:
            return ()
        number, *rest = ask.left
        job = world.jobs[number]
        fits = ask.single or not job.losses or self.rules.without("batch: losses 0 in the filter")
        if job.status != "waiting" or not fits:
            return (self.now(world, ask=ask._replace(left=tuple(rest))),)
        claim = ask.claim or world.claims + 1
        taken = job._replace(status="running", claim=claim, worker=ask.owner, leased=True)
        world = with_job(world, number, taken)._replace(claims=max(claim, world.claims))
        return (self.now(world, ask=ask._replace(left=tuple(rest), claim=claim)),)

    def drop(self, world: World) -> Worlds:
        ask = world.workers[self.i].ask
        return (self.now(world, ask=None),) if ask and ask.given_up else ()

    def find(self, world: World) -> Worlds:
        """That set, and only that, is held."""
        worker = world.workers[self.i]
        if worker.mode != "up" or worker.ask is None or worker.ask.left or worker.ask.given_up:
            return ()
        return (self.now(world, held=self.found(world, worker.ask), ask=None),)

    def find_early(self, world: World) -> Worlds:
        """The reply did not come, and some of the claim may still be carried out."""
        worker, ask = world.workers[self.i], world.workers[self.i].ask
        if not world.faults or worker.mode != "up" or ask is None or not ask.left or ask.given_up:
            return ()
        held = worker.held if self.rules.without("claim: find after any outcome") else self.found(world, ask)
        return (self.now(faulty(world), held=held, ask=ask._replace(given_up=True)),)

    def found(self, world: World, ask: Ask) -> tuple[Held, ...]:
        new = (
            Held(number, ask.claim)
            for number, job in enumerate(world.jobs)
            if ask.claim and job.claim == ask.claim and job.status == "running"
        )
        return tuple(sorted((*world.workers[self.i].held, *new)))

    # -- run and settle

    def begin(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        if worker.mode != "up" or sum(held.started for held in worker.held) >= self.rules.slots:
            return
        for k, held in enumerate(worker.held):
            if not held.started:
                yield self.now(world, held=replaced(worker.held, k, held._replace(started=True)))

    def prove(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        if worker.mode != "up":
            return
        for k, held in enumerate(worker.held):
            lost_before = world.jobs[held.job].losses > 0
            if held.started and lost_before and not held.proven and held.job not in self.rules.poison:
                yield self.now(world, held=replaced(worker.held, k, held._replace(proven=True)))

    def running(self, world: World) -> Iterator[tuple[Held, tuple[Held, ...]]]:
        worker = world.workers[self.i]
        if worker.mode == "up":
            for k, held in enumerate(worker.held):
                if held.started:
                    yield held, (*worker.held[:k], *worker.held[k + 1 :])

    def killed(self, world: World) -> Worlds:
        if any(held.job in self.rules.poison for held, _ in self.running(world)):
            yield self.dead(world)

    def settle(self, world: World) -> Worlds:
        for held, rest in self.running(world):
            if held.job in self.rules.poison:
                continue
            job = world.jobs[held.job]
            if job.status == "running" and job.claim == held.claim:
                done = job._replace(status="completed", worker=NOBODY, leased=False)
                yield with_job(self.now(world, held=rest), held.job, done)
            else:
                yield self.now(world, held=rest)

    def stop(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        ours = tuple(
            held
            for held in worker.held
            if world.jobs[held.job].status == "running" and world.jobs[held.job].claim == held.claim
        )
        if worker.mode == "up" and ours != worker.held:
            yield self.now(world, held=ours)

    def release_not_held(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        if worker.mode != "up" or (worker.ask and not worker.ask.given_up):
            return
        if self.rules.without("release what is not held"):
            return
        for number, job in enumerate(world.jobs):
            if job.status == "running" and job.worker == self.i and not self.holds(worker, number, job):
                yield with_job(world, number, job._replace(status="waiting", worker=NOBODY, leased=False))

    def holds(self, worker: Worker, number: int, job: Job) -> bool:
        return any(held.job == number and held.claim == job.claim for held in worker.held)

    # -- time, crash and pause

    def lease_runs_out(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        for number, job in enumerate(world.jobs):
            if not job.leased or job.worker not in (self.i, GONE):
                continue
            awaited = worker.ask is not None and worker.ask.claim == job.claim
            renewed = worker.mode == "up" and (self.holds(worker, number, job) or awaited)
            if job.worker == GONE or not renewed:
                yield with_job(world, number, job._replace(leased=False))

    def resume(self, world: World) -> Worlds:
        return (self.now(world, mode="up"),) if world.workers[self.i].mode == "paused" else ()

    def restart(self, world: World) -> Worlds:
        if world.workers[self.i].mode != "dead":
            return ()
        jobs = tuple(job._replace(worker=GONE) if job.worker == self.i else job for job in world.jobs)
        return (self.now(world._replace(jobs=jobs), mode="up"),)

    def crash(self, world: World) -> Worlds:
        return (self.dead(faulty(world)),) if world.faults and world.workers[self.i].mode == "up" else ()

    def pause(self, world: World) -> Worlds:
        up = world.workers[self.i].mode == "up"
        return (self.now(faulty(world), mode="paused"),) if world.faults and up else ()

    def dead(self, world: World) -> World:
        ask = world.workers[self.i].ask
        left = ask and ask._replace(given_up=True, owner=GONE)
        return self.now(world, mode="dead", held=(), ask=left)

    def now(self, world: World, **fields: object) -> World:
        worker = world.workers[self.i]._replace(**fields)  # pyright: ignore[reportArgumentType]
        return world._replace(workers=replaced(world.workers, self.i, worker))


def with_job(world: World, number: int, job: Job) -> World:
    return world._replace(jobs=replaced(world.jobs, number, job))


def faulty(world: World) -> World:
    return world._replace(faults=world.faults - 1)


def leader_steps(rules: Rules) -> list[Step[World]]:
    def lose(world: World) -> Worlds:
        """Its worker is dead or paused, or its lease is over."""
        for number, job in enumerate(world.jobs):
            if job.status != "running":
                continue
            missing = job.worker == GONE or world.workers[job.worker].mode != "up"
            if missing or not job.leased:
                losses = job.losses + 1
                status = "failed" if losses >= rules.max_losses else "waiting"
                lost = job._replace(status=status, losses=losses, worker=NOBODY, leased=False)
                yield with_job(world, number, lost)

    def recover(world: World) -> Worlds:
        """After its cool-down it runs alone, so that it harms no other job if it is still poison."""
        for number, job in enumerate(world.jobs):
            if job.status == "failed" and world.recoveries:
                losses = 0 if rules.without("recovery: runs alone") else rules.max_losses - 1
                recovered = job._replace(status="waiting", losses=losses)
                yield with_job(world, number, recovered)._replace(recoveries=world.recoveries - 1)

    return [Step("9 lost", lose), Step("12 automatic recovery", recover)]
