"""The pauses of a queue: one document of the collection `configuration`, with a version that grows with each change."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import msgspec
from bson import DatetimeMS, ObjectId, encode
from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ExecutionTimeout

from dtqkit.model.jobs import PRIORITIES, WAITING
from dtqkit.model.pauses import Pause, Pauses
from dtqkit.store.client import NOTICING, MongoLink, store_errors
from dtqkit.store.documents import Document
from dtqkit.store.where import has_values
from dtqkit.support.once import Once

log = logging.getLogger("dtqkit.queue")

_ID: Final = "pauses"
#: The version as MongoDB computes it: somebody may have written one that is no integer.
VERSION: Final[Document] = {"$cond": [{"$in": [{"$type": "$version"}, ["int", "long"]]}, "$version", 0]}
#: How long the jobs of one pause may be counted, in ms.
_COUNT_MS: Final = 1_000
_NONE: Final[Document] = {}


class PauseBook:
    """Methods raise StoreUnavailable when MongoDB is away, and OutcomeUnknown when a write may have been done."""

    def __init__(self, database: AsyncDatabase[Document], where: MongoLink) -> None:
        self._configuration = database["configuration"].with_options(NOTICING)
        self._jobs = database["jobs"]
        self._where = where
        self._said = Once()

    async def read(self) -> Pauses:
        """All of them, also those that have ended by themselves."""
        with store_errors(self._where):
            return _pauses(await self._configuration.find_one({"_id": _ID}), self._said)

    async def put(self, pause: Pause) -> Pauses:
        """Begin a pause, in place of one of the same target. Those that have ended are dropped."""
        entry = {name: {"$literal": value} for name, value in _entry(pause).items()}
        return await self._change(pause.id, [{**entry, "paused_at": "$$NOW"}])

    async def remove(self, pause_id: str) -> Pauses:
        """End a pause."""
        return await self._change(pause_id, [])

    async def _change(self, pause_id: str, more: list[Document]) -> Pauses:
        lasts = {"$or": [{"$eq": [{"$type": "$$p.until"}, "missing"]}, {"$gt": ["$$p.until", "$$NOW"]}]}
        others = {"$and": [{"$ne": ["$$p.id", {"$literal": pause_id}]}, lasts]}
        there: Document = {"$cond": [{"$eq": [{"$type": "$pauses"}, "array"]}, "$pauses", []]}
        kept: Document = {"$filter": {"input": there, "as": "p", "cond": others}}
        changed: Document = {
            "version": {"$add": [VERSION, 1]},
            "pauses": {"$concatArrays": [kept, more]},
        }
        with store_errors(self._where, writes=True, point="pause"):
            doc = await self._configuration.find_one_and_update(
                {"_id": _ID}, [{"$set": changed}], upsert=True, return_document=ReturnDocument.AFTER
            )
        return _pauses(doc, self._said)

    async def waiting(self, pause: Pause) -> int | None:
        """How many waiting jobs it holds; None when counting them takes too long."""
        query: Document = {"status": {"$in": list(WAITING)}, "priority": {"$in": list(PRIORITIES)}, **_held(pause)}
        with store_errors(self._where):
            try:
                return await self._jobs.count_documents(query, maxTimeMS=_COUNT_MS)
            except ExecutionTimeout:
                return None

    async def held(self, pauses: Pauses, ids: Iterable[ObjectId]) -> dict[ObjectId, float]:
        """Those of these waiting jobs that are paused: until when, in ms by MongoDB's clock; or infinity."""
        waiting: Document = {"_id": {"$in": list(ids)}, "status": {"$in": list(WAITING)}}
        by_end: dict[float, list[Document]] = {}
        for pause in pauses.pauses:
            until_ms = float("inf") if pause.until is None else pause.until.timestamp() * 1000
            by_end.setdefault(until_ms, []).append(_held(pause))
        found: dict[ObjectId, float] = {}
        for until_ms, held in sorted(by_end.items(), key=lambda item: item[0]):
            with store_errors(self._where):
                docs = await self._jobs.find({**waiting, "$or": held}, {"_id": 1}, hint="_id_").to_list()
            found |= dict.fromkeys((doc["_id"] for doc in docs), until_ms)
        return found


def not_held(pauses: Pauses) -> Document:
    """A filter for claims: no job that is paused. Empty while nothing is."""
    return {"$nor": [_held(pause) for pause in pauses.pauses]} if pauses else _NONE


def _held(pause: Pause) -> Document:
    """A filter: the jobs that a pause holds. Payloads that are stored as text match none that has a `where`."""
    if pause.lane is not None:
        return {"priority": pause.lane}
    if not pause.where:
        return {"task": pause.task}
    return {"task": pause.task, "$expr": has_values(pause.where, pause.defaults)}


def _entry(pause: Pause) -> Document:
    """As it is stored: values of parameters as text, since their names may be any."""
    entry: Document = {"id": pause.id, "reason": pause.reason}
    for name in ("lane", "task", "until"):
        if (value := getattr(pause, name)) is not None:
            entry[name] = value
    for name in ("where", "defaults"):
        if value := getattr(pause, name):
            entry[name] = msgspec.json.encode(value).decode()
    return entry


def _pauses(doc: Document | None, said: Once) -> Pauses:
    """What cannot be read, such as an entry of another version of dtqkit, holds nothing, and is no error."""
    if doc is None:
        return Pauses()
    version: Any = doc.get("version")
    entries: Any = doc.get("pauses", ())
    if not isinstance(entries, list | tuple):
        if said.first("no list"):
            log.warning("the pauses in MongoDB's collection `configuration` are no list, so that nothing is paused")
        entries = ()
    read = [_pause(entry, said) for entry in cast("Sequence[Any]", entries)]
    known = version if isinstance(version, int) and not isinstance(version, bool) else 0
    return Pauses(known, tuple(pause for pause in read if pause is not None))


def _pause(entry: Any, said: Once) -> Pause | None:
    try:
        return _built(entry)
    except Exception as error:
        name = cast("Document", entry).get("id") if isinstance(entry, dict) else entry
        if said.first(repr(name)[:100], str(error)):
            log.warning(
                "the pause %.100r in MongoDB's collection `configuration` is not in force here (%s): pause its target "
                "again, or take this entry out",
                name,
                error,
            )
        return None


def _built(entry: Document) -> Pause:
    texts = {name: msgspec.json.decode(entry[name]) for name in ("where", "defaults") if name in entry}
    if far := [name for name in ("until", "paused_at") if isinstance(entry.get(name), DatetimeMS)]:
        raise ValueError(f"{far[0]} is before the year 1 or after 9999; leave `until` out for a pause without an end")
    pause = msgspec.convert({**entry, **texts}, Pause)
    if (pause.lane is None) == (pause.task is None):
        raise ValueError("it must name either a lane or a task")
    if any(at is not None and at.tzinfo is None for at in (pause.paused_at, pause.until)):
        raise ValueError("its times must have a zone")
    encode(_held(pause))  # or every claim would fail
    return pause
