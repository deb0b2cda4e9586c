"""Known mistakes of other queues. Each test passes with the real code, and must fail with the naive variant."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from pymongo import AsyncMongoClient

from dtqkit import JobConflict, TaskQueue
from dtqkit.broker import link
from dtqkit.broker.route import Route
from dtqkit.store import store
from dtqkit.store.client import Link
from dtqkit.store.jobs import Jobs
from tests.faults import child_jobs, jobs
from tests.faults.world import World
from tests.wait import in_time, wait_until


def naive(name: str) -> Any:
    """The test runs with the real code, and with a mutation, where its story must end otherwise."""
    return pytest.mark.parametrize("naive", ["", name], ids=["real", "naive"])


def started(world: World, count: int) -> None:
    wait_until(lambda: world.starts() >= count, timeout_s=30)


def wait_for_two_beats(world: World) -> None:
    """Wait until Redis has two more heartbeats of each worker."""
    before = {worker: len(scores) for worker, scores in world.observer.beats().items()}
    wait_until(lambda: all(len(world.observer.beats()[worker]) >= n + 2 for worker, n in before.items()))


@naive("absent_is_dead")
def test_trap_1_a_flush_under_long_jobs_starts_none_twice(world: World, naive: str) -> None:
    for name in ("w1", "w2"):
        world.start(name, naive=naive, settings={"concurrency": 100})
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 4.0), 200)
    started(world, 200)
    for _ in range(3):
        world.redis.flushall()
        time.sleep(world.settings.silence_s / 2)  # the fault itself: the next flush comes before a worker is missed
    wait_until(lambda: len(world.entries("end")) >= 200 or world.starts() > 200, timeout_s=30)
    assert (world.starts() > 200) == bool(naive)
    if not naive:
        world.come_to_rest()


@naive("age_of_the_score_decides")
def test_trap_2_redis_away_makes_no_worker_dead(world: World, naive: str) -> None:
    for name in ("w1", "w2", "w3"):
        world.start(name, naive=naive)
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger, 8.0), 24)
    started(world, 24)
    for _ in range(3):
        world.redis_proxy.set("cut")
        time.sleep(1.5 * world.settings.silence_s)  # the fault itself
        assert world.redis_proxy.cut
        world.redis_proxy.set("pass")
        wait_for_two_beats(world)
    wait_until(lambda: len(world.entries("end")) >= 24 or world.starts() > 24, timeout_s=30)
    assert (world.starts() > 24) == bool(naive)
    if not naive:
        world.come_to_rest()


@naive("lost_reply_is_not_mine")
def test_trap_3_a_claim_whose_reply_is_lost_is_found_and_done(world: World, naive: str) -> None:
    world.start("w1", naive=naive)
    # The driver asks once more by itself: that reply is swallowed too.
    world.mongo_proxy.swallow_next(b"findAndModify", times=2)
    world.submit(lambda n: jobs.note.bind(n, world.ledger))
    wait_until(lambda: world.mongo_proxy.swallowed)
    (doc,) = wait_until(lambda: [doc for doc in world.documents() if doc["status"] == "completed"], timeout_s=30)
    assert world.mongo_proxy.swallows is None
    assert (doc["losses"] > 0 or doc["token"] > 1) == bool(naive)


@naive("find_by_claim_alone")
def test_trap_4_a_job_that_was_taken_away_in_between_is_not_run(world: World, naive: str) -> None:
    # With this lease, the outcome is looked up 2.4 s after the claim; it would be renewed, and refused, after 4 s.
    world.start("w1", naive=naive, lanes=["low"], settings={"lease_s": 12.0})
    world.start("w2", lanes=["high"])
    world.wait_for_leader()
    world.mongo_proxy.swallow_next(b"findAndModify", times=2)
    world.submit(lambda n: jobs.note_once.options(priority="low").bind(n, world.ledger, 0.0), ends={"failed"})
    wait_until(lambda: world.statuses().get(0) == "running")
    paused = world.workers["w1"]
    paused.pause()
    wait_until(lambda: world.statuses()[0] == "failed", timeout_s=20)
    paused.resume()
    ran = in_time(lambda: world.starts() > 0, 4.0)
    assert ran == bool(naive)
    if not naive:
        world.come_to_rest()


@naive("completion_without_a_fence")
def test_trap_5_a_late_result_is_refused(world: World, naive: str) -> None:
    late = world.start("w1", naive=naive, lanes=["low"], children=True)
    world.start("w2", lanes=["high"])
    world.submit(lambda n: child_jobs.note_in_child.options(priority="low").bind(n, world.ledger, 1.0))
    started(world, 1)
    late.pause()
    world.start("w3", lanes=["low"], children=True)
    started(world, 2)
    wait_until(lambda: len(world.entries("end")) >= 1)
    late.resume()
    wait_until(lambda: world.statuses()[0] == "completed")
    wait_until(lambda: len(world.entries("end")) == 2)
    assert in_time(lambda: world.documents()[0]["result"] == 1, 1.0) == bool(naive)
    if not naive:
        world.come_to_rest()


@naive("cancel_read_before")
def test_trap_6_a_cancel_that_comes_before_the_end_is_not_forgotten(world: World, naive: str) -> None:
    world.start("w1", naive=naive, settings={"heartbeat_s": 20.0})
    n = world.submit(lambda n: jobs.note.bind(n, world.ledger, 1.0, failures=9), ends={"cancelled"})
    started(world, 1)
    world.queue.get(world.accepted[n]).cancel()
    wait_until(lambda: world.statuses()[n] != "running")
    left_waiting = world.statuses()[n] != "cancelled"
    assert left_waiting == bool(naive)


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requeue without asking which death it is from."""
    requeue = Jobs.requeue

    async def anyhow(self: Jobs, job: Any, death_seq: int) -> Any:
        found = await requeue(self, job, death_seq)
        return found or await self._jobs.find_one_and_update({"_id": job}, {"$set": {"status": "pending"}})

    monkeypatch.setattr(Jobs, "requeue", anyhow)


