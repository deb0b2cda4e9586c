"""The indexes of jobs, the reason for each, and how the existing ones differ from them. No I/O.

A job updates `lane` at its insert and at each change of its status, the other indexes once. There is no index for
claims (they are looked up by id) and none for the expiry of old jobs (the leader deletes by id: an ObjectId begins
with its time), because every index that includes the status adds about a tenth to mongod's work for a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from pymongo import ASCENDING, IndexModel

#: The unique index of idempotency keys. Inserts of jobs with a key name it as a hint.
KEY: Final = "key"
#: That of what is to follow on jobs, which the leader looks through.
FOLLOW_UPS: Final = "followups"
#: That of submits which have replaced a waiting job, and which another one has replaced since.
REPLACED: Final = "replaced"
#: The unique index of the slots of unique jobs. Their upserts name it as a hint.
UNIQUE: Final = "unique"

JOBS: Final = (
    # The key first, so that a search by key alone can use it.
    IndexModel(
        [("idempotency_key", ASCENDING), ("task", ASCENDING)],
        name=KEY,
        unique=True,
        partialFilterExpression={"idempotency_key": {"$exists": True}},
    ),
    # Only jobs that hold a slot are in it: an entry is added at the insert and removed when the slot is freed.
    IndexModel(
        [("unique_slot", ASCENDING)],
        name=UNIQUE,
        unique=True,
        partialFilterExpression={"unique_slot": {"$exists": True}},
    ),
    # Counts of waiting jobs, and listings by status, by priority and by both: in the order of ids within each pair.
    IndexModel([("status", ASCENDING), ("priority", ASCENDING), ("_id", ASCENDING)], name="lane"),
    IndexModel([("task", ASCENDING), ("_id", ASCENDING)], name="task"),
    IndexModel(
        [("tags", ASCENDING), ("_id", ASCENDING)],
        name="tags",
        partialFilterExpression={"tags": {"$exists": True}},
    ),
    # Listings by worker: without it, the few jobs of one worker took 5 s and more to find among 300,000 jobs. Updated
    # once an attempt, at the claim.
    IndexModel(
        [("worker", ASCENDING), ("_id", ASCENDING)],
        name="worker",
        partialFilterExpression={"worker": {"$exists": True}},
    ),
    # Counts of ended jobs by time: a covering index, so that no document is read. Updated once a job, at its end.
    IndexModel(
        [("ended_at", ASCENDING), ("priority", ASCENDING), ("status", ASCENDING), ("task", ASCENDING)],
        name="ended",
        partialFilterExpression={"ended_at": {"$exists": True}},
    ),
    # The same for failures of jobs that were requeued since: few.
    IndexModel([("failed_at", ASCENDING)], name="failed_at", partialFilterExpression={"failed_at": {"$exists": True}}),
    # Ended jobs on which another one is still to follow: hardly ever any.
    IndexModel(
        [("followups.token", ASCENDING)],
        name=FOLLOW_UPS,
        partialFilterExpression={"followups.token": {"$exists": True}},
    ),
    # By an idempotency key, for a submit that is sent again. Only jobs that were replaced are in it.
    IndexModel(
        [("replaced_before", ASCENDING)],
        name=REPLACED,
        partialFilterExpression={"replaced_before": {"$exists": True}},
    ),
)

#: Of the collection `schedules`: the leader looks for those that are due, at most once a heartbeat. A paused one has no
#: `due_at`. Created with the first schedule.
SCHEDULES: Final = (
    IndexModel([("due_at", ASCENDING)], name="due", partialFilterExpression={"due_at": {"$exists": True}}),
)

#: Increase this with any change of JOBS; stored in the collection `configuration`.
SCHEMA_VERSION: Final = 5
#: Indexes of older versions that are no longer used, by name: their fields.
LEFT_OVER: Final[Mapping[str, tuple[str, ...]]] = {"idempotency": ("task", "idempotency_key")}
#: Fields in MongoDB's description of an index that are not options.
_NO_OPTIONS: Final = frozenset({"v", "name", "key", "ns", "background"})


class Differences(NamedTuple):
    """What to do about the indexes of a collection, in this order."""

    #: Names of those to drop first: with the wrong fields or options, or under another name.
    wrong: list[str]
    missing: list[IndexModel]
    #: Names of those that an older version created.
    left_over: list[str]

    @property
    def names(self) -> str:
        return ", ".join(dict.fromkeys([*(i.document["name"] for i in self.missing), *self.left_over]))


def differences(there: Iterable[Mapping[str, Any]]) -> Differences:
    """Compare the existing indexes with the definitions. Indexes that users created for themselves are left alone."""
    by_name = {index["name"]: index for index in there}
    found = {name: _definition(index) for name, index in by_name.items()}
    wanted = {index.document["name"]: _definition(index.document) for index in JOBS}
    other_names = [name for name, it in found.items() if name not in wanted and it in wanted.values()]
    return Differences(
        wrong=[name for name, it in wanted.items() if name in found and found[name] != it] + other_names,
        missing=[index for index in JOBS if found.get(name := index.document["name"]) != wanted[name]],
        left_over=[n for n, it in by_name.items() if n in LEFT_OVER and tuple(it["key"]) == LEFT_OVER[n]],
    )


def _definition(index: Mapping[str, Any]) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    """Fields in their order, and options."""
    # An option that is false is the same as an absent one.
    options = {k: v for k, v in index.items() if k not in _NO_OPTIONS and v is not False}
    return list(index["key"].items()), options
