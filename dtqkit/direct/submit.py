"""Group commit: submits that come while one is being written share the next insert and the next push."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from dtqkit.broker import Broker
from dtqkit.broker.keys import member
from dtqkit.direct.patience import Patience
from dtqkit.errors import MAYBE, DocumentRefused, DtqError, IdempotencyConflict, OutcomeUnknown, StoreUnavailable
from dtqkit.events import encode_batch, event_of
from dtqkit.jobs import Job, Priority
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job

log = logging.getLogger("dtqkit.queue")

#: Jobs in one insert.
MAX_GROUP: Final = 5_000
#: Jobs of one group that are announced; a board learns of more from its next look.
MAX_ANNOUNCED: Final = 100
#: A push that takes longer than this is tried again later; and no submit waits for Redis for as long.
PUSH_S: Final = 2.0
#: Seconds after which what may have been stored is looked for by a worker.
DOUBT_S: Final = 2.0
#: Tries to insert a job whose idempotency key is taken by a job that then is gone.
_TRIES: Final = 3

Accepted = Job | DtqError


class _Entry:
    __slots__ = ("docs", "done")

    def __init__(self, docs: Sequence[Document], done: asyncio.Future[list[Accepted]]) -> None:
        self.docs = docs
        self.done = done


class Submitter:
    """Writes documents of new jobs. One instance a queue, on the queue's loop."""

    def __init__(self, broker: Broker, store: Store) -> None:
        self._broker = broker
        self._store = store
        self._waiting: list[_Entry] = []
        self._flushing: asyncio.Task[None] | None = None
        self._redis_back_at = float("-inf")

    async def submit(self, docs: Sequence[Document], patience: Patience | None = None) -> list[Accepted]:
        """Insert and push; each job as it was accepted (journaled by a majority), or why it was not.

        Raises StoreUnavailable when MongoDB takes none of them; OutcomeUnknown when it may have. With `patience`, what
        MongoDB does not take now is sent again, under the ids that it has: that is safe.
        """
        patience = patience or Patience(0.0)
        accepted: list[Accepted] = []
        left = list(range(len(docs)))
        while True:
            answers: list[Accepted]
            none = False
            try:
                answers = await self._submit([docs[i] for i in left])
            except StoreUnavailable as error:
                none = len(left) == len(docs)
                answers = [error] * len(left)
            accepted = accepted or answers
            for i, answer in zip(left, answers, strict=True):
                accepted[i] = answer
            refused = {i: one for i, one in enumerate(accepted) if isinstance(one, StoreUnavailable)}
            if not refused:
                return accepted
            why = next(iter(refused.values()))
            if not await patience.again(why):
                break
            left = list(refused)
        if none:
            raise patience.last(why)
        return [patience.last(one) if isinstance(one, StoreUnavailable) else one for one in accepted]

    async def _submit(self, docs: Sequence[Document]) -> list[Accepted]:
        done: asyncio.Future[list[Accepted]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(docs, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="submit")
        return await done

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._flushing is not None:
            await self._flushing

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._next_group())
        finally:
            self._flushing = None

    def _next_group(self) -> list[_Entry]:
        group: list[_Entry] = []
        size = 0
        while self._waiting and (not group or size + len(self._waiting[0].docs) <= MAX_GROUP):
            entry = self._waiting.pop(0)
            size += len(entry.docs)
            group.append(entry)
        return group

    async def _commit(self, group: list[_Entry]) -> None:
        docs = [doc for entry in group for doc in entry.docs]
        accepted: list[Accepted] = []
        try:
            while len(accepted) < len(docs):
                accepted += await self._insert(docs[len(accepted) :][:MAX_GROUP])
        except Exception as error:
            if isinstance(error, StoreUnavailable):
                # Those that came meanwhile would wait as long again for the same answer.
                why = f"not sent, since the write before it failed: {error}".removesuffix(MAYBE)
                away = StoreUnavailable("MongoDB", "", why, reason=error.reason)
                for entry in self._waiting:
                    if not entry.done.done():
                        entry.done.set_exception(away)
                self._waiting.clear()
            if not accepted or not isinstance(error, StoreUnavailable):
                for entry in group:
                    if not entry.done.done():
                        entry.done.set_exception(error)
                return
            # What was accepted before stays so: told that it was refused, its submitter would run it twice.
            accepted += [error] * (len(docs) - len(accepted))
        at = 0
        for entry in group:
            if not entry.done.done():  # its submitter may have been cancelled
                entry.done.set_result(accepted[at : at + len(entry.docs)])
            at += len(entry.docs)

    async def _insert(self, docs: list[Document]) -> list[Accepted]:
        try:
            taken = await self._store.jobs.insert(docs)
        except OutcomeUnknown:
            await self._list_later(docs)
            raise
        except DocumentRefused as error:
            if len(docs) == 1:
                return [error]
            # One of them, or several: the others are not to suffer for it.
            return [one for doc in docs for one in await self._insert([doc])]
        accepted: list[Accepted] = [to_job(doc) for doc in docs]
        fresh = [job for i, job in enumerate(accepted) if i not in taken and isinstance(job, Job)]
        await self._push(fresh)
        for i in taken:
            try:
                accepted[i] = await self._first(docs[i])
            except StoreUnavailable as error:  # the others are stored, and it is this one's affair alone
                accepted[i] = error
        return accepted

    async def _first(self, doc: Document) -> Accepted:
        """The job that already has this idempotency key, if it was asked for the same thing."""
        key = doc["idempotency_key"]
        for _ in range(_TRIES):
            first = await self._store.jobs.by_key(doc["task"], key)
            if first is not None:
                known = to_job(first)
                if known.payload == to_job(doc).payload:
                    return known
                return IdempotencyConflict(
                    f"idempotency key {key!r} of task {doc['task']!r} belongs to job {first['_id']}, "
                    "which has another payload"
                )
            if not await self._store.jobs.insert([doc]):
                job = to_job(doc)
                await self._push([job])
                return job
        return IdempotencyConflict(f"idempotency key {key!r} is taken and given up again and again")

    async def _list_later(self, docs: Sequence[Document]) -> None:
        """These may be stored or not: if they are, nothing else lists them before the next audit."""
        at_ms = (self._store.now().timestamp() + DOUBT_S) * 1000
        later = {member(d["priority"], str(d["_id"])): at_ms for d in docs if d["status"] == "pending"}
        try:
            async with asyncio.timeout(PUSH_S):
                await self._broker.push({}, later)
        except (StoreUnavailable, TimeoutError):
            pass

    async def _push(self, jobs: Sequence[Job]) -> None:
        """Best effort: what is not pushed is in the record, and recovery lists it."""
        loop = asyncio.get_running_loop()
        if not jobs:
            return
        ready: dict[Priority, list[str]] = {}
        later: dict[str, float] = {}
        for job in jobs:
            if job.due_at is None:
                ready.setdefault(job.priority, []).append(job.id)
            else:
                later[member(job.priority, job.id)] = job.due_at.timestamp() * 1000
        if loop.time() < self._redis_back_at:
            self._broker.push_later(ready, later)
            return
        events = encode_batch([event_of(job) for job in jobs[-MAX_ANNOUNCED:]])
        try:
            async with asyncio.timeout(PUSH_S):
                await self._broker.push(ready, later, events)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning(
                "%s safe in MongoDB, and will be listed once Redis takes writes: %s",
                "the job is" if len(jobs) == 1 else f"{len(jobs):,} jobs are",
                str(error) or f"no answer within {PUSH_S:g} s",
            )
            self._redis_back_at = loop.time() + PUSH_S