@pytest.mark.parametrize("naive", [False, True], ids=["real", "naive"])
def test_trap_7_two_requeues_at_once_requeue_once(world: World, monkeypatch: pytest.MonkeyPatch, naive: bool) -> None:
    world.start("w1")
    n = world.submit(lambda n: jobs.note.options(max_attempts=1).bind(n, world.ledger, failures=1), ends={"failed"})
    wait_until(lambda: world.statuses()[n] == "failed")
    world.workers["w1"].end()
    if naive:
        no_fence(monkeypatch)
    both = threading.Barrier(2)

    def requeue() -> bool:
        handle = world.queue.get(world.accepted[n])
        both.wait()
        try:
            handle.requeue()
        except JobConflict:
            return False
        return True

    # Who comes second must have found it failed, too: only then is it the write that decides.
    won = 0
    for _ in range(20):
        with ThreadPoolExecutor(2) as pool:
            won = sum(pool.map(lambda _: requeue(), range(2)))
        if won == 2:
            break
        world.mongo[world.settings.database_name]["jobs"].update_one({}, {"$set": {"status": "failed"}})
    assert (won == 2) == naive


@pytest.mark.parametrize("place", ["dead_letter.write.before", "dead_letter.write.after"])
def test_trap_7_a_kill_around_the_dead_letter_leaves_it_consistent(world: World, place: str) -> None:
    world.start("w1", fail=f"{place}=kill")
    world.submit(lambda n: jobs.note.options(max_attempts=1).bind(n, world.ledger, failures=1), ends={"failed"})
    wait_until(lambda: world.fired(place) and not world.workers["w1"].alive)
    world.start("w2")
    world.come_to_rest()
    assert list(world.evidence().dead_letters.values()) == [1]


@pytest.mark.parametrize("naive", [False, True], ids=["real", "naive"])
def test_trap_8_what_was_accepted_is_there_after_a_kill_of_mongod(
    world: World, monkeypatch: pytest.MonkeyPatch, naive: bool
) -> None:
    if naive:
        monkeypatch.setattr(store, "connect", unjournaled)
        monkeypatch.setattr(store, "database", lambda client, name: client.get_database(name))
    lost = 0
    for _ in range(6 if naive else 2):
        with TaskQueue(world.settings) as client:
            client.include("tests.faults.jobs")
            lost += storm(world, client)
        if lost:
            break
    assert (lost > 0) == naive


def storm(world: World, client: TaskQueue) -> int:
    """Submit without a pause, kill mongod in the midst of it: how many accepted jobs are not there afterwards."""
    accepted: list[str] = []
    stop = threading.Event()

    def submit() -> None:
        while not stop.is_set():
            try:
                accepted.append(client.submit_call(jobs.note.bind(0, world.ledger)).id)
            except ConnectionError:
                return

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(accepted) > 200, timeout_s=60)
    world.stores.kill_mongo()
    stop.set()
    for thread in threads:
        thread.join()
    world.stores.restart_mongo()
    stored = {str(doc["_id"]) for doc in world.documents()}
    return len(set(accepted) - stored)


def unjournaled(where: Link, *_: Any) -> AsyncMongoClient[dict[str, Any]]:
    where.client = AsyncMongoClient(where.uri, tz_aware=True, w=1, journal=False, serverSelectionTimeoutMS=1500)
    return where.client


@naive("beat_from_the_loop")
def test_trap_9_a_task_that_blocks_its_worker_is_not_taken_away(world: World, naive: str) -> None:
    world.start("w1", naive=naive, lanes=["low"])
    world.start("w2", lanes=["high"])
    world.submit(lambda n: jobs.block.options(priority="low").bind(n, world.ledger, 3.5 * world.settings.silence_s))
    started(world, 1)
    wait_until(lambda: len(world.entries("end")) >= 1, timeout_s=20)
    assert ("lost" in world.endings()) == bool(naive)


