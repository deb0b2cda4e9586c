"""A queue in memory: its record, its worker and its leader, on a virtual loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from bson import ObjectId
from pymongo import AsyncMongoClient

from dtqkit.control.operations import TASKS
from dtqkit.control.table import Operation, Req, Res
from dtqkit.direct.control import DirectControl
from dtqkit.direct.look import as_it_runs
from dtqkit.model.jobs import Job
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.store.clock import Clock
from dtqkit.store.documents import Document, to_job
from dtqkit.tasks.hooks import Hooks, Life
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.testing.broker import MemoryBroker
from dtqkit.testing.loop import Turns, VirtualClock
from dtqkit.testing.mongo.client import Client
from dtqkit.testing.mongo.collection import Collection
from dtqkit.testing.mongo.values import copied
from dtqkit.testing.runner import Runner


class Memory:
    """All parts of a TestQueue, made for each."""

    def __init__(self, settings: Settings, registry: TaskRegistry, hooks: Hooks, clock: VirtualClock) -> None:
        self.clock: Final = clock
        self.turns: Final = Turns(clock)
        client = Client(clock.now)
        driver = cast("AsyncMongoClient[Document]", client)
        self.store: Final = Store(settings, client=driver, clock=Clock(self.turns.loop.time))
        self.jobs: Final[Collection] = client[settings.database_name]["jobs"]
        self.broker: Final = MemoryBroker(self.jobs, clock.now)
        self.control: Final = MemoryControl(settings, registry, self.store, self.broker)
        self.runner: Final = Runner(
            settings, self.store, self.broker, self.jobs, registry, Life(hooks), clock, self.turns
        )

    def job(self, job_id: str) -> Job | None:
        """The job as it is now. From any thread."""
        doc = self.jobs.docs.get(ObjectId(job_id))
        return None if doc is None else self._as_it_is(doc)

    def _as_it_is(self, doc: Document) -> Job:
        job = to_job(copied(doc))
        live = self.broker.shown().get(job.id) if job.status == "running" else None
        return job if live is None else as_it_runs(job, live)

    def jobs_of(self, task: str | None) -> list[Job]:
        """The jobs of a task, or all, in the order of their submission."""
        docs = sorted(self.jobs.docs.values(), key=lambda doc: (doc["created_at"], doc["_id"]))
        return [self._as_it_is(doc) for doc in docs if task is None or doc["task"] == task]

    async def close(self) -> None:
        await self.runner.close()
        await self.control.close()


class MemoryControl(DirectControl):
    """A queue on stores in memory: everything is answered by the functions that answer on real ones."""

    def __init__(self, settings: Settings, registry: TaskRegistry, store: Store, broker: MemoryBroker) -> None:
        super().__init__(settings, registry, store, broker)
        self._registry = registry
        self._store = store
        self._published = -1

    def function_of(self, operation: Operation[Req, Res]) -> Callable[[Req], Coroutine[Any, Any, Res]]:
        answer = super().function_of(operation)
        if operation is not TASKS or self._published == self._registry.version:
            return answer

        async def publish_first(request: Req) -> Res:
            """As a worker does when it starts."""
            self._published = self._registry.version
            await self._store.catalogue.publish(task.info for task in self._registry)
            return await answer(request)

        return publish_first
