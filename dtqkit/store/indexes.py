"""The indexes of jobs, why each is worth the work it makes, and how those that are there differ from them. Pure.

A job's life touches `lane` at the insert and at each change of status, the others once. There is no index for
claims (they are looked up by id) and none for the expiry of old jobs (the leader deletes by id: an ObjectId begins
with its time), because every index that follows the status costs mongod about a tenth of a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from pymongo import ASCENDING, IndexModel

#: The index that lets one idempotency key have one job: the writes of such jobs name it.
KEY: Final = "key"

JOBS: Final = (
    # The key first, so that a search for a key alone is served too.
    IndexModel(
        [("idempotency_key", ASCENDING), ("task", ASCENDING)],
        name=KEY,
        unique=True,
        partialFilterExpression={"idempotency_key": {"$exists": True}},
    ),
    # Counts of what waits, and listings by status, by priority and by both: keyset order within each pair.
    IndexModel([("status", ASCENDING), ("priority", ASCENDING), ("_id", ASCENDING)], name="lane"),
    IndexModel([("task", ASCENDING), ("_id", ASCENDING)], name="task"),
    IndexModel(
        [("tags", ASCENDING), ("_id", ASCENDING)],
        name="tags",
        partialFilterExpression={"tags": {"$exists": True}},
    ),
    # A listing by worker: without it, one that did little took 5 s and more to find among 300,000 jobs. Written once
    # an attempt, at the claim; it does not follow the status.
    IndexModel(
        [("worker", ASCENDING), ("_id", ASCENDING)],
        name="worker",
        partialFilterExpression={"worker": {"$exists": True}},
    ),
    # Counts of what has ended: by time, and covered, so that no document is read. Written once a job, at its end.
    IndexModel(
        [("ended_at", ASCENDING), ("priority", ASCENDING), ("status", ASCENDING), ("task", ASCENDING)],
        name="ended",
        partialFilterExpression={"ended_at": {"$exists": True}},
    ),
    # The same for failures whose job was requeued since: few.
    IndexModel([("failed_at", ASCENDING)], name="failed_at", partialFilterExpression={"failed_at": {"$exists": True}}),
)

#: Raised whenever what is above changes; kept in the collection `configuration`.
SCHEMA_VERSION: Final = 3
#: What older versions made and nobody uses any more: by name, its fields.
LEFT_OVER: Final[Mapping[str, tuple[str, ...]]] = {"idempotency": ("task", "idempotency_key")}
#: Of what MongoDB says of an index, what is no option.
_NO_OPTIONS: Final = frozenset({"v", "name", "key", "ns", "background"})


class Differences(NamedTuple):
    """What is to be done about the indexes of a collection, in this order."""

    #: Names of those that stand in the way: ours with other fields or options, or ours under another name.
    wrong: list[str]
    missing: list[IndexModel]
    #: Names of those that an older version left.
    left_over: list[str]

    @property
    def names(self) -> str:
        return ", ".join(dict.fromkeys([*(i.document["name"] for i in self.missing), *self.left_over]))


def differences(there: Iterable[Mapping[str, Any]]) -> Differences:
    """Compare what MongoDB lists with what is wanted. Indexes that others made for themselves are left alone."""
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
    # A false option is none.
    options = {k: v for k, v in index.items() if k not in _NO_OPTIONS and v is not False}
    return list(index["key"].items()), options