@naive("no_guardian")
def test_trap_9_a_task_that_holds_the_gil_is_not_taken_away(world: World, naive: str) -> None:
    slower = {"heartbeat_s": 0.8, "lease_s": 60.0}  # missed heartbeats count after 3.6 s
    world.start("w2", lanes=["high"], settings=slower)
    world.wait_for_leader("w2")
    world.start("w1", naive=naive, lanes=["low"], settings=slower)
    world.submit(lambda n: jobs.hold_gil.options(priority="low", timeout_s=60).bind(n, world.ledger, 8.0))
    started(world, 1)
    wait_until(lambda: len(world.entries("end")) >= 1, timeout_s=60)
    assert ("lost" in world.endings()) == bool(naive)


def test_trap_9_a_loop_that_is_wedged_for_a_lease_loses_its_jobs(world: World) -> None:
    world.start("w1", lanes=["low"])
    world.start("w2", lanes=["high"])
    world.submit(lambda n: jobs.block.options(priority="low").bind(n, world.ledger, 2.0 * world.settings.lease_s))
    started(world, 1)
    began = time.time()
    wait_until(lambda: "lost" in world.endings(), timeout_s=30)
    # On lease expiry, not on missed heartbeats: its heartbeats never stopped.
    assert time.time() - began > world.settings.lease_s - 1.0


@naive("a_loss_is_a_failure")
def test_trap_10_poison_ends_in_the_dead_letters_and_its_neighbours_do_not(world: World, naive: str) -> None:
    settings = {"concurrency": 50}
    for name in ("w1", "w2"):
        world.start(name, naive=naive, settings=settings)
    world.submit_many(lambda n: jobs.note.options(max_attempts=1).bind(n, world.ledger, 0.2), 400)
    bad = world.submit(lambda n: jobs.exit_worker.bind(n, world.ledger), ends={"failed"})
    world.submit_many(lambda n: jobs.note.options(max_attempts=1).bind(n, world.ledger, 0.2), 600)
    for round_ in range(3):
        wait_until(lambda: any(not w.alive for w in world.workers.values()) or world.at_rest(), timeout_s=40)
        for name in [name for name, worker in world.workers.items() if not worker.alive]:
            del world.workers[name]
            world.start(f"{name}{round_}", naive=naive, settings=settings)
    wait_until(world.at_rest, timeout_s=60)
    statuses = world.statuses()
    assert statuses.pop(bad) == "failed"
    assert (set(statuses.values()) != {"completed"}) == bool(naive)


@naive("counts_are_enough")
@pytest.mark.parametrize("how", ["a missing and a foreign id", "a score that never comes"])
def test_trap_11_equal_counts_do_not_hide_what_is_wrong(world: World, naive: str, how: str) -> None:
    n = world.submit(lambda n: jobs.note.bind(n, world.ledger))
    job = world.accepted[n]
    # A worker's first look has passed before it is broken.
    world.start("w1", naive=naive, lanes=["high"])
    wait_until(
        lambda: all(f'"{name}"' in str(world.redis.get(world.keys.rounds)) for name in ("dead letters", "audit"))
    )
    assert world.redis.lrem(world.keys.lane("medium"), 0, job) == 1
    if how == "a score that never comes":
        world.redis.zadd(world.keys.scheduled, {f"medium:{job}": 4e15})
    else:
        world.redis.rpush(world.keys.lane("medium"), "0" * 24)
    listed = in_time(lambda: world.redis.lpos(world.keys.lane("medium"), job) is not None, 6 * world.settings.round_s)
    assert listed != bool(naive)


@pytest.mark.parametrize("naive", [False, True], ids=["real", "naive"])
def test_trap_12_a_submit_does_not_wait_for_a_redis_that_is_down(
    world: World, monkeypatch: pytest.MonkeyPatch, naive: bool
) -> None:
    if naive:
        monkeypatch.setattr(link, "connect", as_it_comes)
    with TaskQueue(world.settings.replace(redis_url=world.stores.redis_url)) as client:
        client.include("tests.faults.jobs")
        client.jobs(limit=1)  # connects to MongoDB
        world.stores.kill_redis()
        began = time.monotonic()
        client.submit_call(jobs.note.bind(1, world.ledger))
        took_s = time.monotonic() - began
    # 250 ms is what is promised; a busy machine is forgiven a little more.
    assert (took_s > 0.5) == naive


def as_it_comes(route: Route, **_: object) -> redis.asyncio.Redis:
    """A client that retries as it does by default."""
    parts = urlsplit(route.address.url)
    return redis.asyncio.Redis(host=parts.hostname or "", port=parts.port or 0, password=parts.password)


@naive("no_reconnect")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in mid-job"])
def test_trap_13_work_goes_on_after_redis_was_restarted(world: World, naive: str, busy: bool) -> None:
    world.start("w1", naive=naive)
    world.wait_for_leader()
    if busy:
        world.submit(lambda n: jobs.note.bind(n, world.ledger, 2.0))
        started(world, 1)
    world.stores.restart_redis(empty=False)
    world.submit(lambda n: jobs.note.bind(n, world.ledger))
    done = in_time(lambda: set(world.statuses().values()) == {"completed"}, 10)
    assert done != bool(naive)
    if not naive:
        world.come_to_rest()
