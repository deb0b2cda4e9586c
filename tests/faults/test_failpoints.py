"""A kill before and after each write of the protocol: each does fire, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from bson import ObjectId

from dtqkit import OutcomeUnknown
from dtqkit.model import failpoints
from dtqkit.model.failpoints import LOG_VARIABLE, POINTS, VARIABLE, plan_of
from tests.faults import jobs
from tests.faults.world import World
from tests.wait import wait_until

#: Writes that only a client makes, those that only a worker and its leader make; the others both do.
OF_CLIENTS = ("insert", "unique", "push", "cancel", "ask_to_stop", "publish", "requeue", "dead_letter.delete")
OF_WORKERS = tuple(point for point in POINTS if point not in ("insert", "unique", "follow", "tick"))
#: test_followups.py has those that only happen where a job follows on another.
OF_FOLLOW_UPS = ("follow",)
#: test_schedules.py has those of a schedule that is due.
OF_SCHEDULES = ("tick",)

ANY = {"completed", "failed", "cancelled"}


def both_sides(points: tuple[str, ...]) -> list[str]:
    return [f"{point}.{side}" for point in points for side in ("before", "after")]


def test_every_write_has_its_failpoints() -> None:
    assert set(OF_CLIENTS) | set(OF_WORKERS) | set(OF_FOLLOW_UPS) | set(OF_SCHEDULES) == set(POINTS)


def test_a_client_may_die_around_each_of_its_writes(world: World) -> None:
    world.start("w1")
    for place in both_sides(OF_CLIENTS):
        point = place.rpartition(".")[0]
        what = {
            "cancel": "cancel",
            "ask_to_stop": "cancel",
            "requeue": "requeue",
            "dead_letter.delete": "requeue",
            "publish": "cancel",
            "unique": "submit unique",
        }
        match asked := what.get(point, "submit"):
            case "submit" | "submit unique":
                n = world.number()
                world.unknown.add(n)
                world.client(asked, n, fail=f"{place}=kill")
            case "cancel":
                n = world.submit(lambda n: jobs.note.bind(n, world.ledger, 6.0), ends=ANY)
                wait_until(lambda n=n: world.statuses()[n] == "running")
                world.client("cancel", n, fail=f"{place}=kill")
            case _:
                dies = jobs.note.options(max_attempts=1)
                n = world.submit(lambda n: dies.bind(n, world.ledger, failures=1), ends=ANY)  # noqa: B023
                wait_until(lambda n=n: world.statuses()[n] == "failed")
                world.requeued.add(world.accepted[n])
                world.client("requeue", n, fail=f"{place}=kill")
        assert world.fired(place), place
    world.come_to_rest()


def test_a_worker_that_leads_may_die_around_each_of_its_writes(world: World) -> None:
    """One worker, killed at one place after the other: each next one finds what its predecessor left."""
    settings = {"dead_letter_cooldown_s": 0.1, "dead_letter_recoveries": 100, "concurrency": 4}
    database = world.mongo[world.settings.database_name]
    for place in both_sides(OF_WORKERS):
        make_work(world)
        world.redis.zadd(world.keys.inflight, {f"medium:{ObjectId()}": 4e15})
        if place.startswith(("dead_letter.delete", "requeue", "epoch", "prune")):
            world.redis.flushdb()
            world.redis.zadd(world.keys.inflight, {f"medium:{ObjectId()}": 4e15})
            database["deadletter"].insert_one({"_id": ObjectId(), "death_seq": 1})
        if place.startswith("publish"):  # a lease that is over: its loss is published
            n = world.submit(lambda n: jobs.note.bind(n, world.ledger), ends=ANY)
            gone = {"status": "running", "claim": ObjectId(), "worker": "gone", "token": 1}
            past = [{"$set": {**gone, "claimed_at": "$created_at", "lease_until": "$created_at"}}]
            database["jobs"].update_one({"_id": ObjectId(world.accepted[n])}, past)
        worker = world.start("w1", fail=f"{place}=kill", settings=settings, wait=False)
        if place.startswith("cancel"):
            ask_in_the_record(world, "scheduled")
        if place.startswith("ask_to_stop"):
            world.submit(lambda n: jobs.note.bind(n, world.ledger, 9.0), ends=ANY)
            wait_until(lambda: "running" in world.statuses().values() or not world.workers["w1"].alive)
            ask_in_the_record(world, "running")
        wait_until(lambda worker=worker: not worker.alive, timeout_s=30, message=f"{place} is not reached")
        assert world.fired(place), place
    world.requeued.update(str(doc["_id"]) for doc in world.documents())
    world.start("w1")
    world.start("w2")
    world.come_to_rest(60)


def make_work(world: World) -> None:
    """Something of everything: quick, slow, late, failing, dying, and timing out."""
    world.submit_many(lambda n: jobs.note.bind(n, world.ledger), 2, ends=ANY)
    world.submit(lambda n: jobs.note.bind(n, world.ledger, failures=1), ends=ANY)
    world.submit(lambda n: jobs.note.options(max_attempts=1).bind(n, world.ledger, failures=1), ends=ANY)
    world.submit(lambda n: jobs.note.options(max_attempts=1, timeout_s=0.1).bind(n, world.ledger, 3.5), ends=ANY)
    world.submit(lambda n: jobs.note.options(delay_s=1.0).bind(n, world.ledger), ends=ANY)
    world.submit(lambda n: jobs.note.bind(n, world.ledger, 3.5), ends=ANY)


def ask_in_the_record(world: World, status: str) -> None:
    """A cancel request that no worker received."""
    world.submit(lambda n: jobs.note.options(delay_s=2.0).bind(n, world.ledger), ends=ANY)
    jobs_ = world.mongo[world.settings.database_name]["jobs"]
    jobs_.update_many({"status": status}, {"$set": {"cancel_requested": True}, "$inc": {"rev": 1}})


def plan(tmp_path: Path, text: str) -> tuple[failpoints.FailpointPlan, Path]:
    log = tmp_path / "fired"
    environ: Mapping[str, str] = {VARIABLE: text, LOG_VARIABLE: str(log)}
    made = plan_of(environ)
    assert made is not None
    return made, log


def test_without_the_variable_there_is_no_plan() -> None:
    assert plan_of({}) is None


def test_a_failpoint_fires_at_its_turn_and_says_so(tmp_path: Path) -> None:
    made, log = plan(tmp_path, "claim.after=raise@2")
    made.hit("claim.after")
    made.hit("claim.before")
    with pytest.raises(OutcomeUnknown):
        made.hit("claim.after")
    made.hit("claim.after")
    assert log.read_text() == f"{os.getpid()} claim.after raise\n"


def test_a_plan_that_names_no_failpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no failpoint"):
        plan(tmp_path, "klaim.after=kill")
    with pytest.raises(ValueError, match="which does not exist"):
        plan(tmp_path, "claim.after=dance")[0].hit("claim.after")


@pytest.mark.parametrize(("action", "ends_by"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_a_process_kills_or_stops_itself(tmp_path: Path, action: str, ends_by: signal.Signals) -> None:
    made, _ = plan(tmp_path, f"claim.after={action}")
    if (pid := os.fork()) == 0:
        made.hit("claim.after")
        os._exit(0)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if action == "stop":
        assert os.WIFSTOPPED(status)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    else:
        assert os.WTERMSIG(status) == ends_by
