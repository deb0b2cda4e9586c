"""Correct the times in documents after MongoDB's clock was set."""

from __future__ import annotations

from typing import Final

from pymongo.asynchronous.database import AsyncDatabase

from dtqkit.store.client import MongoLink, store_errors
from dtqkit.store.clock import STEP_S, Step
from dtqkit.store.documents import Document

#: Equal steps within this time are one step that several processes noticed, in seconds.
SAME_STEP_S: Final = 120.0
#: Maximum time until a step is noticed, in seconds.
NOTICED_S: Final = 90.0


class ClockSteps:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, database: AsyncDatabase[Document], where: MongoLink) -> None:
        self._configuration = database["configuration"]
        self._jobs = database["jobs"]
        self._where = where

    async def claim(self, step: Step) -> bool:
        """Whether the caller is to handle this step. Of all processes that noticed it, exactly one is."""
        age_s = {"$divide": [{"$abs": {"$subtract": ["$at", "$$NOW"]}}, 1000]}
        differs_s = {"$abs": {"$subtract": ["$by_s", step.by_s]}}
        same = {"$and": [{"$lt": [age_s, SAME_STEP_S]}, {"$lt": [differs_s, 2 * STEP_S]}]}
        seen = [{"$set": {"at": "$$NOW", "by_s": step.by_s}}]
        with store_errors(self._where, writes=True):
            found = await self._configuration.update_one({"_id": "clock", "$expr": {"$not": [same]}}, seen)
            if found.matched_count:
                return True
            # Either another process has claimed it, or it is the first step ever.
            keep = {name: {"$ifNull": [f"${name}", value]} for name, value in (("at", "$$NOW"), ("by_s", step.by_s))}
            first = await self._configuration.update_one({"_id": "clock"}, [{"$set": keep}], upsert=True)
            return first.upserted_id is not None

    async def set_back(self, by_s: float, lease_s: float) -> int:
        """After MongoDB's clock was set back by `by_s`: move times that were set before by the same amount.

        These are leases that end later than any present claim could, and due times that were set before the step.
        A due time that was set within the last NOTICED_S by the present clock stays: whether it was set before or
        after the step is not known.
        """
        by_ms = round(by_s * 1000)
        far = {"$gt": ["$lease_until", {"$add": ["$$NOW", round(lease_s * 1000)]}]}
        ends: Document = {"$cond": [{"$isArray": "$earlier"}, {"$last": "$earlier.ended_at"}, None]}
        set_at = {"$ifNull": [ends, "$created_at"]}
        before = {
            "$or": [
                {"$gt": [set_at, "$$NOW"]},
                {"$lt": [set_at, {"$subtract": ["$$NOW", round(NOTICED_S * 1000)]}]},
            ]
        }
        earlier = {name: _moved(f"${name}", by_ms) for name in ("due_at", "queued_at")}
        with store_errors(self._where, writes=True):
            leases = await self._jobs.update_many(
                {"status": "running", "$expr": far},
                [{"$set": {"lease_until": _moved("$lease_until", by_ms)}}],
            )
            dues = await self._jobs.update_many(
                {"status": "scheduled", "$expr": {"$and": [{"$gt": ["$due_at", "$$NOW"]}, before]}},
                [{"$set": earlier}],
            )
            await self._configuration.update_one(  # automatic requeues are spaced out from there
                {"_id": "recoveries", "$expr": {"$gt": ["$next", "$$NOW"]}},
                [{"$set": {"next": _moved("$next", by_ms)}}],
            )
        return leases.modified_count + dues.modified_count


def _moved(field: str, by_ms: int) -> Document:
    """An earlier time; what is none, as another program may have written it, stays."""
    return {"$cond": [{"$eq": [{"$type": field}, "date"]}, {"$subtract": [field, by_ms]}, field]}
