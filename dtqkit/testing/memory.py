"""A queue in memory: its record, its worker and its leader, on a virtual loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, cast

from bson import ObjectId
from pymongo import AsyncMongoClient
from typing_extensions import override

from dtqkit.direct.control import DirectControl
from dtqkit.direct.look import as_it_runs
from dtqkit.model.jobs import Job
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.store.catalogue import Catalogue
from dtqkit.store.clock import Clock
from dtqkit.store.documents import Document, to_job
from dtqkit.tasks.hooks import Hooks, ProcessLifespan
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import TaskInfo
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
        self.store: Final = MemoryStore(settings, registry, client, self.turns.loop.time)
        database = client[settings.database_name]
        self.jobs: Final[Collection] = database["jobs"]
        self.broker: Final = MemoryBroker(self.jobs, clock.now)
        self.control: Final = DirectControl(settings, registry, self.store, self.broker)
        self.runner: Final = Runner(
            settings, self.store, self.broker, database, registry, ProcessLifespan(hooks), clock, self.turns
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


class MemoryStore(Store):
    """The record in memory, with the tasks of a registry as its catalogue: as if its worker had just published them."""

    def __init__(self, settings: Settings, registry: TaskRegistry, client: Client, steady: Callable[[], float]) -> None:
        super().__init__(settings, client=cast("AsyncMongoClient[Document]", client), clock=Clock(steady))
        catalogue = RegistryCatalogue(registry)
        self.catalogue = catalogue  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]


class RegistryCatalogue(Catalogue):
    """Knows the tasks at once, and makes their entries only when they are read."""

    def __init__(self, registry: TaskRegistry) -> None:
        self._registry = registry

    @override
    async def publish(self, tasks: Iterable[TaskInfo]) -> None:
        pass

    @override
    async def all(self) -> list[TaskInfo]:
        return [task.info for task in sorted(self._registry, key=lambda task: task.name)]

    @override
    async def named(self, names: Iterable[str]) -> dict[str, TaskInfo]:
        return {name: task.info for name in names if (task := self._registry.find(name)) is not None}
