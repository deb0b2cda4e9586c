"""The catalogue as last read: known tasks, and checks of payloads without the code of the tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dtqkit.model.errors import InvalidPayload, UnknownTask
from dtqkit.model.values import Json
from dtqkit.store import Store
from dtqkit.support.nearest import nearest
from dtqkit.tasks.options import TaskOptions
from dtqkit.tasks.schema import PayloadValidator
from dtqkit.tasks.task import TaskInfo

#: Seconds after which the catalogue is read again, and the minimum time between two reads because of refusals.
FRESH_S: Final = 30.0
DOUBT_S: Final = 0.2
#: Maximum number of unknown names for which similar ones are searched, and in how many seconds.
HINTS: Final = 5
HINTS_S: Final = 0.1
#: Characters of a name that an error shows: names of tasks are not longer.
MAX_NAME: Final = 200


class _Entry(msgspec.Struct, frozen=True):
    validator: PayloadValidator
    defaults: TaskOptions
    schema_hash: str


class KnownTasks:
    """Reads the catalogue at the first use, when it is old, and before it refuses a submission."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, _Entry] = {}
        #: When the read that returned the entries began, and when the last read began.
        self._read_at = self._tried_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        #: Why the last read failed.
        self._failed: Exception | None = None
        self._hinted_at = float("-inf")
        self._hints = 0

    async def check(
        self, name: str, payload: Mapping[str, Any], asked_at: float | None = None
    ) -> tuple[dict[str, Json], TaskOptions]:
        """The checked payload, and the task's options. Raises UnknownTask, with similar names, or InvalidPayload.

        Refuses only by a catalogue that was read after `asked_at` (by the loop's clock; default: now), so that tasks
        that a worker has published before are known. Raises StoreUnavailable when that read fails.
        """
        now = asyncio.get_running_loop().time()
        asked_at = now if asked_at is None else asked_at
        if now - self._read_at > FRESH_S:
            reading = self._read_again()
            if not self._entries:
                await asyncio.shield(reading)
        try:
            return self._check(name, payload)
        except (UnknownTask, InvalidPayload):
            await self._read_since(asked_at)
            return self._check(name, payload)

    async def defaults(self, name: str) -> TaskOptions:
        """The task's options, as its workers have published them. Raises StoreUnavailable."""
        if asyncio.get_running_loop().time() - self._read_at > FRESH_S:
            await asyncio.shield(self._read_again())
        entry = self._entries.get(name)
        return TaskOptions() if entry is None else entry.defaults

    def schema(self, name: str) -> Mapping[str, Any]:
        """The schema of a task that `check` has found."""
        return self._entries[name].validator.schema

    async def _read_since(self, asked_at: float) -> None:
        """Wait for a read that began after `asked_at`."""
        loop = asyncio.get_running_loop()
        while self._read_at < asked_at:
            if self._reading is not None:  # it may have begun too early: then read once more
                await asyncio.wait([self._reading])
            elif self._failed is not None and self._tried_at >= asked_at:
                raise self._failed
            elif (pause_s := self._tried_at + DOUBT_S - loop.time()) > 0:
                await asyncio.sleep(pause_s)  # calls that come meanwhile share the next read
            else:
                self._read_again()

    def _check(self, name: str, payload: Mapping[str, Any]) -> tuple[dict[str, Json], TaskOptions]:
        entry = self._entries.get(name)
        if entry is None:
            raise UnknownTask(name[:MAX_NAME], self._near(name))
        entry.validator.check(payload)
        return dict(payload), entry.defaults

    def _near(self, name: str) -> list[str]:
        """Similar names. Only for a few names at a time: a batch may have a thousand unknown ones."""
        now = asyncio.get_running_loop().time()
        if now - self._hinted_at > HINTS_S:
            self._hinted_at, self._hints = now, 0
        self._hints += 1
        return nearest(name, self._entries) if self._hints <= HINTS else []

    def _read_again(self) -> asyncio.Task[None]:
        """The read in progress, or a new one. If MongoDB is unreachable it fails, and the entries stay."""
        if self._reading is None:
            self._tried_at = asyncio.get_running_loop().time()
            self._reading = asyncio.create_task(self._read(self._tried_at), name="read the catalogue")
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._reading

    async def _read(self, began: float) -> None:
        try:
            self.take(await self._store.catalogue.all(), began)
            self._failed = None
        except Exception as error:
            self._failed = error
            raise
        finally:
            self._reading = None

    def take(self, tasks: list[TaskInfo], began: float) -> None:
        """Use this catalogue; its read began at that time of the loop's clock."""
        if began < self._read_at:
            return
        old, self._entries = self._entries, {}
        for task in tasks:
            known = old.get(task.name)
            if known is None or known.schema_hash != task.schema_hash:
                known = _Entry(PayloadValidator(task.name, task.schema), task.defaults, task.schema_hash)
            self._entries[task.name] = known
        self._read_at = began
