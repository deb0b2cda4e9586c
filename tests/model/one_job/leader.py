"""What a leader does: reap, sweep, move, reconcile (protocol.md, steps 9 to 11)."""

from __future__ import annotations

from collections.abc import Iterable

from tests.model.explore import replaced
from tests.model.one_job.state import (
    GONE,
    WAITING,
    Job,
    Leader,
    Rules,
    Score,
    Worker,
    World,
    WorldStep,
    ended,
    faulty,
    listed,
    with_leader,
)

Worlds = Iterable[World]


class LeaderSteps:
    """The steps of leader number `n`. It remembers what it saw; the world may have changed since."""

    def __init__(self, rules: Rules, n: int) -> None:
        self.rules = rules
        self.n = n

    def steps(self) -> list[WorldStep]:
        at = f" (leader {self.n})"
        protocol = [
            ("9a lease expiry: finds a lease that is over", self.find_overdue),
            ("9a lease expiry: lost", self.lose_overdue),
            ("9a lease expiry: refused", self.overdue_refused),
            ("9b the same score for 9 s", self.same_score),
            ("9b finds its running job", self.find_running),
            ("9b finds no running job of it", self.find_none),
            ("9b forgets the worker", self.forget),
            ("9b reads the score again", self.read_again),
            ("9b missed heartbeats: lost", self.lose_dead),
            ("9b missed heartbeats: refused", self.dead_refused),
        ]
        steps = [WorldStep(label + at, run, actor=self.n) for label, run in protocol]
        if "leader dies" in self.rules.faults:
            steps.append(WorldStep("LEADER DIES" + at, self.die, fault=True))
            steps.append(WorldStep("9 lost, LEADER DIES before the push" + at, self.lose_and_die, fault=True))
        return steps

    # -- 9a lease expiry

    def find_overdue(self, world: World) -> Worlds:
        job, leader = world.job, world.leaders[self.n]
        if self.rules.without("lease expiry"):
            return ()
        if leader.looking or world.mongo == "away" or job.status != "running" or job.leased:
            return ()
        if world.mongo == "back" and not self.rules.without("lease expiry: grace after MongoDB was away"):
            return ()
        over = job.losses + 1 >= self.rules.max_losses
        return (self.now(world, Leader("overdue", claim=job.claim, over=over, cancel_seen=job.cancel)),)

    def lose_overdue(self, world: World) -> Worlds:
        leader, job = world.leaders[self.n], world.job
        if leader.looking != "overdue" or world.mongo == "away" or not self.overdue_matches(leader, job):
            return ()
        return (self.now(self.lost(world), Leader()),)

    def overdue_matches(self, leader: Leader, job: Job) -> bool:
        if not self.same_claim(leader, job):
            return False
        return not job.leased or self.rules.without("lease expiry: lease inside the write")

    def overdue_refused(self, world: World) -> Worlds:
        leader = world.leaders[self.n]
        if leader.looking != "overdue" or world.mongo == "away" or self.overdue_matches(leader, world.job):
            return ()
        return (self.now(world, Leader()),)

    # -- 9b missed heartbeats

    def same_score(self, world: World) -> Worlds:
        """The whole watch as one step: what counts is only that the score is the same at its end.

        It cannot be while the worker is awake and reaches Redis, since that beats. Only who is listed is watched.
        """
        redis, without = world.redis, self.rules.without
        if world.leaders[self.n].looking or not redis.up or without("missed heartbeats"):
            return ()
        missing = [i for i, score in enumerate(redis.scores) if self.misses_heartbeats(world.workers[i], score)]
        if redis.earlier_listed:
            missing.append(GONE)
        return tuple(self.now(world, Leader("missing", at)) for at in missing)

    def misses_heartbeats(self, worker: Worker, score: Score) -> bool:
        without = self.rules.without
        if score == "absent":
            return without("missed heartbeats: absent is unknown")
        if score == "missed" and without("missed heartbeats: a gap restarts the watch"):
            return True
        if score in ("missed", "old") and without("missed heartbeats: 9 s by the leader's own clock"):
            return True
        return worker.mode != "up" or worker.cut_from == "redis"

    def find_running(self, world: World) -> Worlds:
        leader, job = world.leaders[self.n], world.job
        if leader.looking != "missing" or world.mongo == "away":
            return ()
        if job.status != "running" or job.worker != leader.at:
            return ()
        over = job.losses + 1 >= self.rules.max_losses
        found = Leader("found", leader.at, leader.changed, job.claim, True, over, job.cancel)
        return (self.now(world, found),)

    def find_none(self, world: World) -> Worlds:
        leader, job = world.leaders[self.n], world.job
        if leader.looking != "missing" or world.mongo == "away":
            return ()
        if job.status == "running" and job.worker == leader.at and not self.rules.without("forget: none runs"):
            return ()
        return (self.now(world, leader._replace(looking="none runs")),)

    def forget(self, world: World) -> Worlds:
        """In a script that looks whether the score is still the one that was seen."""
        leader, redis = world.leaders[self.n], world.redis
        if leader.looking != "none runs" or not redis.up:
            return ()
        if not leader.changed or self.rules.without("forget: still missing"):
            if leader.at == GONE:
                redis = redis._replace(earlier_listed=False)
            else:
                at = leader.at
                redis = redis._replace(scores=replaced(redis.scores, at, "absent"))
        return (self.now(world._replace(redis=redis), Leader()),)

    def read_again(self, world: World) -> Worlds:
        leader = world.leaders[self.n]
        if leader.looking != "found":
            return ()
        if self.rules.without("missed heartbeats: read the score again"):
            return (self.now(world, leader._replace(looking="sure")),)
        if not world.redis.up:
            return ()
        return (self.now(world, Leader() if leader.changed else leader._replace(looking="sure")),)

    def lose_dead(self, world: World) -> Worlds:
        leader, job = world.leaders[self.n], world.job
        if leader.looking != "sure" or world.mongo == "away" or not self.dead_matches(leader, job):
            return ()
        return (self.now(self.lost(world), Leader()),)

    def dead_matches(self, leader: Leader, job: Job) -> bool:
        if not self.same_claim(leader, job):
            return False
        return leader.lease_as_found or self.rules.without("missed heartbeats: lease as found")

    def dead_refused(self, world: World) -> Worlds:
        leader = world.leaders[self.n]
        if leader.looking != "sure" or world.mongo == "away" or self.dead_matches(leader, world.job):
            return ()
        return (self.now(world, Leader()),)

    # -- lost

    def same_claim(self, leader: Leader, job: Job) -> bool:
        running = job.status == "running" or self.rules.without("reap: status")
        return running and (job.claim == leader.claim or self.rules.without("reap: claim"))

    def lost(self, world: World) -> World:
        """One write, decided from the document as found; with the push after it."""
        job = self.lost_job(world)
        after = world._replace(job=job)
        return listed(after, later=True) if job.status == "scheduled" else after

    def lost_job(self, world: World) -> Job:
        job, leader = world.job, world.leaders[self.n]
        cancel = leader.cancel_seen if self.rules.without("reap: cancel inside the write") else job.cancel
        status = "cancelled" if cancel else "failed" if leader.over else "scheduled"
        return ended(job, status)._replace(losses=job.losses + 1, due=job.losses == 0)

    def lose_and_die(self, world: World) -> Worlds:
        if not world.faults or not (*self.lose_overdue(world), *self.lose_dead(world)):
            return ()
        return (self.now(faulty(world._replace(job=self.lost_job(world))), Leader()),)

    def die(self, world: World) -> Worlds:
        """The next leader knows nothing of what this one saw."""
        if not world.faults or not world.leaders[self.n].looking:
            return ()
        return (self.now(faulty(world), Leader()),)

    def now(self, world: World, leader: Leader) -> World:
        return with_leader(world, self.n, leader)


