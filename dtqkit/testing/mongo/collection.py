"""A collection in memory, with the methods of AsyncCollection that `dtqkit.store` calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias, cast

from bson import ObjectId
from pymongo import DeleteMany, DeleteOne, IndexModel, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure
from pymongo.results import BulkWriteResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult

from dtqkit.testing.mongo import stages
from dtqkit.testing.mongo.expressions import Document, Variables, evaluate
from dtqkit.testing.mongo.matching import matches
from dtqkit.testing.mongo.updates import updated, upserted
from dtqkit.testing.mongo.values import MISSING, at, copied, order, projected

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# The driver's requests for a bulk have no public attributes.

Query: TypeAlias = Mapping[str, Any]
_DUPLICATE_KEY: Final = 11_000
_BAD_HINT: Final = 2
_BY_ID: Final = "_id_"


class Cursor:
    """What a find or an aggregation gives: read at once, given out piece by piece."""

    def __init__(self, docs: Callable[[], list[Document]]) -> None:
        self._docs = docs
        self._sort: list[tuple[str, int]] = []
        self._skip = 0
        self._limit = 0
        self._left: list[Document] | None = None

    def sort(self, key: Any, direction: int = 1) -> Self:
        self._sort = [(key, direction)] if isinstance(key, str) else list(key)
        return self

    def skip(self, n: int) -> Self:
        self._skip = n
        return self

    def limit(self, n: int) -> Self:
        self._limit = n
        return self

    def max_time_ms(self, _: int) -> Self:
        return self

    def _read(self) -> list[Document]:
        if self._left is None:
            found = stages.ordered(self._docs(), self._sort) if self._sort else self._docs()
            self._left = found[self._skip :][: self._limit or None]
        return self._left

    async def to_list(self, length: int | None = None) -> list[Document]:
        found = self._read()
        self._left = found[length:] if length is not None else []
        return found[:length]

    async def __aiter__(self) -> AsyncIterator[Document]:
        for doc in self._read():
            yield doc

    async def close(self) -> None:
        pass


class Collection:
    """Documents by their ids. Each write is one step: nothing else runs meanwhile."""

    def __init__(self, database: Any, name: str, now: Callable[[], Any]) -> None:
        self.database = database
        self.name: Final = name
        self.full_name: Final = f"{database.name}.{name}"
        self._now = now
        #: A document is never changed once it is in here, but replaced: threads may read it.
        self.docs: Final[dict[Any, Document]] = {}
        self._indexes: dict[str, Document] = {_BY_ID: {"name": _BY_ID, "key": {"_id": 1}}}
        #: Of each unique index, the ids by the values of its fields.
        self._unique: dict[str, dict[Any, Any]] = {}
        #: Called after each change with a document as it was and as it is; None: it was not there, or is not.
        self.changed: Callable[[Document | None, Document | None], None] = lambda _, __: None

    def with_options(self, *_: Any, **__: Any) -> Collection:
        return self

    @property
    def _variables(self) -> Variables:
        return {"NOW": self._now()}

    # -- look

    def _found(self, query: Query | None) -> Iterable[Document]:
        """The documents that fit, in the order of insertion."""
        if not query:
            return list(self.docs.values())
        variables = self._variables
        return [doc for doc in self._candidates(query) if matches(doc, query, variables)]

    def _candidates(self, query: Query) -> Iterable[Document]:
        wanted = query.get("_id")
        if isinstance(wanted, dict):
            if "$in" not in wanted:
                return list(self.docs.values())
            ids: list[Any] = wanted["$in"]
            return [self.docs[i] for i in dict.fromkeys(ids) if i in self.docs]
        if wanted is not None:
            return [self.docs[wanted]] if wanted in self.docs else []
        for name, taken in self._unique.items():
            fields: Document = self._indexes[name]["key"]
            if self._has_all(name) and all(isinstance(query.get(field), str) for field in fields):
                found = taken.get(tuple(order(query[field]) for field in fields))
                return [] if found is None else [self.docs[found]]
        return list(self.docs.values())

    def _has_all(self, name: str) -> bool:
        """Whether a unique index has all documents that have its fields."""
        index = self._indexes[name]
        partial: Document = index.get("partialFilterExpression", {})
        return all(field in index["key"] and part == {"$exists": True} for field, part in partial.items())

    def find(self, query: Query | None = None, projection: Any = None, **options: Any) -> Cursor:
        self._check_hint(options.get("hint"))
        fields = None if projection is None else dict(projection)
        return Cursor(lambda: [projected(doc, fields) for doc in self._sorted(query, options.get("sort"))])

    def _sorted(self, query: Query | None, by: Any) -> list[Document]:
        found = self._found(query)
        return stages.ordered(found, list(by)) if by else list(found)

    async def find_one(self, query: Query | None = None, projection: Any = None, **options: Any) -> Document | None:
        return next(iter(await self.find(query, projection, **options).to_list(1)), None)

    async def count_documents(self, query: Query, **_: Any) -> int:
        return sum(1 for _ in self._found(query))

    async def estimated_document_count(self, **_: Any) -> int:
        return len(self.docs)

    async def distinct(self, key: str, query: Query | None = None, **_: Any) -> list[Any]:
        found = {order(value): value for doc in self._found(query) if (value := at(doc, key)) is not MISSING}
        return [found[key] for key in sorted(found)]

    async def aggregate(self, pipeline: Sequence[Document], **_: Any) -> Cursor:
        def docs_of(name: str) -> Iterable[Document]:
            return list(self.database[name].docs.values())

        found = stages.run(list(self.docs.values()), pipeline, self._variables, docs_of)
        return Cursor(lambda: copied(found))

    # -- write

    async def insert_one(self, doc: Document, **_: Any) -> InsertOneResult:
        doc.setdefault("_id", ObjectId())
        self._put(None, copied(doc))
        return InsertOneResult(doc["_id"], acknowledged=True)

    async def insert_many(self, docs: Sequence[Document], *, ordered: bool = True, **_: Any) -> InsertManyResult:
        result = await self.bulk_write([InsertOne(doc) for doc in docs], ordered=ordered)
        return InsertManyResult([doc["_id"] for doc in docs], result.acknowledged)

    async def update_one(self, query: Query, update: Any, *, upsert: bool = False, **options: Any) -> UpdateResult:
        self._check_hint(options.get("hint"))
        return UpdateResult(self._update(query, update, upsert=upsert, many=False), acknowledged=True)

    async def update_many(self, query: Query, update: Any, *, upsert: bool = False, **options: Any) -> UpdateResult:
        self._check_hint(options.get("hint"))
        return UpdateResult(self._update(query, update, upsert=upsert, many=True), acknowledged=True)

    async def find_one_and_update(
        self,
        query: Query,
        update: Any,
        projection: Any = None,
        *,
        sort: Any = None,
        upsert: bool = False,
        return_document: bool = ReturnDocument.BEFORE,
        **options: Any,
    ) -> Document | None:
        self._check_hint(options.get("hint"))
        old = next(iter(self._sorted(query, sort)), None)
        if old is None and not upsert:
            return None
        new = self._change(old, query, update, options.get("let"))
        found = new if return_document == ReturnDocument.AFTER else old
        return None if found is None else projected(found, None if projection is None else dict(projection))

    async def delete_one(self, query: Query, **_: Any) -> DeleteResult:
        return DeleteResult({"n": self._delete(query, many=False)}, acknowledged=True)

    async def delete_many(self, query: Query, **_: Any) -> DeleteResult:
        return DeleteResult({"n": self._delete(query, many=True)}, acknowledged=True)

    async def bulk_write(self, requests: Sequence[Any], *, ordered: bool = True, **_: Any) -> BulkWriteResult:
        result: Document = {"nInserted": 0, "nMatched": 0, "nModified": 0, "nRemoved": 0, "nUpserted": 0}
        result |= {"upserted": [], "writeErrors": [], "writeConcernErrors": []}
        for index, request in enumerate(requests):
            try:
                self._request(request, index, result)
            except DuplicateKeyError as error:
                result["writeErrors"].append({**cast("Document", error.details), "index": index})
                if ordered:
                    break
        if result["writeErrors"]:
            raise BulkWriteError(result)
        return BulkWriteResult(result, acknowledged=True)

    def _request(self, request: Any, index: int, result: Document) -> None:
        match request:
            case InsertOne():
                doc: Document = request._doc
                doc.setdefault("_id", ObjectId())
                self._put(None, copied(doc))
                result["nInserted"] += 1
            case UpdateOne() | UpdateMany():
                self._check_hint(request._hint)
                many = isinstance(request, UpdateMany)
                done = self._update(request._filter, request._doc, upsert=bool(request._upsert), many=many)
                if "upserted" in done:
                    result["nUpserted"] += 1
                    result["upserted"].append({"index": index, "_id": done["upserted"]})
                else:
                    result["nMatched"] += done["n"]
                    result["nModified"] += done["nModified"]
            case DeleteOne() | DeleteMany():
                result["nRemoved"] += self._delete(request._filter, many=isinstance(request, DeleteMany))
            case ReplaceOne():
                raise NotImplementedError("a replacement in a record in memory (dtqkit.testing.mongo.collection)")
            case _:
                raise TypeError(f"{request!r} is no request of a bulk")

    def _update(self, query: Query, update: Any, *, upsert: bool, many: bool) -> Document:
        found = list(self._found(query))[: None if many else 1]
        if not found and upsert:
            return {"n": 1, "nModified": 0, "upserted": self._change(None, query, update)["_id"]}
        changed = sum(self._change(doc, query, update) != doc for doc in found)
        return {"n": len(found), "nModified": changed}

    def _change(self, old: Document | None, query: Query, update: Any, let: Document | None = None) -> Document:
        variables = self._variables
        variables = {**variables, **{name: evaluate(value, {}, variables) for name, value in (let or {}).items()}}
        new = updated(old or upserted(query), update, variables, inserts=old is None)
        new.setdefault("_id", ObjectId())
        self._put(old, new)
        return new

    def _delete(self, query: Query, *, many: bool) -> int:
        found = list(self._found(query))[: None if many else 1]
        for doc in found:
            for name, key in self._keys_of(doc):
                self._unique[name].pop(key, None)
            del self.docs[doc["_id"]]
            self.changed(doc, None)
        return len(found)

    def _put(self, old: Document | None, new: Document) -> None:
        """Store `new` in the place of `old`. Raises DuplicateKeyError."""
        if old is None and new["_id"] in self.docs:
            raise self._duplicate(_BY_ID, {"_id": 1}, new)
        taken = self._keys_of(new)
        for name, key in taken:
            if self._unique[name].get(key, new["_id"]) != new["_id"]:
                raise self._duplicate(name, self._indexes[name]["key"], new)
        for name, key in self._keys_of(old) if old is not None else ():
            self._unique[name].pop(key, None)
        for name, key in taken:
            self._unique[name][key] = new["_id"]
        self.docs[new["_id"]] = new
        self.changed(old, new)

    # -- indexes

    def _keys_of(self, doc: Document) -> list[tuple[str, Any]]:
        """What it takes in each unique index."""
        keys: list[tuple[str, Any]] = []
        for name in self._unique:
            index = self._indexes[name]
            partial = index.get("partialFilterExpression")
            if partial is None or matches(doc, partial, {}):
                keys.append((name, tuple(order(at(doc, field)) for field in index["key"])))
        return keys

    def _duplicate(self, name: str, fields: Any, new: Document) -> DuplicateKeyError:
        message = f"E11000 duplicate key error collection: {self.full_name} index: {name}"
        values = {field: at(new, field) for field in fields}
        details = {"code": _DUPLICATE_KEY, "errmsg": message, "keyPattern": dict(fields), "keyValue": values}
        return DuplicateKeyError(message, _DUPLICATE_KEY, details)

    def _check_hint(self, hint: Any) -> None:
        if isinstance(hint, str) and hint not in self._indexes:
            raise OperationFailure("planner returned error: bad hint", _BAD_HINT)

    async def list_indexes(self, **_: Any) -> Cursor:
        return Cursor(lambda: [dict(index) for index in self._indexes.values()])

    async def create_indexes(self, indexes: Sequence[IndexModel], **_: Any) -> list[str]:
        for index in indexes:
            definition: Document = {**index.document, "key": dict(index.document["key"])}
            name: str = definition["name"]
            self._indexes[name] = definition
            if definition.get("unique"):
                self._unique[name] = {}
                for doc in self.docs.values():
                    for of, key in self._keys_of(doc):
                        self._unique[of][key] = doc["_id"]
        return [index.document["name"] for index in indexes]

    async def create_index(self, keys: Any, **options: Any) -> str:
        return (await self.create_indexes([IndexModel(keys, **options)]))[0]

    async def drop_index(self, name: str, **_: Any) -> None:
        self._indexes.pop(name, None)
        self._unique.pop(name, None)
