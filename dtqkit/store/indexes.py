"""The indexes, why each is worth the work it makes, and how those that are missing are built.

A job's life touches `lane` at the insert and at each change of status, the others once. There is no index for
claims (they are looked up by id) and none for the expiry of old jobs (the leader deletes by id: an ObjectId begins
with its time), because every index that follows the status costs mongod about a tenth of a job.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import pymongo
from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

log = logging.getLogger("dtqkit.store")

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
#: A collection with fewer documents gets its indexes while it is opened: a second at most.
SMALL: Final = 50_000
#: No deadline, as far as the driver knows such a thing (seconds).
_BUILD_S: Final = 86_400.0


async def missing(collection: AsyncCollection[dict[str, Any]]) -> list[IndexModel]:
    """Which indexes are not there: a collection that was dropped or restored has lost them, whatever its version."""
    there = {index["name"] async for index in await collection.list_indexes()}
    return [index for index in JOBS if index.document["name"] not in there]


async def is_small(collection: AsyncCollection[dict[str, Any]]) -> bool:
    return await collection.estimated_document_count() < SMALL


async def create(collection: AsyncCollection[dict[str, Any]], indexes: list[IndexModel]) -> None:
    """Create `indexes`. One that cannot be built, say for keys that exist twice, is logged, and the others built."""
    try:
        await collection.create_indexes(indexes)
    except OperationFailure:
        for index in indexes:
            try:
                await collection.create_indexes([index])
            except OperationFailure as error:
                reason = str(error).partition(", full error")[0][:300]
                log.warning("index %r of jobs cannot be built: %s", index.document["name"], reason)


async def build(collection: AsyncCollection[dict[str, Any]], indexes: list[IndexModel]) -> None:
    """As `create`, however long it takes; MongoDB builds an index once, whoever else asks for it meanwhile."""
    names = ", ".join(index.document["name"] for index in indexes)
    jobs = await collection.estimated_document_count()
    log.info("building indexes of %d jobs: %s; until they are there, some listings and counts are slow", jobs, names)
    began = time.monotonic()
    with pymongo.timeout(_BUILD_S):
        await create(collection, indexes)
    log.info("built indexes of jobs: %s, in %.0f s", names, time.monotonic() - began)