def rounds(rules: Rules) -> list[WorldStep]:
    """Single steps of the leader; what is stale when it is pushed is dropped by the claim."""

    def sweep(world: World) -> Worlds:
        redis = world.redis
        if not redis.up or redis.inflight != "yes" or rules.without("sweep"):
            return ()
        return (world._replace(redis=redis._replace(inflight="no", lane=True)),)

    def move(world: World) -> Worlds:
        """The zset is a hint: an id may be moved too early, and then the claim refuses it."""
        redis = world.redis
        if not redis.up or redis.scheduled != "yes" or rules.without("move"):
            return ()
        return (world._replace(redis=redis._replace(scheduled="no", lane=True)),)

    def list_missing(world: World) -> Worlds:
        redis, job = world.redis, world.job
        if not redis.up or world.mongo == "away" or rules.without("reconcile"):
            return ()
        if job.status not in WAITING or redis.lane or redis.inflight != "no" or redis.scheduled != "no":
            return ()
        return (listed(world, later=job.status == "scheduled"),)

    def rewrite_scores(world: World) -> Worlds:
        """The full audit: a score that is never reached is corrected where the job waits, else the id is dropped."""
        redis = world.redis
        if not redis.up or world.mongo == "away" or rules.without("reconcile: scores"):
            return ()
        if "never due" not in (redis.inflight, redis.scheduled):
            return ()
        right = "yes" if world.job.status in WAITING else "no"
        inflight = right if redis.inflight == "never due" else redis.inflight
        scheduled = right if redis.scheduled == "never due" else redis.scheduled
        return (world._replace(redis=redis._replace(inflight=inflight, scheduled=scheduled)),)

    def cancel_waiting(world: World) -> Worlds:
        job = world.job
        if not job.cancel or job.status not in WAITING or world.mongo == "away":
            return ()
        if rules.without("reconcile: cancels"):
            return ()
        return (world._replace(job=job._replace(status="cancelled")),)

    protocol = [
        ("10 sweep", sweep),
        ("10 move", move),
        ("11 reconcile: lists a missing id", list_missing),
        ("11 reconcile: rewrites a score", rewrite_scores),
        ("11 reconcile: cancels what waits", cancel_waiting),
    ]
    return [WorldStep(label, run) for label, run in protocol]
