"""Unique jobs of one key: submits at once, claims, retries, requeues, windows (docs/internals/protocol.md, step 18).

The slot is a field of a job's document with a unique index. Each step is one write of one document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.model import explore
from tests.model.explore import Model, Step, replaced

During = Literal["waiting", "active", "window"]


class Job(NamedTuple):
    status: Literal["waiting", "running", "failed", "over"] = "waiting"
    slot: bool = True
    #: Which submit made it, and which one its payload is of.
    by: int = 0
    payload: int = 0
    #: The submits that have replaced it, in their order: it remembers all of them.
    replaced: tuple[int, ...] = ()
    #: Claims so far, and the claim after which its slot is to be given back: it could not begin.
    claim_number: int = 0
    give_back: int = 0
    #: Whether its window has passed.
    passed: bool = False
    #: Whether the index has refused the end of an attempt.
    refused: bool = False


class Client(NamedTuple):
    """One submit: `looked` and `frees` only where a guard is missing; `again` after a lost reply."""

    doing: Literal["", "looked", "frees", "again", "done"] = ""


class World(NamedTuple):
    jobs: tuple[Job, ...] = ()
    clients: tuple[Client, ...] = (Client(), Client(), Client())
    faults: int = 2


@dataclass(frozen=True)
class Rules(explore.Rules):
    during: During = "waiting"
    replace: bool = False
    faults: int = 2

    def stale(self, job: Job) -> bool:
        """Whether it should not hold a slot any more, so that the next submit frees it."""
        if self.during == "window":
            return job.passed
        if self.without("unique: the next submit frees a stale slot"):
            return False
        return job.status != "waiting" if self.during == "waiting" else job.status in ("failed", "over")


Worlds = Iterable[World]


def model(rules: Rules) -> Model[World]:
    def broken(world: World, step: Step[World], after: World) -> str | None:
        del step
        if sum(job.slot for job in after.jobs) > 1:
            return "U1: two jobs hold the slot"
        if rules.during == "active" and sum(job.status in ("waiting", "running") for job in after.jobs) > 1:
            return "U2: two jobs of the key are active"
        if len({job.by for job in after.jobs}) < len(after.jobs):
            return "U3: one submit has made two jobs"
        if any(sum(by in (job.by, *job.replaced) for job in after.jobs) > 1 for by in (1, 2, 3)):
            return "U8: one submit has replaced a job, and made or replaced another one"
        if rules.during == "window" and len(after.jobs) > len(world.jobs) and not all(j.passed for j in world.jobs):
            return "U4: two jobs are in one window"
        for job, now in zip(world.jobs, after.jobs, strict=False):
            if job.status == "running" and now.payload != job.payload:
                return "U5: a payload that was accepted is never run"
            if now.refused:
                return "U6: the index refuses the end of an attempt"
        return None

    def good(world: World) -> bool:
        """Every job is over, and the next submit of the key makes a job (or does once the window has passed)."""
        over = all(job.status in ("over", "failed") for job in world.jobs)
        held = [job for job in world.jobs if job.slot]
        free = all(rules.stale(job) or (rules.during == "window" and not job.passed) for job in held)
        return over and free and all(client.doing in ("", "done") for client in world.clients)

    steps = [step for n in range(3) for step in submits(rules, n)]
    steps += [step for at in range(3) for step in changes(rules, at)]
    return Model(World(faults=rules.faults), steps, broken, good)


def client_is(world: World, n: int, doing: Client) -> World:
    return world._replace(clients=replaced(world.clients, n, doing))


def job_is(world: World, at: int, job: Job) -> World:
    return world._replace(jobs=replaced(world.jobs, at, job))


def submits(rules: Rules, n: int) -> list[Step[World]]:
    def known(job: Job) -> tuple[int, ...]:
        """The replacements that it remembers."""
        if rules.without("unique: a job remembers who has replaced it"):
            return ()
        only_last = rules.without("unique: a job remembers all who have replaced it")
        return job.replaced[-1:] if only_last else job.replaced

    def put(world: World, *, blind: bool = False) -> World | None:
        """The upsert: makes the job, or finds the one that holds the slot, frees that or replaces its payload."""
        by = n + 1
        if any(job.by == by for job in world.jobs) and not rules.without("unique: a job's id is its own"):
            return world  # an earlier try has made it
        if any(by in known(job) for job in world.jobs):
            return world  # an earlier try has replaced it
        for at, job in enumerate(world.jobs):
            if not job.slot or blind:
                continue
            if rules.stale(job) and not rules.without("unique: the end of a window inside the write"):
                return put(job_is(world, at, job._replace(slot=False)))
            replaced = job._replace(payload=by, replaced=(*job.replaced, by))
            return job_is(world, at, replaced) if rules.replace else world
        return world._replace(jobs=(*world.jobs, Job(by=by, payload=by)))

    def submit(world: World) -> Worlds:
        if world.clients[n].doing not in ("", "again") or (n and not world.clients[n - 1].doing):
            return  # they are alike: the first one begins first
        if rules.without("unique: the index decides"):
            if not any(job.slot and not rules.stale(job) for job in world.jobs):
                yield client_is(world, n, Client("looked"))
            return
        if rules.without("unique: the end of a window inside the write") and any(
            job.slot and rules.stale(job) for job in world.jobs
        ):
            yield client_is(world, n, Client("frees"))
            return
        if (after := put(world)) is not None:
            yield client_is(after, n, Client("done"))
            if world.faults:
                yield client_is(after, n, Client("again"))._replace(faults=world.faults - 1)

    def inserts(world: World) -> Worlds:
        """How it must not be done: it has looked before."""
        if world.clients[n].doing == "looked" and (after := put(world, blind=True)) is not None:
            yield client_is(after, n, Client("done"))

    def frees(world: World) -> Worlds:
        """How it must not be done: it has seen a window that is over, and frees whatever holds the slot now."""
        if world.clients[n].doing == "frees":
            freed = world._replace(jobs=tuple(job._replace(slot=False) for job in world.jobs))
            yield client_is(freed, n, Client("again"))

    def leaves(world: World) -> Worlds:
        if world.clients[n].doing in ("again", "looked", "frees"):
            yield client_is(world, n, Client("done"))

    at = f" (client {n})"
    return [
        Step("18 submit" + at, submit),
        Step("18 inserts after a look" + at, inserts),
        Step("18 frees after a look" + at, frees),
        Step("CLIENT LEAVES" + at, leaves),
    ]


def changes(rules: Rules, at: int) -> list[Step[World]]:
    def step(label: str, change: Callable[[World, Job], Worlds], *, fault: bool = False) -> Step[World]:
        def run(world: World) -> Worlds:
            if at >= len(world.jobs) or (fault and not world.faults):
                return
            for after in change(world, world.jobs[at]):
                yield after._replace(faults=world.faults - 1) if fault else after

        return Step(f"{label} (job {at})", run, fault)

    def claimed(job: Job) -> Job:
        frees = rules.during == "waiting" and not rules.without("unique: freed by the claim")
        return job._replace(status="running", slot=job.slot and not frees, claim_number=job.claim_number + 1)

    def ended(job: Job, status: Literal["failed", "over"]) -> Job:
        frees = rules.during == "active" and not rules.without("unique: freed by the end")
        return job._replace(status=status, slot=job.slot and not frees)

    def claim(world: World, job: Job) -> Worlds:
        if job.status == "waiting":
            yield job_is(world, at, claimed(job))

    def declined(world: World, job: Job) -> Worlds:
        """Claimed, and given back before it began. Giving back the slot is a write of its own."""
        if job.status == "waiting" and job.claim_number < 2:
            back = claimed(job)._replace(status="waiting")
            yield job_is(world, at, back._replace(give_back=back.claim_number if rules.during == "waiting" else 0))

    def give_back(world: World, job: Job) -> Worlds:
        if not job.give_back:
            return
        done = job._replace(give_back=0)
        yield job_is(world, at, done)  # its worker has died
        still = job.status == "waiting" and job.claim_number == job.give_back
        taken = any(other.slot for other in world.jobs)
        if not still and not rules.without("unique: a slot is given back to the same claim only"):
            return
        if not taken or rules.without("unique: a slot is given back where it is free"):
            yield job_is(world, at, done._replace(slot=True))

    def completes(world: World, job: Job) -> Worlds:
        if job.status == "running":
            yield job_is(world, at, ended(job, "over"))

    def fails(world: World, job: Job) -> Worlds:
        if job.status == "running":
            yield job_is(world, at, ended(job, "failed"))

    def retries(world: World, job: Job) -> Worlds:
        """A failed attempt, a lost worker, a release: it waits again, and has started before."""
        if job.status != "running":
            return
        if rules.without("unique: a retry goes on without its slot"):
            taken = any(other.slot for n, other in enumerate(world.jobs) if n != at)
            yield job_is(world, at, job._replace(status="waiting", slot=not taken, refused=taken))
            return
        yield job_is(world, at, job._replace(status="waiting"))

    def cancelled(world: World, job: Job) -> Worlds:
        if job.status == "waiting":
            frees = rules.during != "window"
            yield job_is(world, at, job._replace(status="over", slot=job.slot and not frees))

    def requeued(world: World, job: Job) -> Worlds:
        if job.status != "failed":
            return
        if rules.during == "window" or rules.without("unique: a requeue takes the slot again"):
            yield job_is(world, at, job._replace(status="waiting"))
        elif not any(other.slot for other in world.jobs):
            yield job_is(world, at, job._replace(status="waiting", slot=True))

    def older(world: World, job: Job) -> Worlds:
        """A worker of a version without unique jobs frees nothing."""
        if job.status == "waiting":
            yield job_is(world, at, job._replace(status="running", claim_number=job.claim_number + 1))
        elif job.status == "running":
            yield job_is(world, at, job._replace(status="over"))

    def passes(world: World, job: Job) -> Worlds:
        if rules.during == "window" and not job.passed:
            yield job_is(world, at, job._replace(passed=True))

    return [
        step("3 claim", claim),
        step("3 CLAIM DECLINED", declined, fault=True),
        step("18 gives the slot back", give_back),
        step("6 completes", completes),
        step("6 FAILS", fails, fault=True),
        step("6 WAITS AGAIN", retries, fault=True),
        step("13 CANCELLED", cancelled, fault=True),
        step("12 REQUEUED", requeued, fault=True),
        step("OLDER WORKER", older, fault=True),
        step("18 its window passes", passes),
    ]
