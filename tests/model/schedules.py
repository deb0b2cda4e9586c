"""A schedule and two leaders (docs/internals/protocol.md, step 15; `dtqkit/transitions/tick.py`).

Nominal times are 1 and 2. Runs that are late are made up for by the last one; a run that is due while one is active is
skipped, or waits until that is over (`queue_one`). Each nominal time must be enqueued once, or counted once: as missed
or as skipped. Instead of `rev`, a leader has a flag: whether the schedule is still as it knows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from tests.model import explore
from tests.model.explore import Model, Step, replaced

LAST: Final = 2
END: Final = 2
LEADERS: Final = (0, 1)


class Doc(NamedTuple):
    """The schedule in MongoDB."""

    next: int = 1
    pending: tuple[int, ...] = ()
    #: The nominal time whose run waits until the one before is over (`queue_one`); 0: none.
    held: int = 0
    paused: bool = False
    #: The definition: a person may change the task from 0 to 1.
    task: int = 0
    enqueued: frozenset[int] = frozenset()
    missed: frozenset[int] = frozenset()
    skipped: frozenset[int] = frozenset()


class Leader(NamedTuple):
    doing: Literal["idle", "has read", "enqueues", "has enqueued"] = "idle"
    #: As it was when it was read, or last written by this leader.
    doc: Doc = Doc()
    now: int = 0
    active: bool = False
    #: Whether nobody has changed it since.
    current: bool = True


class World(NamedTuple):
    doc: Doc = Doc()
    #: (task, nominal time) of the jobs, and those that are not over.
    jobs: frozenset[tuple[int, int]] = frozenset()
    active: frozenset[tuple[int, int]] = frozenset()
    #: One nominal time has two jobs.
    twice: bool = False
    #: MongoDB's clock, and the latest time that it has shown.
    clock: int = 0
    latest: int = 0
    leaders: tuple[Leader, ...] = (Leader(), Leader())
    faults: int = 2
    #: What a person may do: pauses of the schedule, changes of its task.
    pauses: int = 0
    changes: int = 0


@dataclass(frozen=True)
class Rules(explore.Rules):
    queue_one: bool = False


RULES: Final = Rules()


def is_due(doc: Doc, clock: int, rules: Rules = RULES) -> bool:
    looks = bool(doc.held) and not rules.without("queue_one: what waits is looked at again")
    return bool(doc.pending) or (not doc.paused and (looks or doc.next <= min(clock, LAST)))


def changed(world: World, doc: Doc, but: int | None = None) -> World:
    """The schedule is changed, by leader `but` or by a person: the other leaders know an older one."""
    leaders = tuple(
        one._replace(current=False) if i != but and one.doing != "idle" else one for i, one in enumerate(world.leaders)
    )
    return world._replace(doc=doc, leaders=leaders)


def model(rules: Rules, pauses: int = 0, changes: int = 0, faults: int = 2) -> Model[World]:
    steps = [step for i in LEADERS for step in leader_steps(i, rules)]
    steps += [
        Step("time passes", passes),
        Step("a job is over", over),
        Step("a person pauses the schedule", pauser(rules)),
        Step("a person resumes it", resume),
        Step("a person changes its task", changer(rules)),
        Step("MONGODB'S CLOCK IS SET", clock_is_set, fault=True),
    ]
    start = World(pauses=pauses, changes=changes, faults=faults)
    return Model(start, steps, broken_one_by_one if rules.queue_one else broken, good)


def leader_steps(i: int, rules: Rules) -> list[Step[World]]:
    def now(world: World, leader: Leader) -> World:
        return world._replace(leaders=replaced(world.leaders, i, leader))

    def read(world: World) -> Iterable[World]:
        if world.leaders[i].doing != "idle" or not is_due(world.doc, world.clock, rules):
            return ()
        return (now(world, Leader("has read", world.doc, world.clock, bool(world.active))),)

    def decide(world: World) -> Iterable[World]:
        me = world.leaders[i]
        if me.doing != "has read":
            return ()
        if me.doc.pending and not rules.without("tick: pending goes first"):
            return (now(world, Leader("enqueues", me.doc, current=me.current)),)
        if not me.current and not rules.without("tick: rev inside the decision"):
            return (now(world, Leader()),)
        decided = decision(me, rules)
        mine = Leader("enqueues", decided) if decided.pending else Leader()
        return (now(changed(world, decided, but=i), mine),)

    def enqueue(world: World) -> Iterable[World]:
        me = world.leaders[i]
        if me.doing != "enqueues":
            return ()
        after = now(world, me._replace(doing="has enqueued"))
        for at in me.doc.pending:
            job = (me.doc.task, at)
            known = job in after.jobs
            twice = any(one[1] == at and one != job for one in after.jobs)
            twice = twice or (known and rules.without("tick: a key for each nominal time"))
            after = after._replace(
                jobs=after.jobs | {job},
                active=after.active if known else after.active | {job},
                twice=after.twice or twice,
            )
        return (after,)

    def finish(world: World) -> Iterable[World]:
        me = world.leaders[i]
        if me.doing != "has enqueued":
            return ()
        if not me.current and not rules.without("tick: rev inside the end"):
            return (now(world, Leader()),)
        done = me.doc._replace(pending=(), enqueued=me.doc.enqueued | set(me.doc.pending))
        return (now(changed(world, done, but=i), Leader()),)

    def die(world: World) -> Iterable[World]:
        if not world.faults or world.leaders[i].doing == "idle":
            return ()
        return (now(world, Leader())._replace(faults=world.faults - 1),)

    return [
        Step(f"15 leader {i} reads a schedule that is due", read, actor=i),
        Step(f"15 leader {i} decides", decide, actor=i),
        Step(f"15 leader {i} enqueues what is pending", enqueue, actor=i),
        Step(f"15 leader {i} notes that it is enqueued", finish, actor=i),
        Step(f"LEADER {i} IS KILLED", die, fault=True),
    ]


def decision(me: Leader, rules: Rules) -> Doc:
    doc = me.doc
    due = [] if doc.paused else list(range(doc.next, min(me.now, LAST) + 1))
    if rules.without("tick: a time follows from the one before"):
        due = due[:1]
    wanted, missed, skipped = due[-1:], set(due[:-1]), set[int]()
    held = doc.held
    if rules.queue_one:
        wanted, skipped, held = one_by_one(me, wanted, rules)
    elif me.active:
        wanted, skipped = [], set(wanted)
    following = due[-1] + 1 if due else doc.next
    if rules.without("tick: a time follows from the one before") and due:
        following = me.now + 1
    decided = doc._replace(
        next=following,
        held=held,
        pending=tuple(wanted),
        missed=doc.missed | missed,
        skipped=doc.skipped | skipped,
    )
    if rules.without("tick: pending until it is enqueued"):
        return decided._replace(pending=(), enqueued=doc.enqueued | set(wanted))
    return decided


def one_by_one(me: Leader, due: list[int], rules: Rules) -> tuple[list[int], set[int], int]:
    """What is enqueued, what is skipped, and what waits: `queue_one`."""
    held, enqueue, skipped = me.doc.held, list[int](), set[int]()
    active = me.active and not rules.without("queue_one: a run waits for the one before")
    if held and not active:
        enqueue, held = [held], 0
    for nominal in due:
        if not active and not enqueue:
            enqueue.append(nominal)
        elif not held:
            held = nominal
        else:
            skipped.add(nominal)
    if rules.without("queue_one: what waits stays in the schedule"):
        held = 0
    return enqueue, skipped, held


# -- the world


def passes(world: World) -> Iterable[World]:
    if world.clock >= END:
        return ()
    return (at(world, world.clock + 1),)


def clock_is_set(world: World) -> Iterable[World]:
    if not world.faults:
        return ()
    moved = (at(world, clock) for clock in {max(0, world.clock - 2), min(END, world.clock + 2)})
    return (one._replace(faults=world.faults - 1) for one in moved)


def at(world: World, clock: int) -> World:
    return world._replace(clock=clock, latest=max(world.latest, clock))


def over(world: World) -> Iterable[World]:
    return (world._replace(active=world.active - {job}) for job in world.active)


def pauser(rules: Rules):
    def pause(world: World) -> Iterable[World]:
        if world.doc.paused or not world.pauses:
            return ()
        paused, world = world.doc._replace(paused=True), world._replace(pauses=world.pauses - 1)
        return (world._replace(doc=paused) if rules.without("pause: changes rev") else changed(world, paused),)

    return pause


def resume(world: World) -> Iterable[World]:
    if not world.doc.paused:
        return ()
    return (changed(world, world.doc._replace(paused=False)),)


def changer(rules: Rules):
    def change(world: World) -> Iterable[World]:
        first = not rules.without("change: what is due goes first")
        if not world.changes or (first and is_due(world.doc, world.clock)):
            return ()
        return (changed(world, world.doc._replace(task=1))._replace(changes=0),)

    return change


def broken(before: World, step: Step[World], after: World) -> str | None:
    if after.twice:
        return "a nominal time has two jobs"
    doc, jobs = after.doc, {nominal for _, nominal in after.jobs}
    if doc.next < before.doc.next:
        return "the schedule goes back to a time that is dealt with"
    if any(nominal > after.latest for nominal in jobs):
        return "a job is enqueued before its time"
    if before.doc.paused and not doc.paused and "resumes" not in step.label:
        return "a pause is lost"
    for nominal in range(1, min(doc.next, LAST + 1)):
        accounts = (doc.enqueued, doc.missed, doc.skipped, frozenset((*doc.pending, doc.held)))
        if sum(nominal in account for account in accounts) != 1:
            return f"time {nominal} is not accounted for exactly once"
        if nominal in doc.enqueued and nominal not in jobs:
            return f"time {nominal} counts as enqueued and has no job"
        if nominal in (doc.missed | doc.skipped) and nominal in jobs:
            return f"time {nominal} counts as not run and has a job"
    return None


def broken_one_by_one(before: World, step: Step[World], after: World) -> str | None:
    """Of a schedule that keeps one run waiting."""
    return "two runs at a time" if len(after.active) > 1 else broken(before, step, after)


def good(world: World) -> bool:
    return world.doc.next > LAST and not world.doc.pending and not world.doc.held
