"""Changes of documents: by operators, or by a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dtqkit.testing.mongo.expressions import Document, Variables, evaluate
from dtqkit.testing.mongo.values import MISSING, at, copied, order, put


def updated(doc: Document, update: Any, variables: Variables, *, inserts: bool = False) -> Document:
    """A changed copy of `doc`; `inserts`: it is about to be inserted by an upsert."""
    new: Document = copied(doc)
    if isinstance(update, list):
        for stage in cast("list[Document]", update):
            new = staged(new, stage, variables)
        return new
    for name, fields in cast("Document", update).items():
        for path, value in fields.items():
            _apply(new, name, path, value, variables, inserts=inserts)
    return new


def staged(doc: Document, stage: Document, variables: Variables) -> Document:
    """`doc` after a stage that changes documents one by one. Every expression sees it as it was before."""
    ((name, argument),) = stage.items()
    if name in ("$set", "$addFields"):
        found = {path: evaluate(expression, doc, variables) for path, expression in argument.items()}
        new = dict(doc)
        for path, value in found.items():
            put(new, path, copied(value))
        return new
    if name == "$unset":
        new = copied(doc)
        for path in [argument] if isinstance(argument, str) else argument:
            put(new, path, MISSING)
        return new
    if name in ("$replaceWith", "$replaceRoot"):
        return evaluate(argument["newRoot"] if name == "$replaceRoot" else argument, doc, variables)
    raise NotImplementedError(f"the stage {name} in a record in memory (dtqkit.testing.mongo.updates)")


def _apply(doc: Document, name: str, path: str, value: Any, variables: Variables, *, inserts: bool) -> None:
    old = at(doc, path)
    match name:
        case "$set":
            put(doc, path, copied(value))
        case "$setOnInsert":
            if inserts:
                put(doc, path, copied(value))
        case "$unset":
            put(doc, path, MISSING)
        case "$inc":
            put(doc, path, (0 if old is MISSING else old) + value)
        case "$max":
            put(doc, path, value if old is MISSING or order(value) > order(old) else old)
        case "$min":
            put(doc, path, value if old is MISSING or order(value) < order(old) else old)
        case "$currentDate":
            put(doc, path, variables["NOW"])
        case "$push":
            put(doc, path, _pushed([] if old is MISSING else old, value))
        case "$addToSet":
            many = isinstance(value, dict) and "$each" in value
            more: list[Any] = cast(Document, value)["$each"] if many else [value]
            known: list[Any] = [] if old is MISSING else old
            put(doc, path, [*known, *(one for one in more if one not in known)])
        case "$pull":
            put(doc, path, [one for one in cast("list[Any]", old) if one != value] if isinstance(old, list) else old)
        case _:
            raise NotImplementedError(f"the update {name} in a record in memory (dtqkit.testing.mongo.updates)")


def _pushed(old: list[Any], value: Any) -> list[Any]:
    if not (isinstance(value, dict) and "$each" in value):
        return [*old, copied(value)]
    how = cast("Mapping[str, Any]", value)
    new = [*old, *copied(how["$each"])]
    kept = how.get("$slice")
    if kept is None:
        return new
    return new[:kept] if kept >= 0 else new[kept:]


def upserted(query: Mapping[str, Any]) -> Document:
    """What a filter says of a document that an upsert inserts: its equalities."""
    found: Document = {}
    for name, condition in query.items():
        if name == "$and":
            for part in condition:
                found |= upserted(part)
        elif not name.startswith("$") and not _has_operators(condition):
            put(found, name, copied(condition))
        elif isinstance(condition, dict) and "$eq" in condition:
            put(found, name, copied(cast("Document", condition)["$eq"]))
    return found


def _has_operators(condition: Any) -> bool:
    return isinstance(condition, dict) and any(str(name).startswith("$") for name in cast("Any", condition))
