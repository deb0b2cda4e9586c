"""Submit unique jobs: one write for each slot, which makes the job, finds the one that is there, or replaces it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from dtqkit.model.errors import (
    DocumentRefused,
    DtqError,
    IdempotencyConflict,
    JobConflict,
    OutcomeUnknown,
    StoreUnavailable,
)
from dtqkit.model.jobs import Job, Priority
from dtqkit.model.unique_errors import DuplicateJob
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job
from dtqkit.support.cancel import end
from dtqkit.tasks.unique import Unique
from dtqkit.transitions.announce import NewJobs
from dtqkit.transitions.new import New, put_of
from dtqkit.transitions.patience import Patience, not_sent

log = logging.getLogger("dtqkit.queue")

#: Slots of one call that are written at the same time.
AT_ONCE: Final = 32
#: Jobs and bytes in one insert.
PIECE: Final = 1_000
PIECE_BYTES: Final = 4 * 1024 * 1024
#: Tries of a submit whose slot or idempotency key is taken and freed again in between.
_TRIES: Final = 3
#: Seconds for which counts of duplicates are collected before they are written.
COUNT_S: Final = 1.0

Accepted = Job | DtqError


class UniqueSubmits:
    """Of one process, on one event loop."""

    def __init__(self, store: Store, new: NewJobs) -> None:
        self._store = store
        self._new = new
        self._duplicates = Duplicates(store)

    async def submit(self, jobs: Sequence[New], patience: Patience | None, *, alone: bool) -> list[Accepted]:
        """Each job as accepted, or why it was refused. `alone`: raises StoreUnavailable when MongoDB takes none.

        Jobs of one slot are written in their order. A job that is found instead of made has `was_duplicate`.
        """
        patience = patience or Patience(0.0)
        by_slot: dict[str, list[int]] = {}
        for i, job in enumerate(jobs):
            by_slot.setdefault(job.doc["unique_slot"], []).append(i)
        answers: dict[int, Accepted] = {}
        at_once = asyncio.Semaphore(AT_ONCE)

        async def of_slot(places: list[int]) -> None:
            async with at_once:
                for some in _together([jobs[i] for i in places]):
                    taken, places[:] = places[: len(some)], places[len(some) :]
                    answers.update(zip(taken, await self._patiently(some, patience), strict=True))

        left = list(by_slot.values())
        if len(left) > 1:
            left = await self._in_bulk(jobs, left, answers, patience)
        await asyncio.gather(*(of_slot(places) for places in left))
        found = [answers[i] for i in range(len(jobs))]
        refused = [answer for answer in found if isinstance(answer, StoreUnavailable)]
        if alone and refused and len(refused) == len(found):
            raise next((error for error in refused if isinstance(error, OutcomeUnknown)), refused[0])
        return found

    async def _in_bulk(
        self, jobs: Sequence[New], slots: list[list[int]], answers: dict[int, Accepted], patience: Patience
    ) -> list[list[int]]:
        """Make the jobs of those slots that are free, many in one insert. Returns the places of the others, by slot.

        Not those of a window, whose end MongoDB's clock decides in the write, nor jobs with idempotency keys.
        """
        left = [places for places in slots if not _fits_bulk([jobs[i] for i in places])]
        many = [places for places in slots if _fits_bulk([jobs[i] for i in places])]
        end = 0
        while (start := end) < len(many):
            new = _piece(jobs, many, start)
            end = start + len(new)
            piece = many[start:end]
            docs = [_with_duplicates(one.doc, len(places)) for one, places in zip(new, piece, strict=True)]
            try:
                taken = await self._store.unique.insert(docs, sum(one.size for one in new))
            except StoreUnavailable as error:
                if isinstance(error, OutcomeUnknown):
                    await self._new.list_doubtful(docs)
                if await patience.again(error):
                    return left + many[start:]  # one by one, under the same ids
                answers.update({i: error for places in piece for i in places})
                answers.update({i: not_sent(error) for places in many[end:] for i in places})
                return left
            made = [to_job(doc) for n, doc in enumerate(docs) if n not in taken]
            await self._new.announce(made)
            for n, places in enumerate(piece):
                if n in taken:
                    left.append(places)
                else:
                    found = await self._answers([jobs[i] for i in places], new[n], docs[n], announced=True)
                    answers.update(zip(places, found, strict=True))
        return left

    async def close(self) -> None:
        await self._duplicates.close()

    async def _patiently(self, jobs: Sequence[New], patience: Patience) -> list[Accepted]:
        """Of jobs that one write is for. Sent again, with the same ids, while MongoDB does not take them."""
        doubt: OutcomeUnknown | None = None
        while True:
            try:
                if doubt is not None and (answers := await self._earlier(jobs)) is not None:
                    return answers
                return await self._write(jobs)
            except StoreUnavailable as error:
                if isinstance(error, OutcomeUnknown):
                    doubt = error
                    await self._new.list_doubtful((_written(jobs).doc,))
                if not await patience.again(error):
                    return [doubt or error] * len(jobs)
            except DtqError as error:
                return [error] * len(jobs)

    async def _earlier(self, jobs: Sequence[New]) -> list[Accepted] | None:
        """The answers of a write whose reply was lost, if it was done."""
        new = _written(jobs)
        doc = await self._store.unique.earlier(put_of(new, len(jobs)))
        return None if doc is None else await self._answers(jobs, new, doc)

    async def _write(self, jobs: Sequence[New]) -> list[Accepted]:
        """The first one makes the job, if there is none; the others are duplicates of it."""
        new = _written(jobs)
        for _ in range(_TRIES):
            if "idempotency_key" in new.doc and (first := await self._of_key(new)) is not None:
                return [first]
            doc = await self._store.unique.put(put_of(new, len(jobs)))
            if doc is not None:
                return await self._answers(jobs, new, doc)
        key, task = new.doc["unique_key"], new.doc["task"]
        return [JobConflict(f"the unique job {key!r} of task {task!r} changed too often; submit it again")] * len(jobs)

    async def _of_key(self, new: New) -> Accepted | None:
        """The answer of the first submit with this idempotency key: whatever holds the slot now."""
        doc = new.doc
        first = await self._store.unique.by_key(doc["task"], doc["idempotency_key"])
        if first is None:
            return None
        job = to_job(first)
        if job.payload != to_job(doc).payload:
            return IdempotencyConflict(
                f"idempotency key {doc['idempotency_key']!r} of task {doc['task']!r} belongs to job {job.id}, "
                "which has another payload"
            )
        if first["_id"] == doc["_id"]:  # an earlier try has stored it
            await self._new.announce([job])
        return job

    async def _answers(
        self, jobs: Sequence[New], new: New, doc: Document, *, announced: bool = False
    ) -> list[Accepted]:
        job = to_job(doc)
        made = doc["_id"] == new.doc["_id"]
        replaced = doc.get("replaced_by") == new.doc["_id"]
        if (made or replaced) and not announced:
            await self._new.announce([job])
        self._duplicates.note(job, len(jobs) - made)
        again = msgspec.structs.replace(job, was_duplicate=True)
        duplicate: Accepted = again
        on_duplicate = _how(new).on_duplicate
        if on_duplicate == "raise" or (on_duplicate == "replace" and not (made or replaced)):
            duplicate = DuplicateJob(job.id, _why(new, job))
        return [job if made and i == 0 else duplicate for i in range(len(jobs))]


class Duplicates:
    """Counts duplicates, and adds them to the record after COUNT_S. One that is killed before loses its counts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: Counter[tuple[Priority, str]] = Counter()
        self._adding: asyncio.Task[None] | None = None

    def note(self, job: Job, n: int) -> None:
        if not n:
            return
        self._counts[job.priority, job.task] += n
        if self._adding is None or self._adding.done():
            self._adding = asyncio.create_task(self._add_later(), name="count duplicates")

    async def close(self) -> None:
        if self._adding is not None:
            await end(self._adding)
        await self._add()

    async def _add_later(self) -> None:
        await asyncio.sleep(COUNT_S)
        await self._add()

    async def _add(self) -> None:
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await self._store.unique.count(counts)
        except OutcomeUnknown:
            pass  # they may be counted: better too few than twice
        except (StoreUnavailable, DocumentRefused) as error:
            self._counts += counts  # added with the next ones
            log.debug("%d duplicates are not counted yet: %s", counts.total(), error)


