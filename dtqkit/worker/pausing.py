"""What a worker knows of the pauses, and when it reads them again.

The record has them. Each heartbeat brings the version that workers should know, from Redis, which may hold anything: it
only says when to read the record. The leader compares both once a round. Besides, the record is read every READ_BEATS
beats, and after a gap.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.jobs import Priority
from dtqkit.model.pauses import Pause, PauseGate, Pauses
from dtqkit.model.policy import POLICIES, Policies
from dtqkit.store import Store
from dtqkit.store.packing import is_packed
from dtqkit.store.pauses import not_held

log = logging.getLogger("dtqkit.worker")

#: Beats between two looks at the record that nothing has asked for.
READ_BEATS: Final = 900


class KnownPauses:
    """Of one worker. While nothing is paused, none of its answers costs anything."""

    def __init__(
        self, store: Store, lanes: Sequence[Priority], apply: Callable[[Policies], None] = lambda _: None
    ) -> None:
        """`apply` gets the policies to be asked before a run whenever pauses begin or end."""
        self._store = store
        self._all_lanes = tuple(lanes)
        self._apply = apply
        #: As read; and those of them that are in force.
        self._read = Pauses()
        self.now = Pauses()
        #: The lanes to take jobs from.
        self.lanes: tuple[Priority, ...] = self._all_lanes
        self._reading = False
        #: The version in Redis which the record did not have.
        self._wrong = ""
        self._beats = 0
        self._next_end: datetime | None = None

    @property
    def version(self) -> int:
        return self._read.version

    def versions(self) -> tuple[str, str]:
        """For the next heartbeat, whose thread asks: the version that is known here, and a wrong one to replace."""
        return str(self._read.version or ""), self._wrong

    async def load(self) -> None:
        """Read the record, before the first job is taken. Raises StoreUnavailable."""
        await self._look("")

    def due(self, hint: str, *, gap: bool) -> bool:
        """After a heartbeat: whether the record is to be read."""
        self._beats += 1
        if self._reading:
            return False
        return gap or hint not in (self.versions()[0], self._wrong) or self._beats >= READ_BEATS

    async def read_again(self) -> bool:
        """Since something could not be parked: whether the pauses have changed. Raises StoreUnavailable."""
        before = self._read.version
        await self._look(self._wrong)
        return self._read.version != before

    async def read(self, hint: str) -> bool:
        """Read the record, since Redis has this version; whether anything has changed."""
        self._reading = True
        try:
            return await self._look(hint)
        except StoreUnavailable as error:
            log.info("the pauses cannot be read now: %s", error)
            return False
        except Exception:  # no error here may end a worker: those known so far stay in force
            log.exception("the pauses cannot be read now")
            return False
        finally:
            self._reading = False

    async def _look(self, hint: str) -> bool:
        found = await self._store.pauses.read()
        self._beats = 0
        # A change of the pauses is first written to the record: a version that is not there now is wrong.
        self._wrong = hint if hint != str(found.version or "") else ""
        if found == self._read:
            return False
        self._read = found
        return self._use(found.at(self._store.now()))

    def ends_in_s(self) -> float:
        """Seconds until the first pause ends by itself; infinity when none does."""
        if self._next_end is None:
            return float("inf")
        return max(0.0, (self._next_end - self._store.now()).total_seconds())

    def refresh(self) -> bool:
        """Let pauses end whose time has come; whether one has."""
        if self._next_end is None or (now := self._store.now()) < self._next_end:
            return False
        return self._use(self._read.at(now))

    def _use(self, pauses: Pauses) -> bool:
        before, self.now = self.now, pauses
        self._next_end = pauses.next_end
        shut = pauses.lanes
        self.lanes = tuple(lane for lane in self._all_lanes if lane not in shut)
        self._store.jobs.not_held = not_held(pauses)
        self._apply(POLICIES.after_gate(PauseGate(pauses, is_packed)) if pauses else POLICIES)
        for pause in _without(pauses, before):
            log.warning("%s", pause.sentence())
        for pause in _without(before, pauses):
            log.warning("%s is not paused any more", pause)
        return before.pauses != pauses.pauses


def _without(some: Pauses, others: Pauses) -> list[Pause]:
    ids = {pause.id for pause in others.pauses}
    return [pause for pause in some.pauses if pause.id not in ids]
