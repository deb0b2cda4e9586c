"""Look-ups that come while one is under way share the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final

from dtqkit.model.jobs import Job

#: Jobs in one find.
MAX_GROUP: Final = 200


class Lookups:
    """One find at a time, for all callers. A result is never older than the question."""

    def __init__(self, find: Callable[[Sequence[str]], Awaitable[Sequence[Job]]]) -> None:
        self._find = find
        self._waiting: dict[str, asyncio.Future[Job | None]] = {}
        self._running: asyncio.Task[None] | None = None

    async def get(self, job_id: str) -> Job | None:
        """The job; None when there is none."""
        found = self._waiting.get(job_id)
        if found is None:
            found = self._waiting[job_id] = asyncio.get_running_loop().create_future()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="look jobs up")
        return await asyncio.shield(found)

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        try:
            while self._waiting:
                group = {i: self._waiting.pop(i) for i in list(islice(self._waiting, MAX_GROUP))}
                try:
                    jobs = {job.id: job for job in await self._find(list(group))}
                except Exception as error:
                    for future in group.values():
                        future.set_exception(error)
                        future.exception()  # the caller may be gone
                    continue
                for job_id, future in group.items():
                    future.set_result(jobs.get(job_id))
        finally:
            self._running = None
