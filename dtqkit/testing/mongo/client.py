"""The client and the databases of a MongoDB in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from pymongo.errors import BulkWriteError

from dtqkit.testing.mongo.collection import Collection
from dtqkit.testing.mongo.expressions import Document


class Client:
    """Stands for an AsyncMongoClient; `now` gives the server's time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._databases: dict[str, Database] = {}
        self.admin: Final = self["admin"]

    def __getitem__(self, name: str) -> Database:
        return self._databases.setdefault(name, Database(self, name, self._now))

    def get_database(self, name: str, **_: Any) -> Database:
        return self[name]

    async def close(self) -> None:
        pass


class Database:
    """Collections by name."""

    def __init__(self, client: Client, name: str, now: Callable[[], datetime]) -> None:
        self.client: Final = client
        self.name: Final = name
        self._now = now
        self._collections: dict[str, Collection] = {}

    def __getitem__(self, name: str) -> Collection:
        if name not in self._collections:
            self._collections[name] = Collection(self, name, self._now)
        return self._collections[name]

    get_collection = __getitem__

    async def command(self, command: str | Document, *_: Any, **__: Any) -> Document:
        """`hello` and `ping`, and the plain commands that the store sends without the driver's help."""
        asked: Document = {command: 1} if isinstance(command, str) else command
        name = next(iter(asked))
        match name:
            case "ping":
                return {"ok": 1}
            case "hello":
                now = self._now()
                return {"ok": 1, "isWritablePrimary": True, "maxWireVersion": 25, "setName": "memory", "localTime": now}
            case "find":
                found = self[asked[name]].find(asked.get("filter"), asked.get("projection")).sort(asked.get("sort", []))
                docs = await found.limit(asked.get("limit", 0)).to_list()
                return {"ok": 1, "cursor": {"id": 0, "firstBatch": docs}}
            case "insert":
                try:
                    await self[asked[name]].insert_many(asked["documents"], ordered=asked["ordered"])
                except BulkWriteError as error:
                    return {"ok": 1, "n": error.details["nInserted"], "writeErrors": error.details["writeErrors"]}
                return {"ok": 1, "n": len(asked["documents"])}
            case "update":
                n = 0
                for one in asked["updates"]:
                    write = self[asked[name]].update_many if one.get("multi") else self[asked[name]].update_one
                    n += (await write(one["q"], one["u"], upsert=one.get("upsert", False))).matched_count
                return {"ok": 1, "n": n}
            case _:
                raise NotImplementedError(f"the command {name} in a record in memory (dtqkit.testing.mongo.client)")
