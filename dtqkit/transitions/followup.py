"""Submit the tasks of `on_failure` and `on_success`: at the end of a job, and by the leader for what a crash left.

The write that ends a job records what is to follow. Every process makes the same id of that record, so it is
stored once however often that is tried; then the job's record is cleared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, cast

import msgspec
from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.control import Submission
from dtqkit.model.errors import DocumentRefused, DtqError, InvalidOption, StoreUnavailable
from dtqkit.model.followups import MAX_DEPTH, EndError, Hook, JobEnd, bounded_part, followup_id
from dtqkit.model.jobs import Job
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job
from dtqkit.store.followups import Followed
from dtqkit.store.packing import unpack
from dtqkit.store.slots import is_of
from dtqkit.tasks.options import TaskOptions
from dtqkit.tasks.task import TaskInfo
from dtqkit.transitions.announce import announce
from dtqkit.transitions.new import New, new_job, put_of

log = logging.getLogger("dtqkit.queue")

#: Ended jobs that are read at a time, since each may have a large result.
PIECE: Final = 50
#: The argument of a task that is not in the catalogue.
_USUAL_NAME: Final = "end"
_LARGEST: Final = 4 * 1024 * 1024


async def follow_up(broker: Broker, store: Store, jobs: Sequence[ObjectId]) -> None:
    """Submit what is to follow on these jobs, which have just ended. If that fails, the leader tries again.

    Their ends are recorded: no error here may stop who recorded them.
    """
    try:
        for start in range(0, len(jobs), PIECE):
            await submit_all(broker, store, await store.followups.of(jobs[start : start + PIECE]))
    except StoreUnavailable as error:
        log.warning("recovery will submit what follows on %d jobs: %s", len(jobs), error)
    except Exception:
        log.exception("recovery will try again to submit what follows on %d jobs", len(jobs))


class _Entry(msgspec.Struct, frozen=True):
    """What one end of a job has recorded."""

    claim_number: int = msgspec.field(name="token")
    on: Hook
    task: str
    attempt: int
    at: datetime | None = None
    error: EndError | None = None


async def submit_all(broker: Broker, store: Store, ended: Sequence[Document], *, again: bool = False) -> int:
    """Submit what is to follow on these jobs; returns how many jobs that has made now. Raises StoreUnavailable.

    `again`: another process may have submitted some of it.
    """
    if not ended:
        return 0
    refused: list[Followed] = []
    ends: list[tuple[Document, _Entry]] = []
    for doc, raw in _recorded(ended):
        try:
            ends.append((doc, msgspec.convert(raw, _Entry)))
        except msgspec.ValidationError as error:
            refused.append(_refused(doc, raw, error))
    infos = await store.catalogue.named({entry.task for _, entry in ends})
    new: list[New] = []
    of: list[tuple[Document, _Entry]] = []
    for doc, entry in ends:
        try:
            new.append(_follower(doc, entry, infos.get(entry.task), store))
            of.append((doc, entry))
        except Exception as error:
            refused.append(_refused(doc, msgspec.to_builtins(entry), error))
    found, there = await _stored(store, new, again=again)
    stored: list[Job] = []
    followed: list[Followed] = []
    for (doc, entry), one, answer in zip(of, new, found, strict=True):
        if isinstance(answer, DtqError):
            refused.append(_refused(doc, msgspec.to_builtins(entry), answer))
            continue
        alone = not isinstance(doc.get("followed_by", []), list)
        followed.append(Followed(doc["_id"], entry.claim_number, answer["_id"], alone=alone))
        if is_of(answer, one.doc):
            stored.append(to_job(answer))
    await announce(broker, stored)
    await store.followups.submitted([*followed, *refused])
    return len(stored) - len(there)


def _recorded(ended: Sequence[Document]) -> Iterator[tuple[Document, Any]]:
    """Each entry of each job; what is no list has one, which cannot be read."""
    for doc in ended:
        found: Any = doc["followups"]
        for raw in cast("list[Any]", found) if isinstance(found, list) else [None]:
            yield doc, raw


def _refused(doc: Document, raw: Any, error: Exception) -> Followed:
    entry: Document = cast("Document", raw) if isinstance(raw, dict) else {}
    why = str(error) if isinstance(error, DtqError) else f"what was to follow cannot be read: {error!r}"
    log.error("%.200s cannot follow on job %s: %s", entry.get("task"), doc["_id"], why)
    return Followed(doc["_id"], entry.get("token"), None, why)


async def _stored(store: Store, new: Sequence[New], *, again: bool) -> tuple[list[Document | DtqError], set[ObjectId]]:
    """The documents afterwards: of a unique task, that may be a job that is there already.

    And the ids of those that somebody else has stored, who submits the same.
    """
    plain = [i for i, one in enumerate(new) if one.unique is None]
    found: list[Document | DtqError] = [one.doc for one in new]
    there: set[ObjectId] = set()
    if plain:
        answer = await store.inserts.insert([new[i].doc for i in plain], sum(new[i].size for i in plain))
        for n, error in answer.refused.items():
            found[plain[n]] = error
        there |= {new[plain[n]].doc["_id"] for n in answer.there}
    for i, one in enumerate(new):
        if one.unique is not None:
            try:
                earlier = await store.unique.earlier(put_of(one)) if again else None
                doc = earlier or await store.unique.put(put_of(one))
            except DocumentRefused as error:
                found[i] = error
                continue
            if doc is None:
                raise StoreUnavailable("MongoDB", "", f"the jobs with key {one.doc['unique_key']!r} change too often")
            found[i] = doc
            if earlier is not None or (doc["_id"] == one.doc["_id"] and doc["created_at"] != one.doc["created_at"]):
                there.add(doc["_id"])
    return found, there


def _follower(doc: Document, entry: _Entry, info: TaskInfo | None, store: Store) -> New:
    name = entry.task
    depth: int = doc.get("follow_depth", 0) + 1
    if depth > MAX_DEPTH:
        raise InvalidOption(
            f"on_{entry.on} names {name!r}, and {MAX_DEPTH} jobs have followed on each other already, as in a "
            "circle of tasks: no more do; use a schedule for what runs again and again"
        )
    names = list(info.schema.get("properties", {})) if info is not None else [_USUAL_NAME]
    payload = {names[0]: _end_of(doc, entry).as_argument()} if names else {}
    options = info.defaults if info is not None else TaskOptions()
    made = new_job(Submission(task=name, payload=payload), payload, options, store.now(), _LARGEST)
    # A success has no time of its own; a failed job that was requeued since has no `ended_at`.
    at: datetime = entry.at or doc["ended_at"]
    made.doc["_id"] = ObjectId(followup_id(str(doc["_id"]), entry.claim_number, int(at.timestamp())))
    made.doc.update({"follows": str(doc["_id"]), "follow_depth": depth})
    return made


def _end_of(doc: Document, entry: _Entry) -> JobEnd:
    completed = entry.on == "success"
    payload = bounded_part(unpack(doc["payload"]))
    result = bounded_part(unpack(doc.get("result"))) if completed else None
    parts = {"payload": payload, "result": result}
    kept = {name: part for name, part in parts.items() if part is not msgspec.UNSET}
    return JobEnd(
        job=str(doc["_id"]),
        task=doc["task"],
        status="completed" if completed else "failed",
        attempt=entry.attempt,
        error=entry.error,
        tags=tuple(doc.get("tags", ())),
        left_out=tuple(name for name in parts if name not in kept),
        **kept,
    )
