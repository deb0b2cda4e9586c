"""LocalQueue: a queue on real stores, for one test."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Self

from typing_extensions import override

from dtqkit.client.queue import TaskQueue
from dtqkit.model.settings import Settings
from dtqkit.tasks.task import Task
from dtqkit.testing.replace import stand_in


class LocalQueue(TaskQueue):
    """A TaskQueue in a namespace of its own, with a worker in this process: the fixture `dtq_local`.

    The worker starts with the first submit. Time is real: retries and delays last as long as they do in production.
    """

    def __init__(self, redis_url: str, atlas_uri: str) -> None:
        super().__init__(
            Settings(
                redis_url=redis_url,
                atlas_uri=atlas_uri,
                namespace=f"test{secrets.token_hex(6)}",
                heartbeat_s=0.5,
                lease_s=30.0,
                grace_s=2.0,
                children=1,
                log_jobs=False,
            )
        )
        self._replaced = ExitStack()

    def replace(self, queue: TaskQueue) -> Self:
        """Stand in for `queue` until this one is closed: what goes there comes here. Returns itself."""
        self._replaced.enter_context(stand_in(queue, self))
        hooks = self.hooks
        if hooks.around_submit or hooks.around_run or hooks.lifespan:
            self.registry.confine()
        return self

    @override
    def require_workers_for(self, tasks: Iterable[Task[..., Any, Any]]) -> None:
        for task in tasks:
            self.registry.add(task)
        if not self._works_here:
            self._work_here(1)

    @override
    def close(self) -> None:
        """Stop the worker, delete what is stored, and stand in for no queue any more."""
        if self._closed:
            return
        self._replaced.close()
        try:
            super().close()
        finally:
            self._drop()

    def _drop(self) -> None:
        from pymongo import MongoClient
        from redis import Redis

        with MongoClient[dict[str, Any]](self.settings.atlas_uri) as client:
            client.drop_database(self.settings.database_name)
        with Redis.from_url(self.settings.redis_url) as redis:  # pyright: ignore[reportUnknownMemberType]
            for key in redis.scan_iter(f"{self.settings.namespace}:*", count=1000):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                redis.delete(key)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
