"""The stages of an aggregation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

from dtqkit.testing.mongo.expressions import Document, Variables, evaluate
from dtqkit.testing.mongo.matching import matches
from dtqkit.testing.mongo.updates import staged
from dtqkit.testing.mongo.values import MISSING, at, copied, order, projected, put

#: Gives the documents of a collection by its name.
DocumentsOf: TypeAlias = Callable[[str], Iterable[Document]]


def run(
    docs: Iterable[Document], pipeline: Iterable[Document], variables: Variables, of: DocumentsOf
) -> list[Document]:
    """The result of a pipeline; `of` gives the documents of another collection."""
    found = list(docs)
    for stage in pipeline:
        found = _stage(found, stage, variables, of)
    return found


def _stage(docs: list[Document], stage: Document, variables: Variables, of: DocumentsOf) -> list[Document]:
    ((name, argument),) = stage.items()
    match name:
        case "$match":
            return [doc for doc in docs if matches(doc, argument, variables)]
        case "$sort":
            return ordered(docs, list(argument.items()))
        case "$limit":
            return docs[:argument]
        case "$skip":
            return docs[argument:]
        case "$count":
            return [{argument: len(docs)}] if docs else []
        case "$project":
            return [_project(doc, argument, variables) for doc in docs]
        case "$unwind":
            return [one for doc in docs for one in _unwound(doc, argument)]
        case "$group":
            return _groups(docs, argument, variables)
        case "$unionWith":
            more: Document = {"coll": argument} if isinstance(argument, str) else argument
            return docs + run(of(more["coll"]), more.get("pipeline", ()), variables, of)
        case _:
            return [staged(doc, stage, variables) for doc in docs]


def ordered(docs: Iterable[Document], by: list[tuple[str, int]]) -> list[Document]:
    """Sorted by these fields, 1 ascending or -1 descending."""
    found = list(docs)
    for name, direction in reversed(by):
        found.sort(key=lambda doc: order(at(doc, name)), reverse=direction < 0)
    return found


def _project(doc: Document, fields: Document, variables: Variables) -> Document:
    if all(isinstance(wanted, int) for wanted in fields.values()):
        return projected(doc, fields)
    plain = {name: wanted for name, wanted in fields.items() if isinstance(wanted, int)}
    made = projected(doc, plain) if plain else ({"_id": doc["_id"]} if "_id" in doc else {})
    for name, expression in fields.items():
        if name not in plain:
            put(made, name, copied(evaluate(expression, doc, variables)))
    return made


def _unwound(doc: Document, argument: Any) -> list[Document]:
    path = (argument if isinstance(argument, str) else argument["path"])[1:]
    found = at(doc, path)
    if not isinstance(found, list):
        return [] if found is MISSING or found is None else [doc]
    unwound: list[Document] = []
    for one in cast("list[Any]", found):
        new = copied(doc)
        put(new, path, copied(one))
        unwound.append(new)
    return unwound


def _groups(docs: list[Document], argument: Document, variables: Variables) -> list[Document]:
    groups: dict[Any, tuple[Any, list[Document]]] = {}
    for doc in docs:
        key = evaluate(argument["_id"], doc, variables)
        key = None if key is MISSING else key
        groups.setdefault(order(key), (key, []))[1].append(doc)
    made: list[Document] = []
    for key, members in groups.values():
        group: Document = {"_id": key}
        for name, accumulator in argument.items():
            if name != "_id":
                ((how, expression),) = accumulator.items()
                group[name] = _accumulated(how, [evaluate(expression, doc, variables) for doc in members])
        made.append(group)
    return made


def _accumulated(how: str, values: list[Any]) -> Any:
    known = [value for value in values if value is not MISSING and value is not None]
    match how:
        case "$sum":
            return sum(value for value in known if isinstance(value, int | float))
        case "$avg":
            return sum(known) / len(known) if known else None
        case "$min":
            return min(known, key=order, default=None)
        case "$max":
            return max(known, key=order, default=None)
        case "$push":
            return [copied(value) for value in values if value is not MISSING]
        case "$first":
            return None if values[0] is MISSING else values[0]
        case "$last":
            return None if values[-1] is MISSING else values[-1]
        case "$count":
            return len(values)
        case "$addToSet":
            return [copied(value) for i, value in enumerate(known) if value not in known[:i]]
        case _:
            raise NotImplementedError(f"the accumulator {how} in a record in memory (dtqkit.testing.mongo.stages)")
