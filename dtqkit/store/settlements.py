"""The ends of attempts as statements for MongoDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import bson
import msgspec
from bson import ObjectId

from dtqkit.model.jobs import NOT_BEGUN, WAITING
from dtqkit.model.outcomes import Change
from dtqkit.store import documents
from dtqkit.store.documents import Document

#: Hint for queries of many ids: without it, the planner compares this index with the one by status each time.
BY_ID: Final = "_id_"
#: Bytes of results in one command, as JSON: as BSON, which a command may have 16 MB of, some have eight times as many.
MAX_COMMAND: Final = 1_000_000


class Settlement(msgspec.Struct, frozen=True):
    """The end of one attempt, to be recorded while `claim` still holds the job."""

    id: ObjectId
    claim: ObjectId
    #: The number of the claim, and of its attempt.
    claim_number: int
    change: Change
    #: Fields progress, progress_message and log of the attempt.
    attempt_log: Document | None = None


def commands(settlements: Sequence[Settlement]) -> Iterator[list[Document]]:
    """The updates that record these ends, in commands that are not too large."""
    return _in_pieces(_statements(settlements))


def recorded(doc: Document, settlement: Settlement) -> bool:
    """Whether the document has exactly this end. That it no longer runs is not enough: it may have been marked lost."""
    if settlement.change.status == "completed":
        return doc["status"] == "completed" and doc["claim"] == settlement.claim
    if settlement.change.ending in NOT_BEGUN:  # stores no attempt; marking it lost would have
        filed = any(attempt["number"] == settlement.claim_number for attempt in doc.get("earlier", ()))
        return doc["status"] in (*WAITING, "cancelled") and doc["claim"] == settlement.claim and not filed
    mine = {"number": settlement.claim_number, "ending": settlement.change.ending}
    return mine in doc.get("earlier", ())


def _update(settlement: Settlement) -> Any:
    change = settlement.change
    if change.status == "completed":
        update = documents.completing(change, settlement.claim_number)
        if settlement.attempt_log:
            update["$set"] |= settlement.attempt_log
        return update
    begun = change.ending not in NOT_BEGUN
    return documents.ending(change, settlement.attempt_log) if begun else documents.declining(change)


def _statements(settlements: Sequence[Settlement]) -> Iterator[tuple[int, Document]]:
    """One update for each distinct end, with its size in bytes, roughly.

    Successes of one claim with the same result and run time share theirs.
    """
    shared: dict[tuple[ObjectId, bytes, float | None, int | None, bool], list[Settlement]] = {}
    for s in settlements:
        change = s.change
        if change.status == "completed" and not s.attempt_log and change.followup is None:
            key = (s.claim, msgspec.json.encode(change.result), change.run_ms, change.start_ms, change.frees_slot)
            shared.setdefault(key, []).append(s)
        else:
            statement: Document = {"q": documents.held([s.id], s.claim), "u": _update(s)}
            yield len(bson.encode(statement)), statement
    for (claim, result, *_), same in shared.items():
        held = documents.held([s.id for s in same], claim)
        yield len(result), {"q": held, "u": _update(same[0]), "multi": len(same) > 1, "hint": BY_ID}


def _in_pieces(statements: Iterable[tuple[int, Document]]) -> Iterator[list[Document]]:
    """Commands of at most MAX_COMMAND bytes, or of one statement."""
    piece: list[Document] = []
    room = MAX_COMMAND
    for size, statement in statements:
        if size > room and piece:
            yield piece
            piece, room = [], MAX_COMMAND
        piece.append(statement)
        room -= size
    if piece:
        yield piece
