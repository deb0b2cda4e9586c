"""Make, change and remove schedules, at run time and as code declares them. Each change is a compare-and-set."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from dtqkit.broker import Broker
from dtqkit.control.schedules import Applied, Backfilled
from dtqkit.model.errors import DtqError, IdempotencyConflict, StoreUnavailable
from dtqkit.model.jobs import Job
from dtqkit.model.schedule_changes import (
    VISIT_S,
    Effect,
    check_free,
    declaration,
    effect_of,
    hash_of,
    made,
    pausing,
    redefined,
    resuming,
)
from dtqkit.model.schedule_errors import InvalidSchedule, ScheduleNotFound, ScheduleUnreadable
from dtqkit.model.schedules import Definition, Schedule, is_due, key_of, times_between, timing_of
from dtqkit.model.unique_errors import DuplicateJob
from dtqkit.store import Store
from dtqkit.transitions.tick import Ticker, is_duplicate

log = logging.getLogger("dtqkit.worker")

#: Nominal times that one backfill enqueues at most.
MAX_BACKFILL: Final = 1_000
#: The first time that one begins with: near year 1, a time has no form in each zone.
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Scheduling:
    """Methods raise StoreUnavailable when MongoDB is away. Definitions are checked before."""

    def __init__(self, broker: Broker, store: Store, ticker: Ticker) -> None:
        self._broker = broker
        self._store = store
        self._ticker = ticker

    async def get(self, name: str) -> Schedule:
        """Raises ScheduleNotFound."""
        found = await self._store.schedules.get(name)
        if found is None:
            raise ScheduleNotFound(name[:200])
        return found

    async def now(self) -> datetime:
        """MongoDB's time, compared just now."""
        await self._store.clock_of_now()
        return self._store.now()

    async def put(self, wanted: Definition) -> Schedule:
        """Make or change a schedule at run time. Raises ScheduleTaken."""
        while True:
            now = await self.now()
            known = await self._store.schedules.get(wanted.name)
            if known is None:
                new = made(wanted, now)
                done = await self._store.schedules.add(new)
            else:
                check_free(known, wanted)
                if hash_of(known) == hash_of(wanted):
                    return known
                if await self._is_due(known, now):
                    continue
                new = redefined(known, wanted, now)
                done = await self._store.schedules.change(known, new)
            if done:
                await self._changed()
                return await self.get(wanted.name)

    async def declare(self, wanted: Definition, app: str, *, force: bool = False) -> Effect:
        """Put a schedule that code declares into the record. Raises ScheduleTaken."""
        while True:
            now = await self.now()
            known = await self._store.schedules.get(wanted.name)
            found = effect_of(known, wanted, app, now, force=force)
            if known is None:
                done = await self._store.schedules.add(made(wanted, now, declaration(None, wanted, app, now)))
            elif found == "older":
                return found
            elif found == "unchanged":
                if known.declared is not None and now - known.declared.at < timedelta(seconds=VISIT_S / 2):
                    return found  # another worker has just said so
                seen = msgspec.structs.replace(known.declared, at=now) if known.declared is not None else None
                if await self._store.schedules.change(known, msgspec.structs.replace(known, declared=seen)):
                    return found
                continue
            else:
                if await self._is_due(known, now):
                    continue
                new = msgspec.structs.replace(
                    redefined(known, wanted, now), declared=declaration(known, wanted, app, now)
                )
                done = await self._store.schedules.change(known, new)
            if done:
                await self._changed()
                return found

    async def apply(
        self, wanted: Sequence[Definition], app: str, *, prune: bool = False, force: bool = False
    ) -> Applied:
        """All schedules that an app declares; with `prune`, those that it has declared and does not now are removed."""
        found: dict[Effect, list[str]] = {"made": [], "changed": [], "unchanged": [], "older": []}
        refused: dict[str, str] = {}
        for one in wanted:
            try:
                found[await self.declare(one, app, force=force)].append(one.name)
            except StoreUnavailable:
                raise
            except DtqError as error:  # one that cannot be put does not keep the others out
                refused[one.name] = str(error)
        removed: list[str] = []
        if prune:
            removed = await self._store.schedules.remove_undeclared(app, [one.name for one in wanted])
        return Applied(
            made=tuple(found["made"]),
            changed=tuple(found["changed"]),
            unchanged=tuple(found["unchanged"]),
            older=tuple(found["older"]),
            refused=refused,
            removed=tuple(removed),
        )

    async def pause(self, name: str, reason: str) -> Schedule:
        """What is due runs before, as its pause begins now."""
        while await self._is_due(await self.get(name), await self.now()):
            pass
        return await self._change(name, lambda known, now: pausing(known, reason, now))

    async def resume(self, name: str) -> Schedule:
        return await self._change(name, resuming)

    async def remove(self, name: str) -> Schedule:
        """Its jobs stay. Raises ScheduleNotFound. Of one that cannot be read, the answer has the name alone."""
        try:
            known = await self.get(name)
        except ScheduleUnreadable:
            now = await self.now()
            known = Schedule(name=name, task="", created_at=now, anchor_at=now)
        if not await self._store.schedules.remove(name):
            raise ScheduleNotFound(name)
        await self._changed()
        return known

    async def run_now(self, name: str) -> Job:
        """A job at once, whatever the schedule's overlap says, and also while it is paused.

        When its task is unique and another job holds the key, that job, with `was_duplicate`.
        """
        schedule = await self.get(name)
        now = await self.now()
        (answer,) = await self._ticker.enqueue(schedule, [(now, f"{key_of(name, now)}+{secrets.token_hex(4)}")])
        if isinstance(answer, DtqError):
            raise answer
        if not is_duplicate(schedule, answer):
            await self._store.schedules.ran(name, answer.id)
        return answer

    async def backfill(self, name: str, start: datetime, end: datetime) -> Backfilled:
        """A job for each nominal time from `start` to before `end` that has none; overlap does not matter."""
        schedule = await self.get(name)
        now = await self.now()
        if start < EARLIEST:
            raise InvalidSchedule("start", f"start is {start.isoformat()}; it is a time from 1970 on")
        if start >= end:
            raise InvalidSchedule("end", f"end is {end.isoformat()}, which is not after start, {start.isoformat()}")
        # What comes later, the leader runs by itself.
        end = min(end, now if schedule.next_at is None else schedule.next_at)
        times: list[datetime] = []
        for at in times_between(schedule, min(start, end), end):
            if len(times) == MAX_BACKFILL:
                raise InvalidSchedule(
                    "start",
                    f"from {start.isoformat()} on there are more than {MAX_BACKFILL:,} times: backfill a part at a "
                    f"time, such as until {at.isoformat()}",
                )
            times.append(at)
        before = self._store.now()
        answers = await self._ticker.enqueue(schedule, [(at, key_of(name, at)) for at in times])
        made = skipped = 0
        for one in answers:
            if isinstance(one, DtqError) and not isinstance(one, IdempotencyConflict | DuplicateJob):
                raise one
            if isinstance(one, DuplicateJob) or (isinstance(one, Job) and one.was_duplicate):
                skipped += 1
            elif isinstance(one, Job) and one.created_at >= before:
                made += 1
        if made:
            await self._store.schedules.backfilled(name, made)
        return Backfilled(times=len(times), enqueued=made, found=len(times) - made - skipped, skipped=skipped)

    async def _change(self, name: str, changed: Callable[[Schedule, datetime], Schedule]) -> Schedule:
        while True:
            known = await self.get(name)
            if await self._store.schedules.change(known, changed(known, await self.now())):
                await self._changed()
                return await self.get(name)

    async def _is_due(self, known: Schedule, now: datetime) -> bool:
        """What is due is dealt with by the present definition; then the record is read again."""
        if not is_due(known, now) or not (known.pending or _has_times(known)):
            return False
        await self._ticker.fire(known, now)
        return True

    async def _changed(self) -> None:
        with suppress(StoreUnavailable):  # the leader looks once a round
            await self._broker.note_schedules()


def _has_times(known: Schedule) -> bool:
    """Whether what is due of it can be dealt with: one whose zone is not known here waits for another definition."""
    try:
        timing_of(known, known.anchor_at)
    except InvalidSchedule:
        return False
    return True
