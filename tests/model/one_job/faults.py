"""What can befall a worker. Each of these is one of the faults that the bound allows."""

from __future__ import annotations

from collections.abc import Iterable

from tests.model.one_job.state import SENT, Rules, Worker, World, WorldStep, faulty
from tests.model.one_job.worker import IDLE, WorkerSteps

Worlds = Iterable[World]


def worker_faults(rules: Rules, i: int) -> list[WorldStep]:
    """What can befall worker number `i`, each at most as often as the bound says."""
    of = WorkerSteps(rules, i)

    def up(world: World) -> bool:
        return world.faults > 0 and world.workers[i].mode == "up"

    def crash(world: World) -> Worlds:
        if not up(world):
            return ()
        worker = world.workers[i]
        return (of.now(faulty(world), **Worker(
            "dead", under_way=worker.under_way, beat_under_way=worker.beat_under_way
        )._asdict()),)  # fmt: skip

    def crash_before_push(world: World) -> Worlds:
        if not up(world) or not of.may_settle(world) or not of.matches(world):
            return ()
        return (of.now(faulty(of.settled(world)), **Worker("dead")._asdict()),)

    def pause(world: World) -> Worlds:
        return (of.now(faulty(world), mode="paused", excuse="missing"),) if up(world) else ()

    def cut_from_redis(world: World) -> Worlds:
        if not up(world) or world.workers[i].cut_from:
            return ()
        return (of.now(faulty(world), cut_from="redis", excuse="missing"),)

    def cut_from_mongo(world: World) -> Worlds:
        return (of.now(faulty(world), cut_from="mongo"),) if up(world) and not world.workers[i].cut_from else ()

    def wedge(world: World) -> Worlds:
        if not up(world) or world.workers[i].cut_from or world.workers[i].doing != "running":
            return ()
        return (of.now(faulty(world), cut_from="wedged", excuse=world.workers[i].excuse or "beats"),)

    def lose_pop(world: World) -> Worlds:
        if not world.faults or not of.can_pop(world):
            return ()
        return (faulty(world._replace(redis=world.redis._replace(lane=False))),)

    def lose_claim_reply(world: World) -> Worlds:
        # claim() has moved the worker on: it is put back to idle, and does not know.
        return tuple(
            of.now(faulty(after), **IDLE | {"unknown": after.job.claim}) for after in of.claim(world) if up(world)
        )

    def delay_claim(world: World) -> Worlds:
        worker = world.workers[i]
        if not up(world) or worker.doing != "popped" or worker.under_way != "no":
            return ()
        return (of.now(faulty(world), doing="idle", unknown=SENT, under_way="own"),)

    def lose_settle_reply(world: World) -> Worlds:
        if not up(world) or not of.may_settle(world) or not of.matches(world):
            return ()
        return (faulty(of.settled(world)),)

    def fail(world: World) -> Worlds:
        worker = world.workers[i]
        if not up(world) or worker.doing != "running" or worker.cut_from == "wedged":
            return ()
        seen = world.job.cancel and worker.claim == world.job.claim
        return (of.now(faulty(world), doing="failing", cancel_seen=seen),)

    def release(world: World) -> Worlds:
        return tuple(of.now(after, doing="releasing") for after in fail(world))

    table = {
        "crash": [("CRASH", crash), ("CRASH between settle and push", crash_before_push)],
        "pause": [("PAUSE", pause)],
        "cut from redis": [("CUT OFF from Redis", cut_from_redis)],
        "cut from mongo": [("CUT OFF from MongoDB", cut_from_mongo)],
        "wedge": [("LOOP WEDGED, beats go on", wedge)],
        "pop lost": [("2 pop, REPLY LOST", lose_pop)],
        "claim lost": [("3 claim, REPLY LOST", lose_claim_reply)],
        "claim late": [("3 claim, UNDER WAY for long", delay_claim)],
        "settle lost": [("6 settle, REPLY LOST", lose_settle_reply)],
        "task fails": [("4 the task FAILS", fail)],
        "release": [("7 graceful stop: RELEASE", release)],
    }
    return [
        WorldStep(f"{label} (worker {i})", run, fault=True, actor=i)
        for name, entries in table.items()
        if name in rules.faults
        for label, run in entries
    ]
