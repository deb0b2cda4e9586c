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
    IndexModel(
        [("task", ASCENDING), ("idempotency_key", ASCENDING)],
        name="idempotency",
        unique=True,
        partialFilterExpression={"idempotency_key": {"$exists": True}},
    ),
    IndexModel(
        [("tags", ASCENDING), ("_id", ASCENDING)],
        name="tags",
        partialFilterExpression={"tags": {"$exists": True}},
    ),
)

#: Raised whenever what is above changes; kept in the collection `configuration`.
SCHEMA_VERSION: Final = 1
