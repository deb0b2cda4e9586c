"""Run a schedule that is due: enqueue the jobs of its nominal times, then move it on.

Two writes, in this order. Each job is inserted under the key (schedule, nominal time), which is unique; then the
schedule moves on by a compare-and-set. Whoever dies in between, or is overtaken by another leader, leaves jobs that the
next plan finds by their keys: so no nominal time runs twice, and none is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.control import Submission
from dtqkit.model.errors import DtqError, IdempotencyConflict, StoreUnavailable
from dtqkit.model.jobs import Job
from dtqkit.model.schedule_errors import InvalidSchedule
from dtqkit.model.schedules import MAX_LIVE, Plan, Schedule, advanced, key_of, plan
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.transitions.cancel import cancel
from dtqkit.transitions.enqueue import Enqueuer
from dtqkit.transitions.new import New, new_job

log = logging.getLogger("dtqkit.recovery")

#: Characters of a reason that a schedule keeps.
_MAX_TROUBLE: Final = 500


class Ticker:
    """Enqueues what is due of one schedule at a time. Safe with two of them at once."""

    def __init__(self, settings: Settings, broker: Broker, store: Store, enqueuer: Enqueuer) -> None:
        self._max_payload = settings.max_payload
        self._broker = broker
        self._store = store
        self._enqueuer = enqueuer

    async def fire(self, schedule: Schedule, now: datetime) -> None:
        """Carry out the plan of `schedule` for `now`, by MongoDB's clock.

        Raises StoreUnavailable: then what was enqueued is found by the next plan.
        """
        todo = plan(schedule, now, await self._store.schedules.runs(schedule, now))
        for job in todo.cancel:
            await cancel(self._broker, self._store, ObjectId(job))
        jobs, refused = await self._enqueue(schedule, todo.enqueue)
        new = _carried_out(schedule, todo, jobs, refused, now)
        moved = await self._store.schedules.change(schedule, new, point="tick")
        if moved and todo.missed:
            log.warning("schedule %s: %d runs were missed and are not made up for", schedule.name, todo.missed)

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

    async def _enqueue(
        self, schedule: Schedule, times: Sequence[datetime]
    ) -> tuple[dict[datetime, str | None], list[DtqError]]:
        """The id of the job of each nominal time, None while that is not known; and why others were refused."""
        answers = await self.enqueue(schedule, [(at, key_of(schedule.name, at)) for at in times])
        jobs: dict[datetime, str | None] = {}
        refused: list[DtqError] = []
        for at, answer in zip(times, answers, strict=True):
            if isinstance(answer, Job):
                jobs[at] = answer.id
            elif isinstance(answer, IdempotencyConflict):
                jobs[at] = None  # it was enqueued by an older definition
            else:
                refused.append(answer)
                log.error("schedule %s: the run of %s was refused: %s", schedule.name, at.isoformat(), answer)
        return jobs, refused

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


class OfSchedule(Submission, frozen=True, kw_only=True):
    """The run of a schedule at a nominal time."""

    of: Schedule
    at: datetime


def _carried_out(
    schedule: Schedule, todo: Plan, jobs: dict[datetime, str | None], refused: Sequence[DtqError], now: datetime
) -> Schedule:
    """The schedule after the plan, with its jobs."""
    new = advanced(schedule, todo, now)
    known = [job for job in jobs.values() if job is not None]
    ran = [*todo.found, *jobs]
    last = max(ran, default=None)
    return msgspec.structs.replace(
        new,
        live=(*new.live, *known)[-MAX_LIVE:],
        enqueued=new.enqueued - len(refused),
        missed=new.missed + len(refused),
        last_at=new.last_at if last is None else last,
        last_job=(jobs.get(last) or new.last_job) if last is not None else new.last_job,
        trouble=str(refused[-1])[:_MAX_TROUBLE] if refused else ("" if ran else new.trouble),
    )