def _how(new: New) -> Unique:
    if new.unique is None:
        raise TypeError(f"the job of task {new.doc['task']!r} is not unique")
    return new.unique


def _together(jobs: Sequence[New]) -> list[Sequence[New]]:
    """Jobs of one slot, in groups that share a write: all, if they are unique alike and have no idempotency keys."""
    if all(job.unique == jobs[0].unique and "idempotency_key" not in job.doc for job in jobs):
        return [jobs]
    return [[job] for job in jobs]


def _piece(jobs: Sequence[New], many: Sequence[list[int]], start: int) -> list[New]:
    """The jobs that the slots from `start` on get in one insert."""
    piece: list[New] = []
    size = 0
    for places in many[start : start + PIECE]:
        one = _written([jobs[i] for i in places])
        size += one.size
        if piece and size > PIECE_BYTES:
            break
        piece.append(one)
    return piece


def _fits_bulk(jobs: Sequence[New]) -> bool:
    """Whether one insert makes the job of a slot, if that is free."""
    return _how(jobs[0]).for_s is None and len(_together(jobs)) == 1 and "idempotency_key" not in jobs[0].doc


def _with_duplicates(doc: Document, submits: int) -> Document:
    """The document that one write makes for so many submits."""
    return {**doc, "duplicates": submits - 1} if submits > 1 else doc


def _written(jobs: Sequence[New]) -> New:
    """The job that stands for all of one write: the last one replaces the others."""
    return jobs[-1 if _how(jobs[0]).on_duplicate == "replace" else 0]


def _why(new: New, job: Job) -> str:
    doc, unique = new.doc, _how(new)
    what = f"task {job.task!r} has a job with the unique key {doc['unique_key']!r}: job {job.id}, which is {job.status}"
    if unique.on_duplicate == "replace":
        return f"{what} and unique={job.unique!r}, so that it cannot be replaced; submit it again when that one is over"
    until = job.uniqueness.partition(", key ")[0]
    return f"{what}, and holds that key {until}; submit it again then, or use on_duplicate='return' to get that job"
