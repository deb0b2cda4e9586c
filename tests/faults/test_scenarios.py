"""Real processes, real servers, one fault each: what is promised then, and that the fault did hit."""

from __future__ import annotations

import time

import pytest

from tests.command import descendants, living, state_of
from tests.command import running as command
from tests.faults import jobs
from tests.faults.world import World
from tests.wait import wait_until


def running(world: World, count: int) -> None:
    wait_until(lambda: world.starts() >= count, timeout_s=20)


def test_a_killed_worker_loses_nothing_and_its_jobs_start_elsewhere(world: World) -> None:
    victim = world.start("w1")
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 3.0), 8)
    running(world, 8)
    victim.kill()
    world.start("w2")
    world.come_to_rest()
    assert world.endings() == ["lost"] * 8
    assert world.starts() == 16


def test_a_killed_leader_is_replaced_by_another(world: World) -> None:
    leader = world.start("w1")
    world.wait_for_leader("w1")
    world.start("w2")
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 2.0), 16)
    running(world, 16)
    leader.kill()
    world.wait_for_leader("w2")
    world.come_to_rest()
    assert "lost" in world.endings()


def test_a_short_pause_costs_nothing(world: World) -> None:
    world.start("w1")
    world.wait_for_leader("w1")
    paused = world.start("w2", lanes=["low"])
    world.submit_many(lambda n: jobs.note.options(priority="low").bind(n, world.ledger, 1.0), 4)
    running(world, 4)
    holder = {entry.worker.rpartition("-")[0] for entry in world.entries("start")}
    for name in holder:
        world.workers[name].pause()
    assert [state_of(world.workers[name].pid) for name in holder] == ["T"] * len(holder)
    time.sleep(0.3 * world.settings.silence_s)  # the pause: too short for missed heartbeats
    for name in holder:
        world.workers[name].resume()
    world.come_to_rest()
    assert world.endings() == []
    assert paused.alive


def test_a_long_pause_moves_the_jobs_and_late_results_are_refused(world: World) -> None:
    world.start("w1")
    world.wait_for_leader("w1")
    paused = world.start("w2", lanes=["low"])
    world.workers["w1"].pause()
    world.submit_many(lambda n: jobs.note.options(priority="low").bind(n, world.ledger, 1.0), 4)
    running(world, 4)
    paused.pause()
    world.workers["w1"].resume()
    wait_until(lambda: world.starts() == 8, timeout_s=20)
    paused.resume()
    world.come_to_rest()
    assert world.endings() == ["lost"] * 4
    results = [doc["result"] for doc in world.documents()]
    assert results == [2] * 4


@pytest.mark.parametrize("how", ["flush", "empty", "with its data"])
def test_what_redis_has_forgotten_is_listed_again(world: World, how: str) -> None:
    world.start("w1", settings={"concurrency": 2})
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 0.2), 40)
    delayed = world.submit(lambda n: jobs.note.options(delay_s=2).bind(n, world.ledger))
    running(world, 2)
    before = world.redis.dbsize()
    assert before
    if how == "flush":
        world.redis.flushall()
    else:
        world.stores.restart_redis(empty=how == "empty")
    world.come_to_rest()
    assert world.endings() == []
    assert world.statuses()[delayed] == "completed"
    rounds = str(world.redis.get(world.keys.rounds))
    assert '"rebuild"' in rounds


def test_redis_away_costs_no_attempt_and_submits_are_accepted_meanwhile(world: World) -> None:
    world.start("w1")
    world.start("w2")
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 4.0), 8)
    running(world, 8)
    world.stores.kill_redis()
    assert "redis" not in world.stores.pids
    during = world.submit(lambda n: jobs.note.bind(n, world.ledger))
    assert during in world.accepted
    time.sleep(2 * world.settings.silence_s)  # Redis is away for longer than heartbeats may be missed
    world.stores.restart_redis(empty=False)
    world.come_to_rest()
    assert world.endings() == []
    assert world.starts() == 9


def test_mongodb_away_refuses_submits_and_ends_are_kept(world: World) -> None:
    world.start("w1")
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 1.0), 8)
    running(world, 8)
    world.stores.kill_mongo()
    began = time.monotonic()
    refused = world.submit(lambda n: jobs.note.bind(n, world.ledger))
    assert refused in world.refused | world.unknown
    assert time.monotonic() - began < 2.5
    wait_until(lambda: len(world.entries("end")) == 8)
    world.stores.restart_mongo()
    world.submit(lambda n: jobs.note.bind(n, world.ledger))
    world.come_to_rest()
    assert world.endings() == []


def test_both_stores_killed_at_once(world: World) -> None:
    world.start("w1")
    world.start("w2")
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 0.3), 60)
    running(world, 10)
    world.stores.kill_redis()
    world.stores.kill_mongo()
    assert world.stores.pids == {}
    world.stores.restart_redis(empty=True)
    world.stores.restart_mongo()
    world.come_to_rest()


def test_a_killed_worker_and_a_flush_at_once_are_recovered_on_lease_expiry(world: World) -> None:
    victim = world.start("w1")
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 2.0), 4)
    running(world, 4)
    victim.kill()
    world.redis.flushall()
    world.start("w2")
    world.come_to_rest(world.settings.lease_s + 25)
    assert world.endings() == ["lost"] * 4


def test_a_long_job_keeps_its_lease_and_is_not_taken(world: World) -> None:
    world.start("w1")
    world.start("w2")
    world.submit(lambda n: jobs.note.bind(n, world.ledger, 2.5 * world.settings.lease_s))
    world.come_to_rest(60)
    assert world.endings() == []


def test_a_worker_cut_off_from_mongodb_for_a_whole_lease_stops_its_jobs(world: World) -> None:
    """It gets neither an answer nor an error."""
    world.start("w1")
    world.submit(lambda n: jobs.note.bind(n, world.ledger, 20.0))
    running(world, 1)
    world.mongo_proxy.set("stall")
    log = world.log("w1")
    wait_until(lambda: "leases lost: not renewed" in log.read_text(), timeout_s=2 * world.settings.lease_s)
    assert world.mongo_proxy.held_up
    world.mongo_proxy.set("pass")
    wait_until(lambda: world.starts() == 2, timeout_s=20)


def test_a_worker_that_is_asked_to_stop_gives_its_jobs_back(world: World) -> None:
    world.start("w1", settings={"grace_s": 0.2})
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 1.5), 4)
    running(world, 4)
    world.workers["w1"].end()
    assert world.endings() == ["released"] * 4
    assert [doc["losses"] for doc in world.documents()] == [0] * 4
    world.start("w2")
    world.come_to_rest()


def test_a_killed_supervisor_leaves_no_worker_and_loses_no_job(world: World) -> None:
    arguments = ("worker", "tests.faults.app:queue", "--workers", "2")
    with command(*arguments, log=world.log("first"), settings=world.settings) as supervisor:
        world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 4.0), 8)
        running(world, 8)
        workers = descendants(supervisor.pid)
        supervisor.kill()
        supervisor.wait()
        wait_until(lambda: not living(workers), timeout_s=30)
    # They were asked to stop by its end, and gave back what did not end within their grace.
    assert set(world.statuses().values()) <= {"pending", "completed"}
    with command(*arguments, log=world.log("second"), settings=world.settings):
        world.come_to_rest()
