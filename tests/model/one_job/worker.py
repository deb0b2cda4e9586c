"""What one worker does: pop, claim, run, renew, settle, release, beat (protocol.md, steps 2 to 8)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tests.model.explore import replaced
from tests.model.one_job.state import (
    GONE,
    SENT,
    SETTLING,
    WAITING,
    Excuse,
    Job,
    Rules,
    Worker,
    World,
    WorldStep,
    ended,
    holds,
    lease_changed,
    listed,
    reaches_mongo,
    reaches_redis,
    score_changed,
    with_worker,
)

Worlds = Iterable[World]

IDLE: Final = {"doing": "idle", "claim": 0, "cancel_seen": False}


class WorkerSteps:
    """The steps of worker number `i`. Each method is one step: it gives the states that it may lead to."""

    def __init__(self, rules: Rules, i: int) -> None:
        self.rules = rules
        self.i = i

    def steps(self) -> list[WorldStep]:
        at = f" (worker {self.i})"
        protocol = [
            ("2 pop into inflight", self.pop_busy),
            ("2 pop, blocking", self.pop_idle),
            ("3 claim", self.claim),
            ("3 claim: no match, id is dropped", self.claim_refused),
            ("3 claim arrives late", self.claim_arrives),
            ("3 claim under way is dropped", self.claim_dropped),
            ("3 find by claim: held", self.resolve_held),
            ("3 find by claim: not held", self.resolve_not_held),
            ("4 the task returns", self.task_returns),
            ("5 renew", self.renew),
            ("5 renew: no match, stops the job", self.renew_refused),
            ("5 lease over by its own clock, stops the job", self.stop_itself),
            ("5 releases what it does not hold", self.release_not_held),
            ("6 settle", self.settle),
            ("6 settle: read back, recorded", self.settle_found_recorded),
            ("6 settle: read back, refused", self.settle_found_refused),
            ("8 beat composed", self.beat_composed),
            ("8 beat applied", self.beat_applied),
            ("13 sees the cancel, stops the job", self.stop_for_cancel),
            ("wakes up", self.resume),
            ("is started again", self.restart),
            ("is connected (or unwedged) again", self.reconnect),
            ("time: its lease runs out", self.lease_runs_out),
        ]
        return [WorldStep(label + at, run, actor=self.i) for label, run in protocol]

    # -- 2 pop

    def can_pop(self, world: World) -> bool:
        worker = world.workers[self.i]
        return (
            worker.doing == "idle"
            and not worker.unknown
            and worker.under_way != "own"
            and world.redis.lane
            and reaches_redis(world, worker)
        )

    def pop_busy(self, world: World) -> Worlds:
        if not self.can_pop(world):
            return ()
        popped = world._replace(redis=world.redis._replace(lane=False, inflight="yes"))
        return (self.now(popped, doing="popped"),)

    def pop_idle(self, world: World) -> Worlds:
        if not self.can_pop(world):
            return ()
        return (self.now(world._replace(redis=world.redis._replace(lane=False)), doing="popped"),)

    # -- 3 claim

    def claimable(self, job: Job) -> bool:
        without = self.rules.without
        if without("claim: status"):
            return job.status != "none"
        due = job.due or without("claim: due")
        waits = job.status == "pending" or (job.status == "scheduled" and due)
        return waits and (not job.cancel or without("claim: cancel"))

    def claimed(self, world: World, owner: int) -> World:
        job = world.job
        claimed = job._replace(status="running", claim=job.claim + 1, worker=owner, leased=True, due=False)
        return lease_changed(world._replace(job=claimed))

    def not_inflight(self, world: World) -> World:
        worker, redis = world.workers[self.i], world.redis
        if not reaches_redis(world, worker) or redis.inflight != "yes":
            return world
        return world._replace(redis=redis._replace(inflight="no"))

    def claim(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        if worker.doing != "popped" or not reaches_mongo(world, worker) or not self.claimable(world.job):
            return ()
        claimed = self.not_inflight(self.claimed(world, self.i))
        return (self.now(claimed, **IDLE | {"doing": "running", "claim": claimed.job.claim}),)

    def claim_refused(self, world: World) -> Worlds:
        worker, job = world.workers[self.i], world.job
        if worker.doing != "popped" or not reaches_mongo(world, worker) or self.claimable(job):
            return ()
        dropped = self.not_inflight(world)
        if job.status == "scheduled" and not job.due and reaches_redis(world, worker):
            dropped = listed(dropped, later=True)
        return (self.now(dropped, doing="idle"),)

    def claim_arrives(self, world: World) -> Worlds:
        """A claim whose worker waits no longer is carried out after all, perhaps for one that is long dead."""
        worker = world.workers[self.i]
        if worker.under_way == "no" or not self.claimable(world.job) or world.mongo == "away":
            return ()
        if worker.under_way == "earlier":
            return (self.now(self.claimed(world, GONE), under_way="no"),)
        claimed = self.claimed(world, self.i)
        unknown = claimed.job.claim if worker.unknown == SENT else worker.unknown
        return (self.now(claimed, under_way="no", unknown=unknown),)

    def claim_dropped(self, world: World) -> Worlds:
        if world.workers[self.i].under_way == "no":
            return ()
        return (self.now(world, under_way="no"),)

    def resolve_held(self, world: World) -> Worlds:
        """Held is what runs under the claim now, and it is renewed before it starts."""
        worker, job = world.workers[self.i], world.job
        if worker.unknown <= 0 or worker.doing != "idle" or not self.may_resolve(world):
            return ()
        running = job.status == "running" or self.rules.without("find by claim: status")
        if worker.unknown != job.claim or not running:
            return ()
        renewed = job
        if job.status == "running" and not self.rules.without("find by claim: renew before start"):
            renewed = job._replace(leased=True)
        found = lease_changed(world._replace(job=renewed))
        excuse = worker.excuse if renewed is job else self.excuse_after_renewal(worker)
        return (self.now(found, doing="running", claim=worker.unknown, unknown=0, excuse=excuse),)

    def resolve_not_held(self, world: World) -> Worlds:
        worker, job = world.workers[self.i], world.job
        if not worker.unknown or worker.doing != "idle" or not self.may_resolve(world):
            return ()
        if worker.unknown == job.claim and job.status == "running":
            return ()
        return (self.put_back(self.now(world, unknown=0)),)

    def put_back(self, world: World) -> World:
        """What a claim did not take stands where it was popped, whatever has become of it: a claim will say."""
        if self.rules.without("find by claim: put back") or not reaches_redis(world, world.workers[self.i]):
            return world
        return listed(self.not_inflight(world))

    def may_resolve(self, world: World) -> bool:
        """Not earlier than maxTimeMS + 1 s after the claim was sent: then it is done, or never will be."""
        worker = world.workers[self.i]
        if not reaches_mongo(world, worker):
            return False
        return worker.under_way != "own" or self.rules.without("find by claim: not before maxTimeMS")

    # -- 4 run, 5 renew

    def task_returns(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        if worker.doing != "running" or worker.mode != "up" or worker.cut_from == "wedged":
            return ()
        return (self.now(world, doing="succeeded"),)

    def renew(self, world: World) -> Worlds:
        """Also at once after a gap of 9 s between two beats. Shown only where it changes something."""
        worker, job = world.workers[self.i], world.job
        if not worker.claim or not reaches_mongo(world, worker):
            return ()
        matches = job.status == "running" or self.rules.without("renew: status")
        if not matches or (worker.claim != job.claim and not self.rules.without("renew: claim")):
            return ()
        excuse = self.excuse_after_renewal(worker)
        if job.leased and excuse == worker.excuse:
            return ()
        renewed = lease_changed(world._replace(job=job._replace(leased=True)))
        return (self.now(renewed, excuse=excuse),)

    def excuse_after_renewal(self, worker: Worker) -> Excuse:
        """The renewal after a gap comes after the beat: before it, the leader still reads the old score."""
        in_order = worker.excuse == "beats" or self.rules.without("renew: after the beat")
        return "" if in_order and worker.cut_from != "redis" else worker.excuse

    def renew_refused(self, world: World) -> Worlds:
        worker, job = world.workers[self.i], world.job
        if worker.doing != "running" or not reaches_mongo(world, worker) or self.rules.without("renew: no match"):
            return ()
        if job.status == "running" and worker.claim == job.claim:
            return ()
        return (self.now(world, **IDLE),)

    def stop_itself(self, world: World) -> Worlds:
        """It could not renew for a whole lease, by its own clock counted from before the last renewal was sent."""
        worker, job = world.workers[self.i], world.job
        if worker.doing != "running" or worker.mode != "up" or self.rules.without("stop itself"):
            return ()
        if worker.cut_from == "wedged":
            return ()
        unreachable = worker.cut_from == "mongo" or world.mongo == "away"
        if not unreachable and (job.leased or worker.claim != job.claim):
            return ()
        return (self.now(world, doing="releasing"),)

    def release_not_held(self, world: World) -> Worlds:
        """After a claim of unknown outcome: {worker: me, running} that it does not hold goes back."""
        worker, job = world.workers[self.i], world.job
        if self.rules.without("release what is not held") or job.status != "running" or job.worker != self.i:
            return ()
        if worker.unknown or holds(worker, job) or not reaches_mongo(world, worker):
            return ()
        if worker.doing == "popped":  # a claim is being sent
            return ()
        status = "cancelled" if job.cancel else "pending"
        return (listed(world._replace(job=ended(job, status))),)

    def lease_runs_out(self, world: World) -> Worlds:
        """Only under a worker that is dead, paused, wedged, does not know, or cannot renew and has stopped its job."""
        worker, job = world.workers[self.i], world.job
        if not job.leased or job.status != "running" or job.worker != self.i:
            return ()
        if worker.mode == "up" and worker.cut_from != "wedged" and holds(worker, job):
            if reaches_mongo(world, worker) and worker.unknown != job.claim:
                return ()
            if worker.doing == "running" and not self.rules.without("stop itself"):
                return ()
        return (world._replace(job=job._replace(leased=False)),)

    # -- 6 settle, 7 release

    def stop_for_cancel(self, world: World) -> Worlds:
        worker, job = world.workers[self.i], world.job
        if worker.doing != "running" or worker.mode != "up" or worker.cut_from == "wedged":
            return ()
        if not job.cancel or worker.claim != job.claim:
            return ()
        return (self.now(world, doing="stopping", cancel_seen=True),)

    def may_settle(self, world: World) -> bool:
        worker = world.workers[self.i]
        return worker.doing in SETTLING and reaches_mongo(world, worker)

    def matches(self, world: World) -> bool:
        worker, job = world.workers[self.i], world.job
        running = job.status == "running" or self.rules.without("settle: status")
        return running and (worker.claim == job.claim or self.rules.without("settle: claim"))

    def settled(self, world: World) -> World:
        """The document after the settle: whether a cancel was asked for is tested inside the write."""
        worker, job = world.workers[self.i], world.job
        if worker.doing == "succeeded":
            return world._replace(job=ended(job, "completed"))
        cancel = worker.cancel_seen if self.rules.without("settle: cancel inside the write") else job.cancel
        if worker.doing == "failing":
            over = job.failures + 1 >= self.rules.max_attempts
            status = "cancelled" if cancel else "failed" if over else "scheduled"
            job = job._replace(failures=job.failures + 1, due=False)
        else:
            status = "cancelled" if cancel else "pending"
        return world._replace(job=ended(job, status))

    def settle(self, world: World) -> Worlds:
        if not self.may_settle(world) or not self.matches(world):
            return ()
        settled = self.settled(world)
        if settled.job.status in WAITING:
            settled = listed(settled, later=settled.job.status == "scheduled")
        return (self.now(settled, **IDLE),)

    def settle_found_recorded(self, world: World) -> Worlds:
        """It matched nothing, perhaps because it was sent before: the record says whether this attempt ended so."""
        worker, job = world.workers[self.i], world.job
        if not self.may_settle(world) or self.matches(world) or worker.claim != job.claim:
            return ()
        if worker.doing == "succeeded" and not self.rules.without("settle: read back the ending"):
            recorded = job.status == "completed"
        else:
            recorded = job.status != "running"
        return (self.now(world, **IDLE),) if recorded else ()

    def settle_found_refused(self, world: World) -> Worlds:
        if not self.may_settle(world) or self.matches(world):
            return ()
        return () if self.settle_found_recorded(world) else (self.now(world, **IDLE),)

    # -- 8 beat

    def beat_composed(self, world: World) -> Worlds:
        """Shown only where it can change something: the score is not fresh, or a leader takes it for dead."""
        worker = world.workers[self.i]
        if worker.mode != "up" or worker.cut_from == "redis" or worker.beat_under_way or not world.redis.up:
            return ()
        watched = any(leader.at == self.i and not leader.changed for leader in world.leaders)
        if world.redis.scores[self.i] == "fresh" and not watched and worker.excuse != "missing":
            return ()
        return (self.now(world, beat_under_way=True),)

    def beat_applied(self, world: World) -> Worlds:
        """Perhaps long after it was composed, by a worker that is paused or dead by now."""
        worker, redis = world.workers[self.i], world.redis
        if not worker.beat_under_way or not redis.up:
            return ()
        scores = replaced(redis.scores, self.i, "fresh")
        beaten = world._replace(redis=redis._replace(scores=scores))
        excuse = worker.excuse
        if excuse == "missing" and worker.mode == "up" and worker.cut_from != "redis":
            excuse = "beats" if worker.claim or worker.unknown else ""
        return (score_changed(self.now(beaten, beat_under_way=False, excuse=excuse), self.i),)

    # -- after a fault

    def resume(self, world: World) -> Worlds:
        return (self.now(world, mode="up"),) if world.workers[self.i].mode == "paused" else ()

    def reconnect(self, world: World) -> Worlds:
        worker = world.workers[self.i]
        return (self.now(world, cut_from=""),) if worker.cut_from and worker.mode == "up" else ()

    def restart(self, world: World) -> Worlds:
        """With a new id: what the old one held, listed or still has under way is an earlier incarnation's."""
        worker, job, redis, i = world.workers[self.i], world.job, world.redis, self.i
        if worker.mode != "dead":
            return ()
        under_way = "no" if worker.under_way == "no" else "earlier"
        world = with_worker(world, i, Worker(under_way=under_way))
        if self.rules.without("worker id: new in each incarnation"):
            return (world,)
        was_listed = redis.scores[i] != "absent" or worker.beat_under_way
        redis = redis._replace(
            scores=replaced(redis.scores, i, "absent"),
            earlier_listed=redis.earlier_listed or was_listed,
        )
        leaders = tuple(leader._replace(at=GONE) if leader.at == i else leader for leader in world.leaders)
        job = job._replace(worker=GONE) if job.worker == i else job
        return (world._replace(redis=redis, leaders=leaders, job=job),)

    def now(self, world: World, **fields: object) -> World:
        """The same world with these fields of this worker changed."""
        return with_worker(world, self.i, world.workers[self.i]._replace(**fields))  # pyright: ignore[reportArgumentType]
