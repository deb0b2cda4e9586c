"""Enqueue new jobs. Group commit: submits that arrive during a write share the next insert and the next push.

The size of an insert is bounded, so that its time is bounded on any connection. Larger submits are written piece by
piece, in parallel to the small ones, which do not wait for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from dtqkit.broker import Broker
from dtqkit.control import PreValidated, Submission
from dtqkit.model.errors import DtqError, IdempotencyConflict, OutcomeUnknown, StoreUnavailable, UnknownTask
from dtqkit.model.jobs import Job
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.store.documents import to_job
from dtqkit.store.inserts import Inserted
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import Task
from dtqkit.tasks.unique import check_by
from dtqkit.transitions.announce import NewJobs
from dtqkit.transitions.known import KnownTasks
from dtqkit.transitions.new import New, new_job
from dtqkit.transitions.patience import Patience, not_sent
from dtqkit.transitions.unique import UniqueSubmits

#: Maximum jobs and bytes in one insert.
MAX_GROUP: Final = 5_000
MAX_BYTES: Final = 4 * 1024 * 1024
#: A submit with more bytes counts as large.
LARGE_BYTES: Final = 1024 * 1024
#: Tries to insert a job whose idempotency key is held by a job that is deleted meanwhile.
_TRIES: Final = 3

Accepted = Job | DtqError


#: Makes the document of a submission at MongoDB's time, asked for at this time of the loop. Raises DtqError.
Make: TypeAlias = Callable[[Submission, datetime, float], Awaitable[New]]


class _Entry:
    """The jobs of one submit, written in one insert, or piece by piece if they do not fit into one."""

    __slots__ = ("_answers", "_jobs", "done", "left", "size")

    def __init__(self, jobs: Sequence[New], loop: asyncio.AbstractEventLoop) -> None:
        self._jobs = jobs
        self._answers: list[Accepted] = []
        #: How many jobs are left to send.
        self.left = len(jobs)
        self.size: Final = jobs[0].size if self.left == 1 else sum([job.size for job in jobs])
        self.done: Final[asyncio.Future[list[Accepted]]] = loop.create_future()

    def next_piece(self) -> Sequence[New]:
        """What is left, as far as it fits into one insert."""
        sent = len(self._jobs) - self.left
        if not sent and self.left <= MAX_GROUP and self.size <= MAX_BYTES:
            self.left = 0
            return self._jobs
        end = _end_of_piece(self._jobs, sent)
        self.left = len(self._jobs) - end
        return self._jobs[sent:end]

    def answer(self, answers: list[Accepted]) -> None:
        """Of the next jobs that have none."""
        self._answers = answers = self._answers + answers if self._answers else answers
        if len(answers) == len(self._jobs) and not self.done.done():  # its submitter may have been cancelled
            self.done.set_result(answers)

    def fail(self, error: Exception) -> None:
        """Raise `error` to the submitter; what is left is not sent."""
        self.left = 0
        if not self.done.done():
            self.done.set_exception(error)

    def refuse(self, piece: int, error: StoreUnavailable, not_sent: StoreUnavailable) -> None:
        """The last `piece` jobs that were sent get `error`, and what is left gets `not_sent`.

        What was accepted before stays accepted: reported as refused, it would be submitted again.
        """
        if self._answers:
            left, self.left = self.left, 0
            self.answer([*[error] * piece, *[not_sent] * left])
        else:
            self.fail(error if piece else not_sent)


class _Line:
    """Submits that wait to be written, and the task that writes them."""

    def __init__(self) -> None:
        self.waiting: deque[_Entry] = deque()
        self.writing: asyncio.Task[None] | None = None

    def next_group(self) -> list[tuple[_Entry, Sequence[New]]]:
        """What the next insert has: submits that fit into it, or a piece of one that does not."""
        group: list[tuple[_Entry, Sequence[New]]] = []
        jobs = size = 0
        while self.waiting:
            entry = self.waiting[0]
            jobs += entry.left
            size += entry.size
            if group and (jobs > MAX_GROUP or size > MAX_BYTES):
                break
            if piece := entry.next_piece():
                group.append((entry, piece))
            if entry.left:
                break
            self.waiting.popleft()
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
        self._unique = UniqueSubmits(store, self._new)
        self._small = _Line()
        self._large = _Line()

    async def enqueue(
        self, submissions: Sequence[Submission], patience: Patience | None = None, make: Make | None = None
    ) -> list[Accepted]:
        """Each job as accepted (journaled by a majority), or why it was refused: its payload, its task, its key.

        Raises StoreUnavailable when MongoDB takes none; OutcomeUnknown when it may have. With `patience`, jobs that
        MongoDB does not take now are sent again, with the same ids, so that none is stored twice. `make` makes the
        documents, instead of the checks of a submission.
        """
        loop = asyncio.get_running_loop()
        now, asked_at = self._store.now(), loop.time()
        made: list[New | DtqError] = []
        plain: list[New] = []
        unique: list[New] = []
        for submission in submissions:
            try:
                if make is not None:
                    job = await make(submission, now, asked_at)
                elif (task := self._registry.find(submission.task)) is not None:
                    job = self._of_task(task, submission, now)
                else:
                    job = await self._of_known(submission, now, asked_at)
            except DtqError as error:
                made.append(error)
            else:
                made.append(job)
                (plain if job.unique is None else unique).append(job)
        of_unique = iter(await self._unique.submit(unique, patience, alone=not plain) if unique else ())
        answers: list[Accepted] = []
        if plain:
            entry = _Entry(plain, loop)
            self._line(entry.size).waiting.append(entry)
            answers = await self._answers(entry.done, plain, patience, alone=not unique)
            if len(plain) == len(made):
                return answers
        of_plain = iter(answers)
        return [
            one if isinstance(one, DtqError) else next(of_plain if one.unique is None else of_unique) for one in made
        ]

    def _line(self, size: int) -> _Line:
        """Where a submit of so many bytes waits. What writes it runs already, or from the loop's next turn on."""
        line = self._large if size > LARGE_BYTES else self._small
        if line.writing is None:
            line.writing = asyncio.get_running_loop().create_task(self._flush(line), name="submit")
        return line

    async def _answers(
        self, tried: asyncio.Future[list[Accepted]], jobs: Sequence[New], patience: Patience | None, *, alone: bool
    ) -> list[Accepted]:
        """Of jobs that are not unique and wait in a line. `alone`: raises StoreUnavailable when MongoDB takes none."""
        try:
            answers = await tried
        except StoreUnavailable as error:
            return await self._again(jobs, [error] * len(jobs), patience, alone=alone, none=True)
        for answer in answers:
            if isinstance(answer, StoreUnavailable):
                return await self._again(jobs, answers, patience, alone=alone, none=False)
        return answers

    async def _again(
        self, jobs: Sequence[New], answers: list[Accepted], patience: Patience | None, *, alone: bool, none: bool
    ) -> list[Accepted]:
        """The same, after a try with these answers. `none`: each has the same error, since MongoDB took no job."""
        #: Jobs that were sent without an answer: whatever later tries return, they may be stored.
        doubts: dict[int, OutcomeUnknown] = {}
        while refused := {i: one for i, one in enumerate(answers) if isinstance(one, StoreUnavailable)}:
            doubts |= {i: one for i, one in refused.items() if isinstance(one, OutcomeUnknown)}
            why = next(iter(refused.values()))
            if patience is None or not await patience.again(why):
                if alone and none and len(refused) == len(jobs):
                    raise next(iter(doubts.values()), why)
                return [doubts.get(i, answer) if i in refused else answer for i, answer in enumerate(answers)]
            entry = _Entry([jobs[i] for i in refused], asyncio.get_running_loop())
            self._line(entry.size).waiting.append(entry)
            try:
                found, none = await entry.done, False
            except StoreUnavailable as error:
                found, none = [error] * len(refused), True
            for i, answer in zip(refused, found, strict=True):
                answers[i] = answer
        return answers

    async def check(self, submission: Submission) -> None:
        """Raises UnknownTask or InvalidPayload, as a submit of it would; StoreUnavailable when that is not known."""
        now = self._store.now()
        if (task := self._registry.find(submission.task)) is not None:
            self._of_task(task, submission, now)
        else:
            await self._of_known(submission, now, asyncio.get_running_loop().time())

    def _of_task(self, task: Task[..., Any], submission: Submission, now: datetime) -> New:
        """The document of a job of a task of this process, after all checks of the submission."""
        checked = isinstance(submission, PreValidated)
        payload = submission.payload if checked else task.check_payload(submission.payload)
        if submission.unique_by is not None:
            check_by(task.name, submission.unique_by, task.schema)
        return new_job(submission, payload, task.defaults, now, self._max_payload)

    async def _of_known(self, submission: Submission, now: datetime, asked_at: float) -> New:
        """The same for a task of other processes, by the catalogue."""
        try:
            payload, options = await self.known.check(submission.task, submission.payload, asked_at)
        except UnknownTask as error:
            near = error.near or self._registry.near(submission.task)
            raise UnknownTask(submission.task, near) from None
        if submission.unique_by is not None:
            check_by(submission.task, submission.unique_by, self.known.schema(submission.task))
        return new_job(submission, payload, options, now, self._max_payload)

    async def close(self) -> None:
        """Wait for writes and pushes in progress."""
        for line in (self._small, self._large):
            if line.writing is not None:
                await line.writing
        await self._unique.close()
        await self._new.close()

    async def _flush(self, line: _Line) -> None:
        """Write and announce what waits, one insert after the other."""
        try:
            while group := line.next_group():
                jobs = [job for _, piece in group for job in piece]
                docs = [job.doc for job in jobs]
                try:
                    found = await self._store.inserts.insert(docs, sum(job.size for job in jobs))
                    answers = await self._announced(jobs, found)
                except StoreUnavailable as error:
                    if isinstance(error, OutcomeUnknown):
                        await self._new.list_doubtful(docs)
                    # Fail the submits that wait, too: each would wait as long for the same answer.
                    later = not_sent(error)
                    for entry, piece in group:
                        entry.refuse(len(piece), error, later)
                    for entry in line.waiting:
                        entry.refuse(0, error, later)
                    line.waiting.clear()
                except Exception as error:
                    for entry, _ in group:
                        entry.fail(error)
                else:
                    start = 0
                    for entry, piece in group:
                        end = start + len(piece)
                        entry.answer(answers[start:end])
                        start = end
        finally:
            line.writing = None

    async def _announced(self, jobs: Sequence[New], found: Inserted) -> list[Accepted]:
        """Push those that are stored, all at once. For a key that is taken, the answer is the first job with it."""
        refused = found.refused
        accepted: list[Accepted] = [refused[i] if i in refused else to_job(job.doc) for i, job in enumerate(jobs)]
        if refused and (doubtful := [i for i, error in refused.items() if isinstance(error, OutcomeUnknown)]):
            await self._new.list_doubtful(jobs[i].doc for i in doubtful)
        await self._new.announce(
            [job for i, job in enumerate(accepted) if i not in found.taken and isinstance(job, Job)]
        )
        for i in found.taken:
            try:
                accepted[i] = await self._first(jobs[i])
            except StoreUnavailable as error:  # concerns only this job
                accepted[i] = error
                if isinstance(error, OutcomeUnknown):
                    await self._new.list_doubtful((jobs[i].doc,))
        return accepted

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
            found = await self._store.inserts.insert([doc], new.size)
            if found.refused:
                return found.refused[0]
            if not found.taken:
                job = to_job(doc)
                await self._new.announce([job])
                return job
        return IdempotencyConflict(
            f"idempotency key {key!r}: jobs with it were deleted while this one was submitted; submit it again"
        )


def _end_of_piece(jobs: Sequence[New], start: int) -> int:
    """Where the jobs from `start` on that fit into one insert end."""
    size = 0
    for end in range(start, min(len(jobs), start + MAX_GROUP)):
        size += jobs[end].size
        if size > MAX_BYTES and end > start:
            return end
    return min(len(jobs), start + MAX_GROUP)
