"""Inserts of new jobs: those with an idempotency key only where the index is there by which a key has one job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pymongo
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from dtqkit.model.errors import DocumentRefused, OutcomeUnknown, Reason, StoreUnavailable
from dtqkit.store import refusals
from dtqkit.store.client import Link, told
from dtqkit.store.documents import HEAVY, Document
from dtqkit.store.indexes import KEY
from dtqkit.store.keeper import IndexKeeper

#: How long a submit may take, in seconds, and how many more jobs and bytes each further second allows; after that its
#: outcome is not known, which is better than a caller that hangs with a server that does. A driver that finds no
#: server looks at the clock each half second only: these give up at 1.5, within the 2 that are promised.
SUBMIT_S: Final = 1.45
SUBMITS_A_SECOND: Final = 1_000
BYTES_A_SECOND: Final = 1_000_000
#: So many are no reason to wait longer: the jobs of all who submit at the same time.
AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 256 * 1024
#: MongoDB's code for a hint that names no index.
BAD_HINT: Final = 2
_DUPLICATE_KEY: Final = 11_000


def submit_s(jobs: int, size: int) -> float:
    """Seconds that a submit of so many jobs and bytes may take."""
    more_jobs, more_bytes = max(0, jobs - AT_ONCE), max(0, size - BYTES_AT_ONCE)
    return SUBMIT_S + more_jobs / SUBMITS_A_SECOND + more_bytes / BYTES_A_SECOND


class Inserted(NamedTuple):
    """What became of the documents of one insert, by position: those that are in neither are stored."""

    taken: set[int]
    refused: dict[int, DocumentRefused]


_Found = Inserted | StoreUnavailable
_Write = Callable[[Sequence[Document], int], Awaitable[_Found]]


class Inserts:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, collection: AsyncCollection[Document], where: Link, indexes: IndexKeeper) -> None:
        self._jobs = collection
        self._where = where
        self._indexes = indexes

    async def insert(self, docs: Sequence[Document], size: int = 0) -> dict[int, DocumentRefused]:
        """Insert `docs`, which have no idempotency keys and about `size` bytes.

        Returns the positions of those that MongoDB does not take; the others are stored.
        """
        try:
            return (await self._insert(docs, size)).refused
        except DocumentRefused as error:
            found = await self._halves(self._insert, docs, size, error)
        if isinstance(found, StoreUnavailable):
            raise found
        return found.refused

    async def insert_keyed(self, docs: Sequence[Document], size: int = 0) -> _Found:
        """Insert `docs`, which have idempotency keys; returns the positions of those whose key is taken, too.

        That is for the index of keys to say. While it is missing, nothing is inserted; returned is why not, for whoever
        submitted these: there is nothing wrong with other submits.
        """
        try:
            return await self._insert_keyed(docs, size)
        except DocumentRefused as error:
            return await self._halves(self._insert_keyed, docs, size, error)

    async def _halves(self, write: _Write, docs: Sequence[Document], size: int, error: DocumentRefused) -> _Found:
        """What MongoDB, or its driver, refuses as a whole before any of it is stored goes half by half."""
        if len(docs) == 1:
            return Inserted(set(), {0: error})
        half = len(docs) // 2
        first = await self._half(write, docs[:half], size)
        if isinstance(first, StoreUnavailable):
            return first
        try:
            second = await self._half(write, docs[half:], size)
        except StoreUnavailable as unavailable:
            second = unavailable
        if isinstance(second, StoreUnavailable):
            raise second if len(first.refused) == half else _after_a_part(second)
        return Inserted(
            first.taken | {half + i for i in second.taken},
            first.refused | {half + i: refused for i, refused in second.refused.items()},
        )

    async def _half(self, write: _Write, docs: Sequence[Document], size: int) -> _Found:
        try:
            return await write(docs, size)
        except DocumentRefused as error:
            return await self._halves(write, docs, size, error)

    async def _insert(self, docs: Sequence[Document], size: int) -> Inserted:
        try:
            with (
                told(self._where, writes="insert", document=True, point="insert"),
                pymongo.timeout(self._where.within(submit_s(len(docs), size))),
            ):
                if len(docs) == 1:
                    await self._jobs.insert_one(docs[0])
                else:
                    return await self._insert_many(docs)
        except DuplicateKeyError:  # its own id: it is there
            pass
        return Inserted(set(), {})

    async def _insert_many(self, docs: Sequence[Document]) -> Inserted:
        try:
            await self._jobs.insert_many(docs, ordered=False)
        except BulkWriteError as error:
            errors: Sequence[Mapping[str, Any]] = error.details["writeErrors"]
            about_documents = all(one.get("code") in refusals.THIS_DOCUMENT for one in errors)
            if error.details.get("writeConcernErrors") or not about_documents:
                raise
            taken = [one for one in errors if one["code"] == _DUPLICATE_KEY]
            refused = {
                one["index"]: refusals.of_document(str(one.get("errmsg", ""))) for one in errors if one not in taken
            }
            return Inserted(_taken(taken), refused)
        return Inserted(set(), {})

    async def _insert_keyed(self, docs: Sequence[Document], size: int) -> _Found:
        for _ in range(2):
            with (
                told(self._where, writes="insert", document=True, point="insert"),
                pymongo.timeout(self._where.within(submit_s(len(docs), size))),
            ):
                found = await (self._insert_one_keyed(docs[0]) if len(docs) == 1 else self._insert_many_keyed(docs))
            if found is not None:
                return found
            with told(self._where):
                if not await self._indexes.mend_key():
                    break
        refused = self._indexes.refused
        why = refused or "the index of idempotency keys is being built"
        detail = f"{why}; until it is there, jobs with an idempotency key are refused: submit again later"
        reason: Reason = "not_allowed" if refused else "refused"
        return StoreUnavailable("MongoDB", self._where.uri, detail, reason=reason)

    async def _insert_one_keyed(self, doc: Document) -> Inserted | None:
        """By an upsert that names the index; None when it is missing."""
        query = {name: doc[name] for name in ("idempotency_key", "task")}
        update = {"$setOnInsert": {name: value for name, value in doc.items() if name not in query}}
        try:
            done = await self._jobs.update_one(query, update, upsert=True, hint=KEY)
        except DuplicateKeyError as error:
            return Inserted(_taken([{**(error.details or {}), "index": 0}]), {})
        except OperationFailure as error:
            if error.code != BAD_HINT:
                raise
            return None
        return Inserted(set() if done.upserted_id is not None else {0}, {})

    async def _insert_many_keyed(self, docs: Sequence[Document]) -> Inserted | None:
        """By inserts, which cost MongoDB a quarter of as many upserts, between two looks whether the index is there."""
        if not await self._has_key_index(docs[0]):
            return None
        found = await self._insert_many(docs)
        try:
            with told(self._where):
                if await self._has_key_index(docs[0]):
                    return found
                # It was dropped meanwhile. Nobody knows of these jobs yet: they are inserted again once it is there.
                mine = [doc["_id"] for doc in docs]
                await self._jobs.delete_many({"_id": {"$in": mine}, "token": 0})
        except StoreUnavailable as error:
            raise _after_a_part(error) from None
        return None

    async def _has_key_index(self, doc: Document) -> bool:
        try:
            await self._jobs.find_one({"idempotency_key": doc["idempotency_key"]}, {"_id": 1}, hint=KEY)
        except OperationFailure as error:
            if error.code != BAD_HINT:
                raise
            return False
        return True

    async def by_key(self, task: str, key: str) -> Document | None:
        """The job that holds an idempotency key."""
        with told(self._where):
            return await self._jobs.find_one({"task": task, "idempotency_key": key}, dict.fromkeys(HEAVY, 0))


def _taken(errors: Sequence[Mapping[str, Any]]) -> set[int]:
    """Positions of inserts that an idempotency key refused; a job's own id there already means that it was inserted."""
    return {error["index"] for error in errors if "_id" not in error.get("keyPattern", {})}


def _after_a_part(error: StoreUnavailable) -> OutcomeUnknown:
    """Some are stored: whoever submits all of them anew would have these twice."""
    if isinstance(error, OutcomeUnknown):
        return error
    return OutcomeUnknown("MongoDB", "", f"stored a part, and then: {error}", reason=error.reason)
