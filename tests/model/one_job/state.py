"""One job, a few workers and leaders: what the model knows of them, and what must never happen.

Time is not counted, it is only ordered. What the protocol's times promise is kept as two rules: a lease does not run
out under a worker that is awake, reaches MongoDB and knows of its claim (it renews each third of the lease); and no
leader sees one score for 9 s while the worker behind it is awake and reaches Redis (it beats every 2 s).
Between any two steps of a worker or leader anything else may happen: that is every delay, and every pause of a leader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from tests.model import explore
from tests.model.explore import Step, replaced

Status = Literal["none", "pending", "scheduled", "running", "completed", "failed", "cancelled"]
Doing = Literal["idle", "popped", "running", "succeeded", "failing", "releasing", "stopping"]
Cut = Literal["", "redis", "mongo", "wedged"]
Score = Literal["absent", "fresh", "missed", "old"]
Listed = Literal["no", "yes", "never due"]
Excuse = Literal["", "missing", "beats"]
Looking = Literal["", "missing", "found", "sure", "none runs", "overdue"]

WAITING: Final = ("pending", "scheduled")
FINAL: Final = ("completed", "failed", "cancelled")
#: What a worker does while it holds a claim; all but `running` are settles that are not yet known to be recorded.
SETTLING: Final = ("succeeded", "failing", "releasing", "stopping")
HOLDING: Final = ("running", *SETTLING)

NOBODY: Final = -1
#: A worker that was killed and restarted has a new id; this stands for any earlier one.
GONE: Final = 9
#: A claim that was sent and of which nothing is known, not even whether it was done.
SENT: Final = -1


class Job(NamedTuple):
    """The document in MongoDB, as far as it decides something."""

    status: Status = "none"
    #: Which claim holds it, or held it last: 1 is the first. In the code it is an ObjectId, counted by `token`.
    claim: int = 0
    worker: int = NOBODY
    #: lease_until is still to come.
    leased: bool = False
    #: due_at has come.
    due: bool = False
    cancel: bool = False
    failures: int = 0
    losses: int = 0


class Worker(NamedTuple):
    """One worker process. Beats come from a thread of their own: a worker whose loop is wedged still beats."""

    mode: Literal["up", "paused", "dead"] = "up"
    doing: Doing = "idle"
    #: The claim that it holds; 0 when it holds none.
    claim: int = 0
    #: A claim whose reply did not come: its number, SENT, or 0. Nothing is popped until it is resolved.
    unknown: int = 0
    #: A claim that is still on its way to MongoDB: this worker's, or that of an earlier incarnation.
    under_way: Literal["no", "own", "earlier"] = "no"
    cut_from: Cut = ""
    #: A beat that was composed and not yet applied.
    beat_under_way: bool = False
    #: Ghost, read by the invariants only: may it be taken for dead? `missing` since it was paused or cut from Redis;
    #: `beats` again, but has not renewed since (or its loop is wedged). That Redis is away is no excuse.
    excuse: Excuse = ""
    #: What it asked for first, as a worker that reads before it writes has it (used when that guard is removed).
    cancel_seen: bool = False


class Redis(NamedTuple):
    """Everything that Redis holds. All of it may be wrong at any time."""

    up: bool = True
    lane: bool = False
    inflight: Listed = "no"
    scheduled: Listed = "no"
    #: The score of each worker in `workers`. A leader never reads how old one is, only whether it changes; so `missed`
    #: (not beaten since Redis was away) and `old` (an old copy's, or a clock has jumped) differ from `fresh` only
    #: when a guard is removed and the leader does read it.
    scores: tuple[Score, ...] = ("fresh", "fresh")
    #: An earlier incarnation is still listed there.
    earlier_listed: bool = False


class Leader(NamedTuple):
    """One leader and what it remembers from its last look. Two may lead at once."""

    looking: Looking = ""
    #: The worker that it looks at.
    at: int = NOBODY
    #: The score has changed since the watch.
    changed: bool = False
    claim: int = 0
    #: lease_until is what it was at the find: no claim and no renewal since.
    lease_as_found: bool = False
    #: What it has decided from the document that it found: with this loss the job is over.
    over: bool = False
    cancel_seen: bool = False


class World(NamedTuple):
    """One state of everything."""

    workers: tuple[Worker, ...]
    leaders: tuple[Leader, ...]
    job: Job = Job()
    redis: Redis = Redis()
    #: `back`: there again for less than lease/3.
    mongo: Literal["up", "away", "back"] = "up"
    submit: Literal["none", "inserted", "done"] = "none"
    #: A cancel that takes two updates is between them (only when that guard is removed).
    cancelling: bool = False
    #: How many more faults may happen.
    faults: int = 0


@dataclass(frozen=True)
class Rules(explore.Rules):
    """Which guards are taken away, which faults happen, and how often a job may end badly."""

    faults: frozenset[str] = frozenset()
    max_attempts: int = 1
    max_losses: int = 2

    @property
    def reads_ages(self) -> bool:
        """A leader judges a score by its age, which is wrong."""
        return bool(
            self.removed
            & {"missed heartbeats: 9 s by the leader's own clock", "missed heartbeats: a gap restarts the watch"}
        )


WorldStep = Step[World]


def start(workers: int, leaders: int, faults: int) -> World:
    redis = Redis(scores=("fresh",) * workers)
    return World((Worker(),) * workers, (Leader(),) * leaders, redis=redis, faults=faults)


# -- small changes that many steps share


def with_worker(world: World, i: int, worker: Worker) -> World:
    return world._replace(workers=replaced(world.workers, i, worker))


def with_leader(world: World, n: int, leader: Leader) -> World:
    return world._replace(leaders=replaced(world.leaders, n, leader))


def faulty(world: World) -> World:
    """The same with one fault less to come."""
    return world._replace(faults=world.faults - 1)


def listed(world: World, *, later: bool = False) -> World:
    """Push the id, when Redis is there: to its lane, or to `scheduled`. Else the reconciler will."""
    redis = world.redis
    if not redis.up:
        return world
    if later:
        return world._replace(redis=redis._replace(scheduled="yes"))
    return world._replace(redis=redis._replace(lane=True))


def lease_changed(world: World) -> World:
    """No leader finds lease_until any more as it remembers it."""
    if not any(leader.lease_as_found for leader in world.leaders):
        return world
    return world._replace(leaders=tuple(leader._replace(lease_as_found=False) for leader in world.leaders))


def score_changed(world: World, at: int | None = None) -> World:
    """Leaders that took `at`, or any worker, for dead will see at their next read that it is not."""
    leaders = tuple(
        leader._replace(changed=True) if leader.at != NOBODY and at in (None, leader.at) else leader
        for leader in world.leaders
    )
    return world if leaders == world.leaders else world._replace(leaders=leaders)


def ended(job: Job, status: Status) -> Job:
    """The attempt is over: no worker holds the job. (The document keeps `worker`, which then means nothing.)"""
    return job._replace(status=status, worker=NOBODY, leased=False)


def holds(worker: Worker, job: Job) -> bool:
    """The worker holds the job, or has claimed it and does not know yet."""
    return (worker.doing in HOLDING and worker.claim == job.claim) or worker.unknown == job.claim


def reaches_mongo(world: World, worker: Worker) -> bool:
    return worker.mode == "up" and world.mongo != "away" and worker.cut_from not in ("mongo", "wedged")


def reaches_redis(world: World, worker: Worker) -> bool:
    return worker.mode == "up" and world.redis.up and worker.cut_from not in ("redis", "wedged")


# -- what must never happen


def broken(rules: Rules, world: World, step: WorldStep, after: World) -> str | None:
    """The invariant that this transition breaks, in words."""
    job, now = world.job, after.job
    if problem := _wrongly_reported(world, step, after):
        return problem
    if job == now:
        return None
    if job.status in ("completed", "cancelled"):
        return f"I2: a {job.status} job was changed"
    if job.status == "failed" and not step.label.startswith("12 requeue"):
        return "I2: a failed job was changed without a requeue"
    if now.claim != job.claim:
        return _claimed_wrongly(job)
    if job.status == "running" and now.status != "running":
        return _ended_wrongly(rules, world, step, after)
    return None


def _claimed_wrongly(job: Job) -> str | None:
    if job.status == "running":
        return "I3: claimed while another claim held it"
    if job.cancel:
        return "I3: claimed after its cancel"
    if job.status == "scheduled" and not job.due:
        return "I6: claimed before it was due"
    return None


def _ended_wrongly(rules: Rules, world: World, step: WorldStep, after: World) -> str | None:
    job, now = world.job, after.job
    counted = (now.failures - job.failures) + (now.losses - job.losses)
    if counted > 1 or (counted == 0 and now.status in ("scheduled", "failed")):
        return "I4: an attempt's end was not counted once"
    if now.status in WAITING and (now.losses >= rules.max_losses or now.failures >= rules.max_attempts):
        return "I4: it goes on after its last attempt"
    if step.label.startswith("6 settle") and step.actor is not None:
        if world.workers[step.actor].claim != job.claim or job.worker != step.actor:
            return "I3: a stale attempt was recorded on a newer claim"
        return None
    if step.label.startswith("9"):
        return _taken_wrongly(world)
    return None


def _taken_wrongly(world: World) -> str | None:
    """J0: may the job be taken from the worker that the document names?"""
    job = world.job
    if job.worker in (NOBODY, GONE):
        return None
    worker = world.workers[job.worker]
    if worker.mode == "dead" or worker.excuse or not holds(worker, job):
        return None
    if job.leased:
        return "J0: taken from a worker that missed no heartbeats and held a lease"
    if worker.mode == "up" and worker.doing == "running":
        return "J0: taken on lease expiry while an awake worker, never paused, runs it"
    if world.mongo == "back":
        return "J0: MongoDB was away; the outcome that the worker kept was not waited for"
    return None


def _wrongly_reported(world: World, step: WorldStep, after: World) -> str | None:
    """What a client or a worker concludes from an answer must be so."""
    if step.label.startswith("13 cancel: conflict") and world.job.status not in FINAL:
        return "I3: a cancel was answered 'over' for a job that still waits to run"
    if step.label.startswith("6 settle: read back, recorded") and step.actor is not None:
        succeeded = world.workers[step.actor].doing == "succeeded"
        if succeeded and world.job.status != "completed":
            return "I3: a worker took its success for recorded, and it was not"
    if step.label.startswith("3 find by claim: held") and after.job.status != "running":
        return "I3: an attempt was started whose claim does not hold the job any more"
    return None


def good(world: World) -> bool:
    """I1's end: the job is over, and Redis has forgotten it."""
    redis = world.redis
    return (
        world.job.status in FINAL
        and world.submit == "done"
        and not redis.lane
        and redis.inflight == redis.scheduled == "no"
    )
