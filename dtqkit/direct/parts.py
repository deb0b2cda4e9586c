"""The two stores of a queue, and what is kept between two questions."""

from __future__ import annotations

import asyncio
from typing import Final

from dtqkit.broker import Broker
from dtqkit.broker.background import LiveProgress
from dtqkit.control import Answers, JobsRequest, Stats, Totals
from dtqkit.control.operations import RECORDS
from dtqkit.direct.follow import EventSubscription
from dtqkit.direct.health import HealthCheck
from dtqkit.direct.lookup import Lookups
from dtqkit.direct.opening import Opening
from dtqkit.direct.shared import Shared
from dtqkit.model.errors import NamespaceTaken, QueueClosed, StoreUnavailable, WrongLoop
from dtqkit.model.jobs import Job, is_job_id
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.store.fields import jobs_of
from dtqkit.store.ids import object_id
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.transitions.enqueue import Enqueuer
from dtqkit.transitions.scheduling import Scheduling
from dtqkit.transitions.tick import Ticker

#: Between two tries to open the stores, in seconds.
OPEN_PAUSE_S: Final = 1.0


class Parts:
    """Passed to the functions that answer. Connects at the first use, on the loop that uses it first."""

    def __init__(
        self, settings: Settings, registry: TaskRegistry, store: Store | None = None, broker: Broker | None = None
    ) -> None:
        self.settings = settings
        self.registry = registry
        self.store = Store(settings) if store is None else store
        self.broker = Broker(settings) if broker is None else broker
        self.stores = Opening(self.store, self.broker)
        self.enqueuer = Enqueuer(settings, self.broker, self.store, registry)
        ticker = Ticker(settings, self.broker, self.store, self.enqueuer)
        self.scheduling = Scheduling(self.broker, self.store, ticker)
        self.lives = LiveProgress(self.broker.live_progress)
        self.follower = EventSubscription(self.broker)
        self.lookups = Lookups(lambda ids: self.records(JobsRequest(ids=ids)))
        self.stats: Shared[Stats] = Shared(good_for=4.0)
        self.totals: Shared[Totals] = Shared()
        self.health = HealthCheck(settings, self.broker, self.store, self.open)
        self._opening: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The loop, once the stores are open.
        self._open_on: asyncio.AbstractEventLoop | None = None

    async def until_open(self) -> None:
        """Wait for MongoDB. Raises NamespaceTaken: waiting does not change that."""
        while True:
            try:
                await self.open()
            except StoreUnavailable as error:
                if isinstance(error, NamespaceTaken):
                    raise
                await asyncio.sleep(OPEN_PAUSE_S)
            else:
                return

    @property
    def ready(self) -> bool:
        """Whether both stores are open and Redis lists the jobs of our record, by its last answer."""
        return self._open_on is asyncio.get_running_loop() and self.broker.owned

    async def open(self) -> None:
        """Connect once; a failure is raised to all who waited; the next caller tries again."""
        loop = asyncio.get_running_loop()
        if self._open_on is loop:
            return
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongLoop("this queue lives on the event loop that used it first; make another one for this loop")
        opening = self._opening
        # Callers that waited for a failed try may be gone: its error is an old one.
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
            opening = self._opening = asyncio.ensure_future(self.stores.open())
            opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if opening.cancelled() and not (waiter and waiter.cancelling()):
                raise QueueClosed("this queue is closed") from None
            raise
        self._open_on = loop

    async def close(self) -> None:
        self.health.leave()
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self.enqueuer.close()
        await self.lookups.close()
        await self.lives.close()
        await self.follower.close()
        await self.stores.close()
        await self.broker.close()
        await self.store.close()
        await self.health.close()

    async def records(self, asked: JobsRequest) -> tuple[Job, ...]:
        """The jobs that exist, in no particular order; without `payload`, their payloads may be empty."""
        await self.open()
        ids = [object_id(i) for i in asked.ids if is_job_id(i)]
        return tuple(jobs_of(await self.store.jobs.find(ids, payload=asked.payload)))


#: The functions that answer, by operation: in `accept`, `look` and `change`.
answers: Final = Answers[Parts]()
answers.to(RECORDS)(Parts.records)
