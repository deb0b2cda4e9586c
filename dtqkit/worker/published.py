"""The tasks that a worker has published: servers check submits by them, without the tasks' code."""

from __future__ import annotations

import asyncio
from typing import Final

from dtqkit.model.errors import StoreUnavailable
from dtqkit.store import Store
from dtqkit.tasks.registry import TaskRegistry

#: Pauses in seconds between tries while MongoDB takes nothing: doubled up to the longest.
MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0


class PublishedTasks:
    """Of one worker."""

    def __init__(self, store: Store, registry: TaskRegistry) -> None:
        self._store = store
        self._registry = registry
        self._version = registry.version
        self._added = asyncio.Event()

    def look(self) -> None:
        """Publish again if tasks were added, as by the cell of a notebook."""
        if self._registry.version != self._version:
            self._added.set()

    async def keep(self) -> None:
        """Publish now, and when `look` finds more; each is tried until MongoDB takes it."""
        while True:
            self._added.clear()
            await self._publish()
            await self._added.wait()

    async def _publish(self) -> None:
        pause_s = MIN_PAUSE_S
        while True:
            self._version = self._registry.version
            try:
                await self._store.catalogue.publish(task.info for task in self._registry)
            except StoreUnavailable:
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_PAUSE_S, pause_s * 2)
            else:
                return
