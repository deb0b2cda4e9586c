"""Everybody else: who submits, cancels and requeues; the two stores; time (protocol.md, steps 1, 12 and 13)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Final

from tests.model.explore import Model
from tests.model.one_job.faults import worker_faults
from tests.model.one_job.leader import LeaderSteps, rounds
from tests.model.one_job.state import (
    FINAL,
    GONE,
    SETTLING,
    WAITING,
    Job,
    Leader,
    Listed,
    Redis,
    Rules,
    Score,
    World,
    WorldStep,
    broken,
    faulty,
    good,
    listed,
    score_changed,
    start,
)
from tests.model.one_job.worker import WorkerSteps

Worlds = Iterable[World]

#: Every fault that the model knows; a scenario chooses among them.
FAULTS: Final = frozenset({
    "crash", "pause", "cut from redis", "cut from mongo", "wedge", "pop lost", "claim lost", "claim late",
    "settle lost", "task fails", "release", "leader dies", "push lost", "cancel", "requeue", "redis away",
    "redis content", "mongo away",
})  # fmt: skip


def model(rules: Rules, *, workers: int = 1, leaders: int = 1, faults: int = 1) -> Model[World]:
    """Every interleaving of these workers and leaders, with at most so many of the rules' faults."""
    unknown = rules.faults - FAULTS
    if unknown:
        raise ValueError(f"unknown faults: {sorted(unknown)}")
    steps = [*clients(rules), *stores(rules), *rounds(rules)]
    for i in range(workers):
        steps += WorkerSteps(rules, i).steps() + worker_faults(rules, i)
    for n in range(leaders):
        steps += LeaderSteps(rules, n).steps()
    return Model(start(workers, leaders, faults), steps, partial(broken, rules), good)


def clients(rules: Rules) -> list[WorldStep]:
    """Steps 1, 12 and 13, and the clock that makes a job due."""

    def insert(world: World) -> Worlds:
        if world.submit != "none" or world.mongo == "away":
            return ()
        return (world._replace(job=Job("pending"), submit="inserted"),)

    def push(world: World) -> Worlds:
        if world.submit != "inserted":
            return ()
        return (listed(world)._replace(submit="done"),)

    def push_lost(world: World) -> Worlds:
        if world.submit != "inserted" or not world.faults:
            return ()
        return (faulty(world)._replace(submit="done"),)

    def becomes_due(world: World) -> Worlds:
        if world.job.status != "scheduled" or world.job.due:
            return ()
        return (world._replace(job=world.job._replace(due=True)),)

    def requeue(world: World) -> Worlds:
        job = world.job
        if job.status != "failed" or not world.faults or world.mongo == "away":
            return ()
        claim = 0 if rules.without("requeue: claims never used twice") else job.claim
        return (listed(faulty(world)._replace(job=Job("pending", claim=claim))),)

    def cancel(world: World) -> Worlds:
        """One update decides by the status."""
        job = world.job
        if not world.faults or job.cancel or world.mongo == "away" or rules.without("cancel: one update"):
            return ()
        if job.status in WAITING:
            return (faulty(world)._replace(job=job._replace(status="cancelled", cancel=True)),)
        if job.status == "running":
            return (faulty(world)._replace(job=job._replace(cancel=True)),)
        return ()

    steps = [WorldStep("1 submit: insert", insert), WorldStep("1 submit: push", push)]
    steps.append(WorldStep("time: the job is due", becomes_due))
    optional = {
        "push lost": WorldStep("1 submit: PUSH LOST", push_lost, fault=True),
        "requeue": WorldStep("12 requeue", requeue, fault=True),
        "cancel": WorldStep("13 CANCEL", cancel, fault=True),
    }
    steps += [step for name, step in optional.items() if name in rules.faults]
    return steps + (cancel_in_two(rules) if rules.without("cancel: one update") else [])


