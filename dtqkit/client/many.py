"""Cancel, requeue, change and delete all jobs that a filter matches: what both kinds of queue do, each in its way.

A queue does some seconds of a bulk with each request, so that somebody can watch it and stop it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar, Unpack

import msgspec

from dtqkit.control import Control
from dtqkit.control.bulk import (
    CANCEL_MANY,
    DELETE_MANY,
    REQUEUE_MANY,
    UPDATE_MANY,
    Bulk,
    BulkCall,
    BulkRequest,
    Changes,
    bulk_request,
    bulk_update,
)
from dtqkit.control.table import Operation

T = TypeVar("T")
B = TypeVar("B", bound=BulkRequest)
Progress: TypeAlias = Callable[[Bulk], object]


class BulkAsyncQueue:
    """For an AsyncTaskQueue. See TaskQueue for what the methods do."""

    control: Control

    async def cancel_many(self, **given: Unpack[BulkCall]) -> Bulk:
        """Cancel all jobs that match and wait, and ask those that run to stop."""
        return await self._bulk(CANCEL_MANY, bulk_request(given), given.get("progress"))

    async def requeue_many(self, **given: Unpack[BulkCall]) -> Bulk:
        """Requeue all failed jobs that match."""
        return await self._bulk(REQUEUE_MANY, bulk_request(given), given.get("progress"))

    async def update_many(self, changes: Changes, /, **given: Unpack[BulkCall]) -> Bulk:
        """Change all waiting jobs that match."""
        return await self._bulk(UPDATE_MANY, bulk_update(changes, given), given.get("progress"))

    async def delete_many(self, **given: Unpack[BulkCall]) -> Bulk:
        """Delete all jobs that match and are over."""
        return await self._bulk(DELETE_MANY, bulk_request(given), given.get("progress"))

    async def _bulk(self, operation: Operation[B, Bulk], request: B, progress: Progress | None) -> Bulk:
        done = Bulk()
        while True:
            done = done.plus(await self.control.ask(operation, request))
            if progress is not None:
                progress(done)
            if done.cursor is None:
                return done
            request = msgspec.structs.replace(request, cursor=done.cursor)


class BulkQueue:
    """For a TaskQueue."""

    @property
    def core(self) -> BulkAsyncQueue:
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    def cancel_many(self, **given: Unpack[BulkCall]) -> Bulk:
        """Cancel all jobs that match and wait, and ask those that run to stop.

            queue.cancel_many(task="render", status="pending", dry_run=True).matched     # only counts
            queue.cancel_many(task="render", status="pending").changed

        Filters are those of `jobs`: status, task, priority, worker, since, q, ids. Without one, `all=True` is needed,
        else MatchesEverything is raised. Jobs that are submitted meanwhile are not touched. `progress` is called with
        what was done so far, after each piece of some seconds. If this is interrupted, the same call again does the
        rest: from the start, or from the `cursor` of the last piece.
        """
        return self._bulk(CANCEL_MANY, bulk_request(given), given.get("progress"))

    def requeue_many(self, **given: Unpack[BulkCall]) -> Bulk:
        """Requeue all failed jobs that match; see `cancel_many` for the rest."""
        return self._bulk(REQUEUE_MANY, bulk_request(given), given.get("progress"))

    def update_many(self, changes: Changes, /, **given: Unpack[BulkCall]) -> Bulk:
        """Change all waiting jobs that match: `queue.update_many({"priority": "low"}, task="render")`.

        `changes` may have priority, delay_s and tags. See `cancel_many` for the rest.
        """
        return self._bulk(UPDATE_MANY, bulk_update(changes, given), given.get("progress"))

    def delete_many(self, **given: Unpack[BulkCall]) -> Bulk:
        """Delete all jobs that match and are over; see `cancel_many` for the rest."""
        return self._bulk(DELETE_MANY, bulk_request(given), given.get("progress"))

    def _bulk(self, operation: Operation[B, Bulk], request: B, progress: Progress | None) -> Bulk:
        """The same from here, and not from the queue's own loop: `progress` may raise, and ask the queue."""
        done = Bulk()
        while True:
            done = done.plus(self.run(self.core.control.ask(operation, request)))
            if progress is not None:
                progress(done)
            if done.cursor is None:
                return done
            request = msgspec.structs.replace(request, cursor=done.cursor)
