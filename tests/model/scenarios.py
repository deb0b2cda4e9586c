"""The bounds at which the whole protocol is explored: small ones for every run, larger ones for `--deep`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tests.model import (
    audit,
    batch,
    deadletter,
    epoch,
    expiry,
    followup,
    lock,
    pauses,
    record,
    schedules,
    unique,
    unique_expiry,
    waits,
)
from tests.model.explore import Model, Rules
from tests.model.one_job import state, world

#: Builds a model with these guards taken away.
Build = Callable[[frozenset[str]], Model[Any]]


class Scenario(NamedTuple):
    name: str
    build: Build


def one_job(
    *faults: str,
    workers: int = 1,
    leaders: int = 1,
    at_most: int = 1,
    max_attempts: int = 1,
    max_losses: int = 2,
) -> Build:
    """One job, with at most so many of these faults; of all that there are when none is named."""
    chosen = frozenset(faults) or world.FAULTS

    def build(removed: frozenset[str]) -> Model[state.World]:
        rules = state.Rules(removed, chosen, max_attempts, max_losses)
        return world.model(rules, workers=workers, leaders=leaders, faults=at_most)

    return build


def several(
    *,
    jobs: int = 2,
    poison: int = 1,
    workers: int = 1,
    at_most: int = 0,
    max_losses: int = 2,
    slots: int = 2,
    recoveries: int = 0,
) -> Build:
    """Several jobs, the first `poison` of which kill their worker, with at most so many further faults."""

    def build(removed: frozenset[str]) -> Model[batch.World]:
        sick = frozenset(range(poison))
        rules = batch.Rules(removed, batch.FAULTS, jobs, sick, max_losses, slots, recoveries)
        return batch.model(rules, workers=workers, faults=at_most)

    return build


#: Two parents of child processes; one waits for a job of the same kind, one for a job of the loop.
PARENTS: Final[tuple[tuple[waits.Kind, ...], tuple[tuple[int, ...], ...]]] = (
    ("process", "process", "process", "loop"),
    ((2,), (3,), (), ()),
)


def parents(removed: frozenset[str]) -> Model[waits.World]:
    return waits.model(waits.Rules(removed, *PARENTS), faults=1)


def parents_on_two_workers(removed: frozenset[str]) -> Model[waits.World]:
    """Here both wait for a job of their own kind."""
    return waits.model(waits.Rules(removed, ("process",) * 4, PARENTS[1]), workers=2, faults=1)


def old_code(removed: frozenset[str]) -> Model[waits.World]:
    """A worker whose code cannot begin one of the jobs, beside one whose code can."""
    kinds: tuple[waits.Kind, ...] = ("loop", "process", "loop")
    rules = waits.Rules(removed, kinds, ((), (2,), ()), unable=frozenset({(0, 0), (0, 2)}))
    return waits.model(rules, workers=2, faults=1)


def rebuild(removed: frozenset[str]) -> Model[epoch.World]:
    return epoch.model(Rules(removed))


def two_records(removed: frozenset[str]) -> Model[record.World]:
    return record.model(Rules(removed))


def leader_lock(removed: frozenset[str]) -> Model[lock.World]:
    return lock.model(Rules(removed))


def dead_letters(removed: frozenset[str]) -> Model[deadletter.World]:
    return deadletter.model(deadletter.Rules(removed))


def expiring(removed: frozenset[str]) -> Model[expiry.World]:
    return expiry.model(expiry.Rules(removed))


def expiring_unserved(removed: frozenset[str]) -> Model[expiry.World]:
    """In a lane that no worker serves."""
    return expiry.model(expiry.Rules(removed, served=False))


def paused_schedule(removed: frozenset[str]) -> Model[schedules.World]:
    return schedules.model(schedules.Rules(removed), pauses=1)


def schedule_that_queues_one(removed: frozenset[str]) -> Model[schedules.World]:
    """A run that is due while one is active waits until that is over."""
    return schedules.model(schedules.Rules(removed, queue_one=True), faults=1)


def changed_schedule(removed: frozenset[str]) -> Model[schedules.World]:
    return schedules.model(schedules.Rules(removed), changes=1)


def following(removed: frozenset[str]) -> Model[followup.World]:
    return followup.model(Rules(removed))


def lanes(removed: frozenset[str]) -> Model[audit.World]:
    return audit.model(Rules(removed))


def pause_and_resume(removed: frozenset[str]) -> Model[pauses.World]:
    return pauses.model(Rules(removed))


def unique_waiting(removed: frozenset[str]) -> Model[unique.World]:
    return unique.model(unique.Rules(removed, "waiting"))


def unique_replaced(removed: frozenset[str]) -> Model[unique.World]:
    """Each submit replaces the payload of the job that waits."""
    return unique.model(unique.Rules(removed, "waiting", replace=True))


def unique_active(removed: frozenset[str]) -> Model[unique.World]:
    return unique.model(unique.Rules(removed, "active"))


def unique_window(removed: frozenset[str]) -> Model[unique.World]:
    return unique.model(unique.Rules(removed, "window"))


def unique_waiting_expiring(removed: frozenset[str]) -> Model[unique_expiry.World]:
    return unique_expiry.model(unique_expiry.Rules(removed, "waiting", replace=True))


def unique_active_expiring(removed: frozenset[str]) -> Model[unique_expiry.World]:
    return unique_expiry.model(unique_expiry.Rules(removed, "active"))


#: Few attempts here, so that a job is failed, requeued and claimed again within two faults.
REQUEUED: Final = one_job("pause", "requeue", workers=2, at_most=2, max_losses=1)

EVERY_RUN: Final = (
    Scenario("one job, one worker, any two faults", one_job(at_most=2)),
    Scenario("one job, two workers, any fault", one_job(workers=2)),
    Scenario("one job, two leaders, any fault", one_job(leaders=2)),
    Scenario("one job, three attempts that fail or are released", one_job(
        "task fails", "release", "cancel", at_most=3, max_attempts=2
    )),
    Scenario("a good job beside a poison job", several()),
    Scenario("two good jobs beside a poison job", several(jobs=3, slots=3)),
    Scenario("a good job beside two poison jobs", several(jobs=3, poison=2)),
    Scenario("a good and a poison job, two workers", several(workers=2)),
    Scenario("a good and a poison job, and a fault", several(at_most=1, max_losses=4)),
    Scenario("a poison job, recovered automatically", several(recoveries=1)),
    Scenario("jobs that wait for jobs, one worker", parents),
    Scenario("jobs that wait for jobs, two workers", parents_on_two_workers),
    Scenario("a worker whose code cannot begin a job", old_code),
    Scenario("a good job beside two poison jobs, three losses", several(jobs=3, poison=2, max_losses=3, slots=3)),
    Scenario("rebuild after two flushes, two leaders", rebuild),
    Scenario("the leader's lock, anything in its place", leader_lock),
    Scenario("two environments on one Redis", two_records),
    Scenario("dead letters, two requeues, automatic recovery", dead_letters),
    Scenario("a job that expires, a worker and the audit", expiring),
    Scenario("a job that expires where no worker serves it", expiring_unserved),
    Scenario("what follows on a job that ends twice, two submitters", following),
    Scenario("lanes: one id too many and one too few", lanes),
    Scenario("a schedule that is paused, two leaders, the clock is set", paused_schedule),
    Scenario("a schedule whose task is changed, two leaders, the clock is set", changed_schedule),
    Scenario("a schedule that keeps one run waiting, two leaders, the clock is set", schedule_that_queues_one),
    Scenario("unique while it waits", unique_waiting),
    Scenario("unique while it waits, replaced", unique_replaced),
    Scenario("unique until it is over", unique_active),
    Scenario("unique in a window", unique_window),
    Scenario("unique while it waits, replaced, and too late", unique_waiting_expiring),
    Scenario("unique until it is over, and too late", unique_active_expiring),
    Scenario("a pause, its end, and a change of a waiting job", pause_and_resume),
)  # fmt: skip

#: Minutes each; for `python -m tests.model --deep`.
DEEP: Final = (
    Scenario("one job, two workers, two leaders, any fault", one_job(workers=2, leaders=2)),
    Scenario("one job, two leaders, any two of: crash, pause, Redis", one_job(
        "crash", "pause", "redis content", "redis away", leaders=2, at_most=2
    )),
    Scenario("one job, two workers, any two of: crash, pause, late or lost claim", one_job(
        "crash", "pause", "claim late", "claim lost", workers=2, at_most=2
    )),
    Scenario("one job, two workers, paused and requeued", REQUEUED),
    Scenario("one job, any three of: pause, cancel, failure, requeue, MongoDB", one_job(
        "pause", "cancel", "task fails", "requeue", "mongo away", at_most=3, max_attempts=2
    )),
    Scenario("a good job beside two poison jobs, two workers", several(jobs=3, poison=2, workers=2)),
    Scenario("a good and a poison job, two workers and a fault", several(workers=2, at_most=1, max_losses=4)),
)  # fmt: skip
