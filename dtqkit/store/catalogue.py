"""The collection `tasks`: what the workers can run, so that a server can check a job without its code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from dtqkit.store.client import MongoLink, store_errors
from dtqkit.store.documents import Document
from dtqkit.tasks.task import TaskInfo


class Catalogue:
    def __init__(self, collection: AsyncCollection[Document], where: MongoLink) -> None:
        self._tasks = collection
        self._where = where

    async def publish(self, tasks: Iterable[TaskInfo]) -> None:
        """Write those whose hash has changed."""
        wanted = {task.name: task for task in tasks}
        with store_errors(self._where, writes=True):
            known = {
                doc["_id"]: doc.get("schema_hash")
                async for doc in self._tasks.find({"_id": {"$in": list(wanted)}}, {"schema_hash": 1})
            }
            changed = [t for name, t in wanted.items() if known.get(name) != t.schema_hash]
            if changed:
                await self._tasks.bulk_write(
                    [UpdateOne({"_id": t.name}, {"$set": _document(t)}, upsert=True) for t in changed],
                    ordered=False,
                )

    async def all(self) -> list[TaskInfo]:
        """Sorted by name. Skips entries of another version that cannot be read."""
        with store_errors(self._where):
            return _readable(await self._tasks.find().sort("_id").to_list())

    async def named(self, names: Iterable[str]) -> dict[str, TaskInfo]:
        """Those of these names that are published and can be read."""
        with store_errors(self._where):
            docs = await self._tasks.find({"_id": {"$in": list(names)}}).to_list()
        return {info.name: info for info in _readable(docs)}


def _readable(docs: Iterable[Document]) -> list[TaskInfo]:
    found: list[TaskInfo] = []
    for doc in docs:
        try:
            schema = msgspec.json.decode(doc["schema"])
            found.append(msgspec.convert({**doc, "name": doc["_id"], "schema": schema}, TaskInfo))
        except (msgspec.ValidationError, msgspec.DecodeError, KeyError, TypeError):
            continue
    return found


def _document(task: TaskInfo) -> dict[str, Any]:
    # A JSON Schema has keys that begin with $, so it is stored as text.
    return {**msgspec.to_builtins(task), "schema": msgspec.json.encode(task.schema).decode()}
