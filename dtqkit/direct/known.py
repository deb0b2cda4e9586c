"""The catalogue as it was last read: which tasks there are, and whether a payload fits, without their code."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dtqkit.errors import InvalidPayload, StoreUnavailable, UnknownTask
from dtqkit.nearest import nearest
from dtqkit.schema import PayloadValidator
from dtqkit.store import Store
from dtqkit.tasks import TaskInfo, TaskOptions
from dtqkit.values import Json

#: Seconds after which the catalogue is read again, and after which an entry that refuses something is.
FRESH_S: Final = 30.0
DOUBT_S: Final = 1.0
#: How many names in how many seconds are looked for among those that are known.
HINTS: Final = 5
HINTS_S: Final = 0.1
#: Characters of a name that an error shows: none that is longer can be a task's.
MAX_NAME: Final = 200


class _Entry(msgspec.Struct, frozen=True):
    validator: PayloadValidator
    defaults: TaskOptions
    schema_hash: str


class KnownTasks:
    """Reads the catalogue at the first use, when it is old, and when it would refuse something."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, _Entry] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._hinted_at = float("-inf")
        self._hints = 0

    async def check(self, name: str, payload: Mapping[str, Any]) -> tuple[dict[str, Json], TaskOptions]:
        """The checked payload, and the task's options. Raises UnknownTask, with near names, or InvalidPayload."""
        if self._older_than(FRESH_S):
            reading = self._read_again()
            if not self._entries:
                await asyncio.shield(reading)
        try:
            return self._check(name, payload)
        except (UnknownTask, InvalidPayload):
            # A worker may have published another version since.
            if self._older_than(DOUBT_S):
                with contextlib.suppress(StoreUnavailable):
                    await asyncio.shield(self._read_again())
            return self._check(name, payload)

    def _check(self, name: str, payload: Mapping[str, Any]) -> tuple[dict[str, Json], TaskOptions]:
        entry = self._entries.get(name)
        if entry is None:
            raise UnknownTask(name[:MAX_NAME], self._near(name))
        entry.validator.check(payload)
        return dict(payload), entry.defaults

    def _near(self, name: str) -> list[str]:
        """Names like it. For a few names at a time: a batch may have a thousand that are not known."""
        now = asyncio.get_running_loop().time()
        if now - self._hinted_at > HINTS_S:
            self._hinted_at, self._hints = now, 0
        self._hints += 1
        return nearest(name, self._entries) if self._hints <= HINTS else []

    def _older_than(self, age_s: float) -> bool:
        return asyncio.get_running_loop().time() - self._read_at > age_s

    def _read_again(self) -> asyncio.Task[None]:
        """The reading that is under way, or a new one. While MongoDB is away it fails, and what is known stays."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="read the catalogue")
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._reading

    async def _read(self) -> None:
        try:
            self.take(await self._store.catalogue.all())
        finally:
            self._reading = None

    def take(self, tasks: list[TaskInfo]) -> None:
        """The catalogue as it is now."""
        old, self._entries = self._entries, {}
        for task in tasks:
            known = old.get(task.name)
            if known is None or known.schema_hash != task.schema_hash:
                known = _Entry(PayloadValidator(task.name, task.schema), task.defaults, task.schema_hash)
            self._entries[task.name] = known
        self._read_at = asyncio.get_running_loop().time()
