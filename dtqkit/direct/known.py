"""The catalogue as it was last read: which tasks there are, and whether a payload fits, without their code."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dtqkit.errors import InvalidPayload, StoreUnavailable, UnknownTask
from dtqkit.schema import PayloadValidator
from dtqkit.store import Store
from dtqkit.tasks import TaskInfo, TaskOptions
from dtqkit.values import Json

#: Seconds after which the catalogue is read again, and after which an entry that refuses something is.
FRESH_S: Final = 30.0
DOUBT_S: Final = 1.0


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

    async def check(self, name: str, payload: Mapping[str, Any]) -> tuple[dict[str, Json], TaskOptions]:
        """The checked payload, and the task's options. Raises UnknownTask, with near names, or InvalidPayload."""
        await self._ensure(FRESH_S)
        try:
            return self._check(name, payload)
        except (UnknownTask, InvalidPayload):
            # A worker may have published another version since.
            await self._ensure(DOUBT_S)
            return self._check(name, payload)

    def _check(self, name: str, payload: Mapping[str, Any]) -> tuple[dict[str, Json], TaskOptions]:
        entry = self._entries.get(name)
        if entry is None:
            raise UnknownTask(name, difflib.get_close_matches(name, self._entries, n=3))
        entry.validator.check(payload)
        return dict(payload), entry.defaults

    async def _ensure(self, age_s: float) -> None:
        """Have the catalogue as of `age_s` ago; an older one will do while MongoDB is away."""
        if asyncio.get_running_loop().time() - self._read_at <= age_s:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="read the catalogue")
        try:
            await asyncio.shield(self._reading)
        except StoreUnavailable:
            if not self._entries:
                raise

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
