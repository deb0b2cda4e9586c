"""Fields of a job that cannot be used as they stand: another program, or somebody by hand, has written them.

One such job stops no round and no listing. A field of a wrong type counts as absent, so it has its default; where a
write cannot be done because of it, that job is left out. Each is logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from types import NoneType
from typing import Any, Final, NamedTuple, cast

from bson import ObjectId
from msgspec import inspect as types

from dtqkit.model.jobs import PRIORITIES, Job, Priority
from dtqkit.store.documents import Document, Pipeline, to_job
from dtqkit.support.once import Once

log = logging.getLogger("dtqkit.store")

_said: Final = Once()
#: Fields that can be wrong although their type is not.
_NESTED: Final = ("payload", "result", "error", "earlier", "start_ms")
#: Of each job, which pipelines count with.
_COUNTS: Final = ("token", "losses", "rev")
_SCALARS: Final = frozenset({NoneType, bool, int, float, str, datetime})


#: Below the id of any job: a query from it on finds no ids of another type.
NO_ID: Final = ObjectId(b"\0" * 12)


class FieldTypes(NamedTuple):
    """The types that a field may have; of a list, also those of its items."""

    own: frozenset[type]
    items: frozenset[type] | None = None


def job_of(doc: Document) -> Job:
    """The job of a document, whatever another program has written into it. `_id` is an ObjectId."""
    doc = sound(doc)
    try:
        return to_job(doc)
    except Exception:
        bare: Document = {name: doc[name] for name in ("_id", "task", "status", "created_at")}
        if "claimed_at" in doc:  # what `start_ms` is counted from
            bare["claimed_at"] = doc["claimed_at"]
        for name in _NESTED:
            if name in doc and not _reads({**bare, name: doc[name]}):
                say_once(doc["_id"], name, "cannot be read, and counts as absent")
                doc = {field: value for field, value in doc.items() if field != name}
        return to_job(doc)


def jobs_of(docs: Iterable[Document]) -> list[Job]:
    """The jobs of these documents; an id of another type is none of a job."""
    return [job_of(doc) for doc in docs if isinstance(doc["_id"], ObjectId)]


def sound(doc: Document) -> Document:
    """The document itself, or without the fields of a wrong type and with those that each job has."""
    kinds = _kinds()
    wrong = [name for name, value in doc.items() if name in kinds and not _fits(value, kinds[name])]
    missing = [name for name in ("task", "status", "created_at") if name not in doc or name in wrong]
    if not wrong and not missing:
        return doc
    found = doc.copy()
    for name in wrong:
        value = found.pop(name)
        if type(value) is float and int in kinds[name].own and value.is_integer():
            found[name] = int(value)  # as JavaScript writes it
        elif value is not None:
            say_once(doc["_id"], name, f"cannot be read ({type(value).__name__}), and counts as absent")
    if "created_at" not in found and isinstance(doc["_id"], ObjectId):
        made: datetime = doc["_id"].generation_time.astimezone(UTC)
        naive = any(isinstance(value, datetime) and value.tzinfo is None for value in found.values())
        found["created_at"] = made.replace(tzinfo=None) if naive else made
    found.setdefault("status", "pending")
    found.setdefault("task", "")
    return found


def mending(doc: Document) -> Pipeline:
    """What goes before a pipeline that counts: nothing, unless this document lacks what it counts with."""
    counts = {name: 0 for name in _COUNTS if type(doc.get(name)) not in (int, float)}
    made: Document = {"created_at": {"$toDate": "$_id"}} if not isinstance(doc.get("created_at"), datetime) else {}
    return [{"$set": {**counts, **made}}] if counts or made else []


def say_once(job: object, field: str, what: str) -> None:
    """One line, once."""
    if _said.first(str(job), field):
        log.warning("job %.100s: its field `%s` %s (another program wrote it, or somebody by hand)", job, field, what)


def left_out(job: object, why: object) -> None:
    """The same for a job of which a write is refused."""
    if _said.first(str(job), ""):
        log.warning("job %.100s is left as it is, since one of its fields cannot be used: %s", job, why)


def lane_of(doc: Mapping[str, Any]) -> Priority:
    """The lane in which a job is listed: the default where its own is none that this version knows."""
    priority: Any = doc.get("priority")
    return priority if priority in PRIORITIES else "medium"


def placed(doc: Document) -> Document:
    """The fields that decide where an id belongs, each usable as it is."""
    doc["priority"] = lane_of(doc)
    doc["losses"] = whole(doc.get("losses"))
    doc["max_losses"] = whole(doc.get("max_losses", 3))
    if not isinstance(doc.get("task"), str):
        doc["task"] = ""
    if not isinstance(doc.get("due_at"), datetime):
        doc.pop("due_at", None)
    return doc


def is_countable(doc: Document) -> bool:
    """Whether a waiting job can be claimed: claims compare its losses. One line in the log if it cannot."""
    if type(doc.get("losses")) in (int, float):
        return True
    say_once(
        doc["_id"], "losses", "is no number, so that no worker can claim the job: set it to 0, and `token` and `rev`"
    )
    return False


def whole(value: Any) -> int:
    """A count; 0 for anything else."""
    return int(value) if type(value) in (int, float) and value == value and abs(value) < 2**63 else 0


def _reads(doc: Document) -> bool:
    try:
        to_job(doc)
    except Exception:
        return False
    return True


def _fits(value: Any, kinds: FieldTypes) -> bool:
    if value.__class__ not in kinds.own:
        return False
    if kinds.items is not None and value.__class__ is list:
        return kinds.items.issuperset(map(type, value))
    return value.__class__ not in (dict, list) or _is_plain(value)


def _is_plain(value: Any) -> bool:
    """Whether JSON can have it."""
    if value.__class__ is dict:
        return all(map(_is_plain, value.values()))
    return all(map(_is_plain, value)) if value.__class__ is list else value.__class__ in _SCALARS


@cache
def _kinds() -> Mapping[str, FieldTypes]:
    """By the fields of Job. A result may be anything that JSON can have."""
    info = cast("types.StructType", types.type_info(Job))
    found = {field.encode_name: _kinds_of(field.type) for field in info.fields if field.name not in ("id", "result")}
    anything = FieldTypes(frozenset({*_SCALARS, dict, list}))
    return {**found, "result": anything, "start_ms": FieldTypes(frozenset({int, float}))}


def _kinds_of(kind: types.Type) -> FieldTypes:
    match kind:
        case types.Metadata():
            return _kinds_of(kind.type)
        case types.UnionType():
            parts = [_kinds_of(one) for one in kind.types]
            items = [part.items for part in parts if part.items is not None]
            return FieldTypes(frozenset().union(*(part.own for part in parts)), items[0] if items else None)
        case types.VarTupleType():
            return FieldTypes(frozenset({list}), _kinds_of(kind.item_type).own)
        case types.IntType():
            return FieldTypes(frozenset({int}))
        case types.FloatType():
            return FieldTypes(frozenset({int, float}))
        case types.StrType():
            return FieldTypes(frozenset({str}))
        case types.BoolType():
            return FieldTypes(frozenset({bool}))
        case types.DateTimeType():
            return FieldTypes(frozenset({datetime}))
        case types.NoneType():
            return FieldTypes(frozenset({NoneType}))
        case types.StructType() | types.DictType():
            return FieldTypes(frozenset({dict}))
        case _:
            raise TypeError(f"jobs have no fields of type {kind}")
