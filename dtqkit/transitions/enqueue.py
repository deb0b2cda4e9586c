"""Enqueue new jobs. Group commit: submits that arrive during a write share the next insert and the next push.

The size of an insert is bounded, so that its time is bounded on any connection. Larger submits are written piece by
piece, in parallel to the small ones, which do not wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from dtqkit.broker import Broker
from dtqkit.control import PreValidated, Submission
from dtqkit.model.errors import MAYBE, DtqError, IdempotencyConflict, OutcomeUnknown, StoreUnavailable, UnknownTask
from dtqkit.model.jobs import Job
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.store.documents import to_job
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.transitions.announce import NewJobs
from dtqkit.transitions.known import KnownTasks
from dtqkit.transitions.new import New, new_job
from dtqkit.transitions.patience import Patience

#: Maximum jobs and bytes in one insert.
MAX_GROUP: Final = 5_000
MAX_BYTES: Final = 4 * 1024 * 1024
#: A submit with more bytes counts as large.
LARGE_BYTES: Final = 1024 * 1024
#: Tries to insert a job whose idempotency key is held by a job that is deleted meanwhile.
_TRIES: Final = 3

Accepted = Job | DtqError


class _Entry(NamedTuple):
    jobs: Sequence[New]
    size: int
    done: asyncio.Future[list[Accepted]]


class _Queue:
    """Submits that wait to be written, and the task that writes them."""

    def __init__(self) -> None:
        self.waiting: list[_Entry] = []
        self.flushing: asyncio.Task[None] | None = None

    def next_group(self) -> list[_Entry]:
        group: list[_Entry] = []
        jobs = size = 0
        while self.waiting:
            entry = self.waiting[0]
            jobs += len(entry.jobs)
            size += entry.size
            if group and (jobs > MAX_GROUP or size > MAX_BYTES):
                break
            group.append(self.waiting.pop(0))
        return group


class Enqueuer:
    """Creates jobs from submissions. One instance per process, on one event loop; the stores must be open."""

    def __init__(self, settings: Settings, broker: Broker, store: Store, registry: TaskRegistry) -> None:
        """`registry` has the tasks of this process; others are checked against the catalogue."""
        self._max_payload = settings.max_payload
        self._store = store
        self._registry = registry
        self.known: Final = KnownTasks(store)
        self._new = NewJobs(broker, store)
        self._small = _Queue()
        self._large = _Queue()

    async def enqueue(self, submissions: Sequence[Submission], patience: Patience | None = None) -> list[Accepted]:
        """Each job as accepted (journaled by a majority), or why it was refused: its payload, its task, its key.

        Raises StoreUnavailable when MongoDB takes none; OutcomeUnknown when it may have. See `insert`.
        """
        answers: list[Accepted | None] = [None] * len(submissions)
        new: list[New] = []
        places: list[int] = []
        now, asked_at = self._store.now(), asyncio.get_running_loop().time()
        for place, submission in enumerate(submissions):
            try:
                new.append(await self._document(submission, now, asked_at))
                places.append(place)
            except DtqError as error:
                answers[place] = error
        for place, answer in zip(places, await self.insert(new, patience) if new else (), strict=True):
            answers[place] = answer
        return [answer for answer in answers if answer is not None]

    async def check(self, submission: Submission) -> None:
        """Raises UnknownTask or InvalidPayload, as a submit of it would; StoreUnavailable when that is not known."""
        await self._document(submission, self._store.now(), asyncio.get_running_loop().time())

    async def _document(self, submission: Submission, now: datetime, asked_at: float) -> New:
        """The document, after all checks of the submission."""
        task = self._registry.find(submission.task)
        if task is not None:
            checked = isinstance(submission, PreValidated)
            payload = submission.payload if checked else task.check_payload(submission.payload)
            return new_job(submission, payload, task.defaults, now, self._max_payload)
        try:
            payload, options = await self.known.check(submission.task, submission.payload, asked_at)
        except UnknownTask as error:
            near = error.near or self._registry.near(submission.task)
            raise UnknownTask(submission.task, near) from None
        return new_job(submission, payload, options, now, self._max_payload)

    async def insert(self, jobs: Sequence[New], patience: Patience | None = None) -> list[Accepted]:
        """Insert and push; each job as accepted, or why it was refused.

        Raises StoreUnavailable when MongoDB takes none; OutcomeUnknown when it may have. With `patience`, jobs that
        MongoDB does not take now are sent again, with the same ids, so that none is stored twice.
        """
        patience = patience or Patience(0.0)
        accepted: list[Accepted] = []
        #: Jobs that were sent without an answer, by position: whatever later tries return, they may be stored.
        doubts: dict[int, OutcomeUnknown] = {}
        left = list(range(len(jobs)))
        while True:
            none = False
            answers: list[Accepted]
            try:
                answers = await self._written([jobs[i] for i in left])
            except StoreUnavailable as error:
                none = len(left) == len(jobs)
                answers = [error] * len(left)
            accepted = accepted or answers
            for i, answer in zip(left, answers, strict=True):
                accepted[i] = answer
            refused = {i: one for i, one in enumerate(accepted) if isinstance(one, StoreUnavailable)}
            if not refused:
                return accepted
            doubts |= {i: one for i, one in refused.items() if isinstance(one, OutcomeUnknown)}
            why = next(iter(refused.values()))
            if not await patience.again(why):
                break
            left = list(refused)
        if none:
            raise next(iter(doubts.values()), why)
        return [doubts[i] if i in doubts and i in refused else one for i, one in enumerate(accepted)]

    def _written(self, jobs: Sequence[New]) -> asyncio.Future[list[Accepted]]:
        """Add them to the next group, and start writing if no write is in progress."""
        size = sum(job.size for job in jobs)
        queue = self._large if size > LARGE_BYTES else self._small
        entry = _Entry(jobs, size, asyncio.get_running_loop().create_future())
        queue.waiting.append(entry)
        if queue.flushing is None:
            queue.flushing = asyncio.create_task(self._flush(queue), name="submit")
        return entry.done

    async def close(self) -> None:
        """Wait for writes and pushes in progress."""
        for queue in (self._small, self._large):
            if queue.flushing is not None:
                await queue.flushing
        await self._new.close()

    async def _flush(self, queue: _Queue) -> None:
        """Write all groups, each piece by piece."""
        try:
            while queue.waiting:
                group = queue.next_group()
                jobs = [job for entry in group for job in entry.jobs]
                accepted: list[Accepted] = []
                piece: list[New] = []
                try:
                    while len(accepted) < len(jobs):
                        piece = _piece(jobs, len(accepted))
                        accepted += await self._insert(piece)
                except StoreUnavailable as error:
                    # Fail the submits that wait, too: each would wait as long for the same answer.
                    why = f"not sent, since the write before it failed: {error}".removesuffix(MAYBE)
                    not_sent = StoreUnavailable("MongoDB", "", why, reason=error.reason)
                    _fail(queue.waiting, not_sent)
                    queue.waiting.clear()
                    if not accepted:
                        _fail(group, error)
                        continue
                    # Pieces that were accepted stay accepted: reported as refused, they would be submitted again.
                    accepted += [error] * len(piece)
                    accepted += [not_sent] * (len(jobs) - len(accepted))
                except Exception as error:
                    _fail(group, error)
                    continue
                _answer(group, accepted)
        finally:
            queue.flushing = None

    async def _insert(self, jobs: list[New]) -> list[Accepted]:
        """Push the stored jobs, all at once; the others get their error."""
        keyed = [i for i, job in enumerate(jobs) if "idempotency_key" in job.doc]
        plain = [i for i, job in enumerate(jobs) if "idempotency_key" not in job.doc] if keyed else range(len(jobs))
        refused: dict[int, DtqError] = {}
        if plain:
            some = [jobs[i] for i in plain]
            try:
                found = await self._store.inserts.insert([job.doc for job in some], sum(job.size for job in some))
            except OutcomeUnknown:
                await self._new.list_doubtful(job.doc for job in jobs)
                raise
            refused = {plain[n]: error for n, error in found.items()}
        accepted: list[Accepted] = [refused[i] if i in refused else to_job(job.doc) for i, job in enumerate(jobs)]
        if keyed:
            await self._insert_keyed(jobs, keyed, accepted, alone=not plain)
        else:
            await self._new.announce([job for job in accepted if isinstance(job, Job)])
        return accepted

    async def _insert_keyed(self, jobs: list[New], places: list[int], accepted: list[Accepted], *, alone: bool) -> None:
        """Insert those at `places`; results go into `accepted`. `alone`: no other jobs were inserted before."""
        some = [jobs[i] for i in places]
        taken: set[int] = set()
        try:
            found = await self._store.inserts.insert_keyed([job.doc for job in some], sum(job.size for job in some))
        except StoreUnavailable as error:
            if isinstance(error, OutcomeUnknown):
                await self._new.list_doubtful(job.doc for job in some)
            if alone:
                raise
            found = error  # the others are stored
        if isinstance(found, StoreUnavailable):
            for i in places:
                accepted[i] = found
        else:
            taken = {places[n] for n in found.taken}
            for n, error in found.refused.items():
                accepted[places[n]] = error
        await self._new.announce([job for i, job in enumerate(accepted) if i not in taken and isinstance(job, Job)])
        for i in taken:
            try:
                accepted[i] = await self._first(jobs[i])
            except StoreUnavailable as error:  # concerns only this job
                accepted[i] = error
                if isinstance(error, OutcomeUnknown):
                    await self._new.list_doubtful((jobs[i].doc,))

    async def _first(self, new: New) -> Accepted:
        """The job that already has this idempotency key, if its payload is the same."""
        doc = new.doc
        key = doc["idempotency_key"]
        for _ in range(_TRIES):
            first = await self._store.inserts.by_key(doc["task"], key)
            if first is not None:
                known = to_job(first)
                if first["_id"] == doc["_id"]:  # an earlier try has stored it
                    await self._new.announce([known])
                if known.payload == to_job(doc).payload:
                    return known
                return IdempotencyConflict(
                    f"idempotency key {key!r} of task {doc['task']!r} belongs to job {first['_id']}, "
                    "which has another payload"
                )
            found = await self._store.inserts.insert_keyed([doc], new.size)
            if isinstance(found, StoreUnavailable):
                return found
            if found.refused:
                return found.refused[0]
            if not found.taken:
                job = to_job(doc)
                await self._new.announce([job])
                return job
        return IdempotencyConflict(
            f"idempotency key {key!r}: jobs with it were deleted while this one was submitted; submit it again"
        )


def _answer(entries: Sequence[_Entry], accepted: Sequence[Accepted]) -> None:
    at = 0
    for entry in entries:
        if not entry.done.done():  # its submitter may have been cancelled
            entry.done.set_result(list(accepted[at : at + len(entry.jobs)]))
        at += len(entry.jobs)


def _fail(entries: Sequence[_Entry], error: Exception) -> None:
    for entry in entries:
        if not entry.done.done():
            entry.done.set_exception(error)


def _piece(jobs: Sequence[New], start: int) -> list[New]:
    """The jobs from `start` on that fit into one insert."""
    size = 0
    for end in range(start, min(len(jobs), start + MAX_GROUP)):
        size += jobs[end].size
        if size > MAX_BYTES and end > start:
            return list(jobs[start:end])
    return list(jobs[start : start + MAX_GROUP])
