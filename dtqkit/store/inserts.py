"""Inserts of new jobs. Jobs with an idempotency key are inserted only while the unique index of keys exists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import pymongo
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from dtqkit.model.errors import DocumentRefused, OutcomeUnknown, Reason, StoreUnavailable
from dtqkit.store import refusals
from dtqkit.store.client import MongoLink, store_errors
from dtqkit.store.commands import insert_many
from dtqkit.store.documents import HEAVY, Document
from dtqkit.store.indexes import KEY
from dtqkit.store.keeper import IndexKeeper

#: Timeout of a submit in seconds, and by how many jobs and bytes it grows by a second. After that, the outcome is
#: unknown: better than a caller that hangs together with the server. The driver checks its timeout every half second
#: only, so a submit without a server fails after 1.5 s; 2 s are promised.
SUBMIT_S: Final = 1.45
SUBMITS_A_SECOND: Final = 1_000
BYTES_A_SECOND: Final = 1_000_000
#: Up to this many jobs, the timeout is not extended: that many may be submitted at the same time.
AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 256 * 1024
#: MongoDB's code for a hint that names no index.
BAD_HINT: Final = 2
_DUPLICATE_KEY: Final = 11_000


def submit_s(jobs: int, size: int) -> float:
    """Timeout in seconds of a submit of so many jobs and bytes."""
    more_jobs, more_bytes = max(0, jobs - AT_ONCE), max(0, size - BYTES_AT_ONCE)
    return SUBMIT_S + more_jobs / SUBMITS_A_SECOND + more_bytes / BYTES_A_SECOND


class Inserted(NamedTuple):
    """The outcome of one insert, by position in it. Documents that are neither taken nor refused are stored."""

    #: Those whose idempotency key another job has.
    taken: set[int]
    refused: Mapping[int, DocumentRefused | StoreUnavailable]
    #: Those that an earlier try has stored. Not known of jobs with idempotency keys.
    there: frozenset[int] = frozenset()


_Found = Inserted | StoreUnavailable
F = TypeVar("F", bound=_Found)


class Inserts:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, collection: AsyncCollection[Document], where: MongoLink, indexes: IndexKeeper) -> None:
        self._jobs = collection
        self._where = where
        self._indexes = indexes

    async def insert(self, docs: Sequence[Document], size: int = 0) -> Inserted:
        """Insert `docs`, of about `size` bytes. What concerns some of them only is returned, not raised."""
        if keyed := [i for i, doc in enumerate(docs) if "idempotency_key" in doc]:
            return await self._insert_with_keys(docs, keyed, size)
        try:
            with (
                store_errors(self._where, writes="insert", document=True, point="insert"),
                pymongo.timeout(self._where.within(submit_s(len(docs), size))),
            ):
                if len(docs) > 1:
                    return await self._insert_many(docs)
                await self._jobs.insert_one(docs[0])
                self._where.note_insert()
        except DuplicateKeyError:  # its own id: an earlier try stored it
            return Inserted(set(), {}, frozenset({0}))
        except DocumentRefused as error:
            return await self._halves(self.insert, docs, size, error)
        return Inserted(set(), {})

    async def _insert_with_keys(self, docs: Sequence[Document], keyed: Sequence[int], size: int) -> Inserted:
        """Insert `docs`, of which those at `keyed` have idempotency keys, after the others.

        Only the index of keys can decide about these. While it is missing, they are not inserted, and the reason is
        returned for each.
        """
        with_key = set(keyed)
        plain = [i for i in range(len(docs)) if i not in with_key]
        refused: dict[int, DocumentRefused | StoreUnavailable] = {}
        if plain:
            found = await self.insert([docs[i] for i in plain], size)
            refused = {plain[n]: error for n, error in found.refused.items()}
        try:
            found = await self._insert_keyed([docs[i] for i in keyed], size)
        except StoreUnavailable as error:
            if not plain:
                raise
            found = error  # the others are stored
        if isinstance(found, StoreUnavailable):
            return Inserted(set(), refused | dict.fromkeys(keyed, found))
        return Inserted(
            {keyed[n] for n in found.taken}, refused | {keyed[n]: error for n, error in found.refused.items()}
        )

    async def _halves(
        self,
        write: Callable[[Sequence[Document], int], Awaitable[F]],
        docs: Sequence[Document],
        size: int,
        error: DocumentRefused,
    ) -> F | Inserted:
        """Bisect an insert that MongoDB or its driver refused as a whole, to find the documents that it refuses."""
        if len(docs) == 1:
            return Inserted(set(), {0: error})
        half = len(docs) // 2
        first = await write(docs[:half], size)
        if isinstance(first, StoreUnavailable):
            return first
        try:
            second = await write(docs[half:], size)
        except StoreUnavailable as unavailable:
            second = unavailable
        if isinstance(second, StoreUnavailable):
            raise second if len(first.refused) == half else _after_a_part(second)
        return Inserted(
            first.taken | {half + i for i in second.taken},
            {**first.refused, **{half + i: refused for i, refused in second.refused.items()}},
            first.there | {half + i for i in second.there},
        )

    async def _insert_many(self, docs: Sequence[Document]) -> Inserted:
        try:
            await insert_many(self._jobs, docs)
        except BulkWriteError as error:
            errors: Sequence[Mapping[str, Any]] = error.details["writeErrors"]
            if error.details.get("writeConcernErrors") or not all(map(refusals.is_of_document, errors)):
                raise
            if len(errors) < len(docs):
                self._where.note_insert()
            taken = [one for one in errors if one["code"] == _DUPLICATE_KEY]
            refused = {
                one["index"]: refusals.of_document(str(one.get("errmsg", ""))) for one in errors if one not in taken
            }
            return Inserted(_taken(taken), refused, frozenset(one["index"] for one in taken) - _taken(taken))
        self._where.note_insert()
        return Inserted(set(), {})

    async def _insert_keyed(self, docs: Sequence[Document], size: int) -> _Found:
        """Insert `docs`, which all have idempotency keys; the reason when there is no index of keys."""
        try:
            for _ in range(2):
                with (
                    store_errors(self._where, writes="insert", document=True, point="insert"),
                    pymongo.timeout(self._where.within(submit_s(len(docs), size))),
                ):
                    one = len(docs) == 1
                    found = await (self._insert_one_keyed(docs[0]) if one else self._insert_many_keyed(docs))
                if found is not None:
                    return found
                with store_errors(self._where):
                    if not await self._indexes.ensure(KEY):
                        break
        except DocumentRefused as error:
            return await self._halves(self._insert_keyed, docs, size, error)
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
        if done.upserted_id is None:
            return Inserted({0}, {})
        self._where.note_insert()
        return Inserted(set(), {})

    async def _insert_many_keyed(self, docs: Sequence[Document]) -> Inserted | None:
        """By inserts, at a quarter of the cost of upserts. Checks before and after that the index exists."""
        if not await self._has_key_index(docs[0]):
            return None
        found = await self._insert_many(docs)
        try:
            with store_errors(self._where):
                if await self._has_key_index(docs[0]):
                    return found
                # The index was dropped meanwhile. No worker knows these jobs yet: insert them again once it exists.
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
        with store_errors(self._where):
            return await self._jobs.find_one({"task": task, "idempotency_key": key}, dict.fromkeys(HEAVY, 0))


def _taken(errors: Sequence[Mapping[str, Any]]) -> set[int]:
    """Positions of inserts whose idempotency key is taken. A duplicate id means that the job was inserted before."""
    return {error["index"] for error in errors if "_id" not in error.get("keyPattern", {})}


def _after_a_part(error: StoreUnavailable) -> OutcomeUnknown:
    """Some are stored: submitting all of them again would store these twice."""
    if isinstance(error, OutcomeUnknown):
        return error
    return OutcomeUnknown("MongoDB", "", f"stored a part, and then: {error}", reason=error.reason)
