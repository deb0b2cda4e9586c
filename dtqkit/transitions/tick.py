"""Run a schedule that is due: decide, enqueue its jobs, and note that it is done.

Three writes, in this order. The decision is a compare-and-set of the schedule: it moves on to its next nominal time,
and keeps the times that are to be enqueued as `pending`. So two leaders never decide about the same time. Then each job
is inserted under the key (schedule, nominal time), which is unique. The last write takes them off `pending`. A
leader that dies in between leaves them there, and the next one enqueues them again: the key says which exist already.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.control import Submission
from dtqkit.model.errors import DtqError, StoreUnavailable
from dtqkit.model.jobs import Job
from dtqkit.model.schedule_errors import InvalidSchedule
from dtqkit.model.schedules import Schedule, advanced, completed, key_of, plan, troubled
from dtqkit.model.settings import Settings
from dtqkit.model.unique_errors import DuplicateJob
from dtqkit.store import Store
from dtqkit.transitions.cancel import cancel
from dtqkit.transitions.enqueue import Enqueuer
from dtqkit.transitions.new import New, new_job

log = logging.getLogger("dtqkit.recovery")


class Ticker:
    """Enqueues what is due of one schedule at a time. Safe with two of them at once."""

    def __init__(self, settings: Settings, broker: Broker, store: Store, enqueuer: Enqueuer) -> None:
        self._max_payload = settings.max_payload
        self._broker = broker
        self._store = store
        self._enqueuer = enqueuer

    async def fire(self, schedule: Schedule, now: datetime) -> None:
        """Do what is due of `schedule` `now`, by MongoDB's clock. Raises StoreUnavailable: then it stays due."""
        if schedule.pending:
            done = await self._complete(schedule, now)
            if done is None:
                return
            schedule = done
        running: set[str] = set()
        if schedule.live and schedule.overlap != "allow":
            running = await self._store.schedules.running(schedule)
        try:
            todo = plan(schedule, now, running)
        except InvalidSchedule as error:  # a zone that the zone data of this process does not have
            await self._trouble(schedule, str(error), now)
            return
        decided = await self._change(schedule, advanced(schedule, todo, now))
        if decided is None:
            return
        if todo.missed:
            log.warning("schedule %s: %d runs were missed and are not made up for", schedule.name, todo.missed)
        if decided.pending:
            await self._complete(decided, now)

    async def _trouble(self, schedule: Schedule, why: str, now: datetime) -> None:
        if await self._change(schedule, troubled(schedule, why, now)) is not None and schedule.trouble != why:
            log.error("schedule %s cannot run: this process cannot compute its times: %s", schedule.name, why)

    async def _complete(self, schedule: Schedule, now: datetime) -> Schedule | None:
        """Enqueue what is pending; the schedule afterwards, None when somebody else has changed it."""
        for job in schedule.stopping:
            await cancel(self._broker, self._store, ObjectId(job))
        answers = await self.enqueue(schedule, [(at, key_of(schedule.name, at)) for at in schedule.pending])
        jobs: dict[datetime, str] = {}
        refused: list[str] = []
        skipped = 0
        for at, answer in zip(schedule.pending, answers, strict=True):
            if is_duplicate(schedule, answer):
                skipped += 1
            elif isinstance(answer, Job):
                jobs[at] = answer.id
            else:
                refused.append(str(answer))
                log.error("schedule %s: the run of %s was refused: %s", schedule.name, at.isoformat(), answer)
        return await self._change(schedule, completed(schedule, jobs, refused, now, skipped))

    async def _change(self, known: Schedule, new: Schedule) -> Schedule | None:
        if await self._store.schedules.change(known, new, point="tick"):
            return msgspec.structs.replace(new, rev=known.rev + 1)
        return None

    async def enqueue(self, schedule: Schedule, keys: Sequence[tuple[datetime, str]]) -> list[Job | DtqError]:
        """A job for each nominal time and key, or why it was refused; a key that is taken gives the job that has it.

        Raises StoreUnavailable.
        """
        wanted = [
            OfSchedule(task=schedule.task, payload=schedule.payload, at=at, idempotency_key=key, of=schedule)
            for at, key in keys
        ]
        answers = await self._enqueuer.enqueue(wanted, make=self._document)
        for answer in answers:
            if isinstance(answer, StoreUnavailable):
                raise answer
        return answers

    async def _document(self, wanted: Submission, now: datetime, _: float) -> New:
        """Without a check of the payload, which was checked for the schedule, and is again by the job's worker: the
        code of this process may be older than both."""
        assert isinstance(wanted, OfSchedule)  # noqa: S101 - made above
        options = await self._enqueuer.known.defaults(wanted.task)
        try:
            own: dict[str, Any] = {"task": wanted.task, "idempotency_key": wanted.idempotency_key, **wanted.of.options}
            new = new_job(msgspec.convert(own, Submission), wanted.payload, options, now, self._max_payload)
        except msgspec.ValidationError as error:
            raise InvalidSchedule(
                "options", f"the options of schedule {wanted.of.name!r} are not right: {error}"
            ) from None
        new.doc.update({"schedule": wanted.of.name, "scheduled_for": wanted.at})
        return new


def is_duplicate(schedule: Schedule, answer: Job | DtqError) -> bool:
    """Whether no job was made for a run since another one holds the key of its unique task, or its idempotency key.

    That one may be of a person or of another schedule: this one must not wait for it, and must not cancel it.
    """
    if isinstance(answer, Job):
        return bool(answer.was_duplicate) or answer.schedule != schedule.name
    return isinstance(answer, DuplicateJob)


class OfSchedule(Submission, frozen=True, kw_only=True):
    """The run of a schedule at a nominal time."""

    of: Schedule
    at: datetime