def cancel_in_two(rules: Rules) -> list[WorldStep]:
    """How it must not be done: first {waiting} -> cancelled, then {running} -> asked for, else "it is over"."""

    def first(world: World) -> Worlds:
        if not world.faults or world.cancelling or world.job.status not in (*WAITING, "running"):
            return ()
        if world.job.status in WAITING:
            return (faulty(world)._replace(job=world.job._replace(status="cancelled", cancel=True)),)
        return (faulty(world)._replace(cancelling=True),)

    def second(world: World) -> Worlds:
        if not world.cancelling or world.job.status != "running":
            return ()
        return (world._replace(job=world.job._replace(cancel=True), cancelling=False),)

    def conflict(world: World) -> Worlds:
        if not world.cancelling or world.job.status == "running":
            return ()
        return (world._replace(cancelling=False),)

    return [
        WorldStep("13 CANCEL: it does not wait", first, fault=True),
        WorldStep("13 cancel: it runs, asked for", second),
        WorldStep("13 cancel: conflict", conflict),
    ]


def stores(rules: Rules) -> list[WorldStep]:
    """Redis away, or with any content; MongoDB away; and the lease of a worker that is no more."""

    def redis_away(world: World) -> Worlds:
        if not world.faults or not world.redis.up:
            return ()
        away = faulty(world)._replace(redis=world.redis._replace(up=False))
        return (away,)

    def redis_back(world: World) -> Worlds:
        """With its data: the scores are old, through no fault of the workers."""
        redis = world.redis
        if redis.up:
            return ()
        scores = redis.scores
        if rules.reads_ages:
            scores = tuple("missed" if score == "fresh" else score for score in scores)
        return (world._replace(redis=redis._replace(up=True, scores=scores)),)

    def any_content(world: World) -> Worlds:
        """A flush, an old snapshot, a clock that jumps, a hand that meddles: anything but a right beat."""
        redis = world.redis
        if not world.faults or not redis.up:
            return
        base = score_changed(faulty(world))
        hints: tuple[tuple[Listed, Listed], ...] = (("no", "no"), ("never due", "no"), ("no", "never due"))
        scores: tuple[tuple[Score, bool], ...] = (("absent", False), ("old" if rules.reads_ages else "fresh", True))
        for lane, (inflight, scheduled), (score, earlier) in product((False, True), hints, scores):
            all_scores = (score,) * len(redis.scores)
            yield base._replace(redis=Redis(True, lane, inflight, scheduled, all_scores, earlier))

    def mongo_away(world: World) -> Worlds:
        """A leader's round that meets an error is over; the next one starts from the beginning."""
        if not world.faults or world.mongo != "up":
            return ()
        leaders = tuple(Leader() if leader.looking == "overdue" else leader for leader in world.leaders)
        return (faulty(world)._replace(mongo="away", leaders=leaders),)

    def mongo_back(world: World) -> Worlds:
        return (world._replace(mongo="back"),) if world.mongo == "away" else ()

    def mongo_settled_down(world: World) -> Worlds:
        """lease/3 after its return: every awake worker that reaches it has renewed and settled what it held."""
        if world.mongo != "back":
            return ()
        for worker in world.workers:
            owes = worker.doing in SETTLING or (worker.doing == "running" and not world.job.leased)
            if owes and worker.mode == "up" and not worker.cut_from:
                return ()
        return (world._replace(mongo="up"),)

    def lease_of_earlier(world: World) -> Worlds:
        job = world.job
        if not job.leased or job.status in FINAL or job.worker != GONE:
            return ()
        return (world._replace(job=job._replace(leased=False)),)

    steps = [WorldStep("time: the lease of an earlier incarnation runs out", lease_of_earlier)]
    if "redis content" in rules.faults:
        steps.append(WorldStep("REDIS HOLDS ANYTHING", any_content, fault=True))
    if "redis away" in rules.faults:
        steps.append(WorldStep("REDIS AWAY", redis_away, fault=True))
        steps.append(WorldStep("Redis is back with its data", redis_back))
    if "mongo away" in rules.faults:
        steps.append(WorldStep("MONGODB AWAY", mongo_away, fault=True))
        steps.append(WorldStep("MongoDB is back", mongo_back))
        steps.append(WorldStep("time: lease/3 since MongoDB is back", mongo_settled_down))
    return steps
