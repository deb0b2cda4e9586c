"""Keep the indexes as defined: compare them at each open and periodically, and build missing ones."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pymongo
from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from dtqkit.store.documents import Document
from dtqkit.store.indexes import KEY, SCHEMA_VERSION, UNIQUE, Differences, differences
from dtqkit.store.refusals import of_code, one_line
from dtqkit.support.cancel import end

log = logging.getLogger("dtqkit.store")

#: For a collection with fewer documents, `open` builds the indexes itself: that takes a second at most.
SMALL: Final = 50_000
#: Delay before a build in the background, in seconds: short-lived processes start none.
BEGIN_S: Final = 2.0
#: Pause before the indexes are compared again, in seconds: after a failure, or while another process builds.
AGAIN_S: Final = 5.0
#: Lease of the building process in seconds: if it is not renewed, another process takes over.
LEASE_S: Final = 60.0
#: How often the progress of a build is logged, in seconds.
REPORT_S: Final = 10.0
#: Stands for "no timeout", in seconds: MongoDB takes less than 25 days.
_NO_DEADLINE_S: Final = 7 * 86_400.0
#: How long a build of a small collection may take, in seconds, when a submit waits for it.
_AT_ONCE_S: Final = 5.0
#: MongoDB's code for a missing index.
_NO_INDEX: Final = 27
#: MongoDB's codes for interrupted and for aborted builds.
_FOR_NOW: Final = frozenset({276, 11601})
_DUPLICATE_KEY: Final = 11_000


class IndexKeeper:
    """The indexes of `jobs`. Of all processes, one builds at a time: it holds a lease in `configuration`."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._database = database
        self._jobs = database["jobs"]
        self._configuration = database["configuration"]
        self._me = secrets.token_hex(8)
        self._keeping: asyncio.Task[None] | None = None
        self._mending = asyncio.Lock()
        #: Why missing indexes cannot be built; empty: they can.
        self.refused = ""
        #: Names of those that were missing when they were compared last; None: they never were.
        self._missing: frozenset[str] | None = None

    def has(self, name: str) -> bool:
        """Whether the index of this name was there when they were compared last."""
        return self._missing is not None and name not in self._missing

    async def open(self) -> None:
        """Compare, and build what is missing: at once if that takes a second at most, otherwise in the background."""
        found = await self._differences()
        if not any(found):
            return
        built = await self._is_small() and await self._try(found)
        if not built and not self.refused:
            self.keep()

    def keep(self) -> None:
        """Compare, and build what is missing, in the background. May be called at any time."""
        if self._keeping is None or self._keeping.done():
            # In a context of its own: the caller's context has a timeout.
            self._keeping = asyncio.create_task(self._until_kept(), name="keep indexes", context=contextvars.Context())

    async def ensure(self, name: str) -> bool:
        """Whether the index of this name exists now: a submit found it missing."""
        async with self._mending:
            with pymongo.timeout(_AT_ONCE_S):
                found = await self._differences()
                if name in _names(found.missing) and await self._is_small() and await self._try(found):
                    found = await self._differences()
        if any(found):
            self.keep()
        return name not in _names(found.missing)

    async def close(self) -> None:
        if self._keeping is not None:
            await end(self._keeping)

    async def _differences(self) -> Differences:
        found = differences([index async for index in await self._jobs.list_indexes()])
        self._missing = frozenset(_names(found.missing))
        return found

    async def _is_small(self) -> bool:
        return await self._jobs.estimated_document_count() < SMALL

    async def _try(self, found: Differences) -> bool:
        """Build them; returns whether that succeeded."""
        try:
            await self._build(found)
        except PyMongoError as error:
            if not self._not_allowed(error, found):
                log.warning("indexes of jobs cannot be built now (%s); trying again in the background", _first(error))
            return False
        return True

    def _not_allowed(self, error: PyMongoError, found: Differences) -> bool:
        if not _is_denied(error):
            return False
        self.refused = (
            f"indexes of {self._jobs.full_name} are missing ({found.names}) and the user of ATLAS_URI may not create "
            f"them: give it the role readWrite on {self._database.name}"
        )
        log.error("%s (%s)", self.refused, _first(error))
        return True

    # -- in the background

    async def _until_kept(self) -> None:
        await asyncio.sleep(BEGIN_S)
        waits = False
        found = differences([])
        while True:
            try:
                found = await self._differences()
                if not any(found):
                    return
                if await self._claim():
                    async with self._held(), self._reporting(found):
                        with pymongo.timeout(_NO_DEADLINE_S):
                            await self._build(found)
                    return
                if not waits:
                    log.info("another process is building missing indexes of jobs: %s", found.names)
                waits = True
            except PyMongoError as error:
                if self._not_allowed(error, found):
                    return
                log.warning("indexes of jobs cannot be built now; trying again: %s", _first(error))
            await asyncio.sleep(AGAIN_S)

    async def _claim(self) -> bool:
        """Take or renew the lease; returns whether this process is to build."""
        with suppress(DuplicateKeyError):
            await self._configuration.insert_one({"_id": "indexes"})
        free: Document = {"$or": [{"by": self._me}, {"$expr": {"$lt": ["$until", "$$NOW"]}}]}
        until = {"$add": ["$$NOW", round(LEASE_S * 1000)]}
        claimed = await self._configuration.update_one(
            {"_id": "indexes", **free}, [{"$set": {"by": self._me, "until": until}}]
        )
        return claimed.matched_count == 1

    @asynccontextmanager
    async def _held(self) -> AsyncGenerator[None]:
        """Renew the lease, and give it back at the end."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_S / 4)
                with suppress(PyMongoError):
                    await self._claim()

        renewing = asyncio.create_task(renew(), name="keep indexes: renew")
        try:
            yield
        finally:
            await end(renewing)
            with suppress(PyMongoError), pymongo.timeout(1.0):
                await self._configuration.update_one(
                    {"_id": "indexes", "by": self._me}, {"$unset": {"by": "", "until": ""}}
                )

    @asynccontextmanager
    async def _reporting(self, found: Differences) -> AsyncGenerator[None]:
        """Log what is built, the progress, and how long it took."""
        began = time.monotonic()

        async def report() -> None:
            while True:
                await asyncio.sleep(REPORT_S)
                shown = await self._progress()
                log.info("building indexes of jobs for %.0f s%s", time.monotonic() - began, f": {shown}" * bool(shown))

        n = await self._jobs.estimated_document_count()
        log.info("building indexes of %d jobs: %s; meanwhile some listings and counts are slow", n, found.names)
        reporting = asyncio.create_task(report(), name="keep indexes: report")
        try:
            yield
            log.info("built indexes of jobs: %s, in %.0f s", found.names, time.monotonic() - began)
        finally:
            await end(reporting)

    async def _progress(self) -> str:
        """The progress of the build; empty when this user may not see it."""
        try:
            found = await self.builds()
        except PyMongoError:
            return ""
        # For example: Index Build: scanning collection Index Build: scanning collection: 69364/400000 17%
        return "; ".join(sorted({text.rpartition("Index Build: ")[2] for text in found}))[:200]

    async def builds(self) -> list[str]:
        """MongoDB's messages about builds in progress."""
        match: Document = {"command.createIndexes": self._jobs.name, "msg": {"$regex": "^Index Build"}}
        # MongoDB refuses any other read concern here.
        admin = self._database.client.get_database("admin", read_concern=ReadConcern("local"))
        ops = await admin.aggregate([{"$currentOp": {"allUsers": True}}, {"$match": match}])
        return [str(op["msg"]) async for op in ops]

    # -- build

    async def _build(self, found: Differences) -> None:
        """Build all. One that cannot be built because of the documents is logged and skipped."""
        for name in found.wrong:
            log.warning("index %r of jobs differs from its definition; rebuilding it", name)
            await self._drop(name)
        # These two first, each alone: submits with an idempotency key, and those of unique jobs, need them.
        needed = [index for index in found.missing if index.document["name"] in (KEY, UNIQUE)]
        for index in needed:
            await self._create([index])
        await self._create([index for index in found.missing if index not in needed])
        for name in found.left_over:
            await self._drop(name)
        await self._configuration.update_one({"_id": "schema"}, {"$max": {"version": SCHEMA_VERSION}}, upsert=True)
        self.refused = ""
        await self._differences()  # one may have been skipped

    async def _drop(self, name: str) -> None:
        try:
            await self._jobs.drop_index(name)
        except OperationFailure as error:
            if error.code != _NO_INDEX:
                raise

    async def _create(self, indexes: list[IndexModel]) -> None:
        if not indexes:
            return
        try:
            # Majority: the build does not wait for a member that is down.
            await self._jobs.create_indexes(indexes, commitQuorum="majority")
        except OperationFailure as error:
            if _is_denied(error) or error.code in _FOR_NOW:
                raise
            if error.code == _DUPLICATE_KEY and await (
                self._free_slots() if indexes[0].document["name"] == UNIQUE else self._free_keys()
            ):
                await self._create(indexes)
            elif len(indexes) == 1:
                log.warning("index %r of jobs cannot be built: %s", indexes[0].document["name"], _first(error))
            else:
                for index in indexes:
                    await self._create([index])

    async def _free_keys(self) -> int:
        """Remove duplicate idempotency keys from all but the oldest job of each; returns how many."""
        freed = 0
        pipeline: list[Document] = [
            {"$match": {"idempotency_key": {"$exists": True}}},
            {"$group": {"_id": {"t": "$task", "k": "$idempotency_key"}, "n": {"$sum": 1}, "first": {"$min": "$_id"}}},
            {"$match": {"n": {"$gt": 1}}},
        ]
        async for group in await self._jobs.aggregate(pipeline, allowDiskUse=True):
            same: Document = {"task": group["_id"].get("t"), "idempotency_key": group["_id"]["k"]}
            later = {**same, "_id": {"$ne": group["first"]}}
            changed = await self._jobs.update_many(later, {"$unset": {"idempotency_key": ""}})
            log.warning(
                "removed the idempotency key of %d jobs of task %r: key %r belongs to the oldest, job %s",
                changed.modified_count,
                same["task"],
                same["idempotency_key"],
                group["first"],
            )
            freed += changed.modified_count
        return freed

    async def _free_slots(self) -> int:
        """Free duplicate slots, which requeues may have taken while the index was missing; the oldest job keeps its."""
        freed = 0
        pipeline: list[Document] = [
            {"$match": {"unique_slot": {"$exists": True}}},
            {"$group": {"_id": "$unique_slot", "n": {"$sum": 1}, "first": {"$min": "$_id"}}},
            {"$match": {"n": {"$gt": 1}}},
        ]
        async for group in await self._jobs.aggregate(pipeline, allowDiskUse=True):
            later = {"unique_slot": group["_id"], "_id": {"$ne": group["first"]}}
            changed = await self._jobs.update_many(later, {"$unset": {"unique_slot": ""}})
            log.warning(
                "freed the unique slot %r of %d jobs: the oldest one, job %s, holds it",
                group["_id"],
                changed.modified_count,
                group["first"],
            )
            freed += changed.modified_count
        return freed


def _names(indexes: list[IndexModel]) -> list[Any]:
    return [index.document["name"] for index in indexes]


def _is_denied(error: PyMongoError) -> bool:
    verdict = of_code(error.code, str(error)) if isinstance(error, OperationFailure) else None
    return verdict is not None and verdict.reason == "not_allowed"


def _first(error: PyMongoError) -> str:
    return one_line(str(error))
