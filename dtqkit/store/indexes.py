"""The indexes, and why each is worth the work it makes.

A job's life touches `lane` at the insert and at each change of status, the others once. There is no index for
claims (they are looked up by id) and none for the expiry of old jobs (the leader deletes by id: an ObjectId begins
with its time), because every index that follows the status costs mongod about a tenth of a job.
"""

from __future__ import annotations

from typing import Final

from pymongo import ASCENDING, IndexModel

JOBS: Final = (
    # Counts of what waits, and listings by status, by priority and by both: keyset order within each pair.
    IndexModel([("status", ASCENDING), ("priority", ASCENDING), ("_id", ASCENDING)], name="lane"),
    IndexModel([("task", ASCENDING), ("_id", ASCENDING)], name="task"),
    # The key first, so that a search for a key alone is served too.
    IndexModel(
        [("idempotency_key", ASCENDING), ("task", ASCENDING)],
        name="key",
        unique=True,
        partialFilterExpression={"idempotency_key": {"$exists": True}},
    ),
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
)

#: Raised whenever what is above changes; kept in the collection `configuration`.
SCHEMA_VERSION: Final = 2
