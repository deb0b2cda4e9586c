"""One id too many and one too few: what the counts do not show (protocol.md, steps 10 and 11, second half).

A job that waits, and the id of one that is over; Redis lists each of them, or not, or where it will never be yielded.
Counts are compared every minute; every 5 minutes the ids are. A worker pops, and its claim drops the wrong id.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Final, Literal, NamedTuple

from tests.model.explore import Model, Rules, Step

#: `in flight`: popped by a worker that is gone; its score will come. `never due`: a score that will not.
Place = Literal["nowhere", "lane", "in flight", "never due"]
PLACES: Final[tuple[Place, ...]] = ("nowhere", "lane", "in flight", "never due")


class World(NamedTuple):
    #: Where the id of the job that waits is listed, and that of the job that is over.
    waiting: Place = "lane"
    over: Place = "nowhere"
    #: The lane is a list, as it should be; no command works on a key of a wrong type.
    right_type: bool = True
    done: bool = False
    faults: int = 1


Worlds = Iterable[World]


def model(rules: Rules) -> Model[World]:
    def steps_of_workers(world: World) -> Worlds:
        if world.right_type and world.waiting == "lane":
            yield world._replace(waiting="nowhere", done=True)
        if world.right_type and world.over == "lane":
            yield world._replace(over="nowhere")

    def reply_lost(world: World) -> Worlds:
        if world.faults and world.right_type and world.waiting == "lane":
            yield world._replace(waiting="nowhere", faults=world.faults - 1)

    def sweep(world: World) -> Worlds:
        if not world.right_type or rules.without("sweep"):
            return
        if world.waiting == "in flight":
            yield world._replace(waiting="lane")
        if world.over == "in flight":
            yield world._replace(over="lane")

    def compare_counts(world: World) -> Worlds:
        """As many listed as wait: nothing to do. Else the ids are looked at."""
        listed = (world.waiting != "nowhere") + (world.over != "nowhere")
        if listed != (0 if world.done else 1) and not rules.without("reconcile: counts"):
            yield from audit(world)

    def full_audit(world: World) -> Worlds:
        if not rules.without("reconcile: full audit"):
            yield from audit(world)

    def audit(world: World) -> Worlds:
        """By id: what is missing is pushed, a score that is never reached is corrected, what is over is dropped."""
        if not world.right_type:
            return
        waiting, over = world.waiting, world.over
        if waiting == "nowhere" and not world.done:
            waiting = "lane"
        if not rules.without("reconcile: scores"):
            waiting = "in flight" if waiting == "never due" else waiting
            over = "nowhere" if over == "never due" else over
        if (waiting, over) != (world.waiting, world.over):
            yield world._replace(waiting=waiting, over=over)

    def replace_key(world: World) -> Worlds:
        """Deleting the key loses what it listed; the audit lists it again."""
        if not world.right_type and not rules.without("reconcile: keys of a wrong type"):
            yield world._replace(
                right_type=True,
                waiting="nowhere" if world.waiting == "lane" else world.waiting,
                over="nowhere" if world.over == "lane" else world.over,
            )

    def any_content(world: World) -> Worlds:
        if not world.faults:
            return
        for waiting, over, right_type in product(PLACES, PLACES, (True, False)):
            yield World("nowhere" if world.done else waiting, over, right_type, world.done, world.faults - 1)

    def broken(world: World, step: Step[World], after: World) -> str | None:
        return None

    def good(world: World) -> bool:
        return world.done and world.over == "nowhere" and world.right_type

    return Model(
        World(),
        [
            Step("2 a worker pops an id, the claim decides", steps_of_workers),
            Step("2 pop, REPLY LOST", reply_lost, fault=True),
            Step("10 sweep", sweep),
            Step("11 reconcile: counts differ", compare_counts),
            Step("11 reconcile: full audit by id", full_audit),
            Step("11 reconcile: replaces a key of a wrong type", replace_key),
            Step("REDIS HOLDS ANYTHING", any_content, fault=True),
        ],
        broken,
        good,
    )
