"""The record in MongoDB: its collections, for one event loop."""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime
from typing import Any, Final, cast

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.settings import Settings
from dtqkit.store.catalogue import Catalogue
from dtqkit.store.client import MongoLink, connect, database, refused, store_errors
from dtqkit.store.clock import Clock, Step
from dtqkit.store.deadletter import DeadLetters
from dtqkit.store.followups import FollowUps
from dtqkit.store.identity import identity_of
from dtqkit.store.inserts import Inserts
from dtqkit.store.jobs import Jobs
from dtqkit.store.keeper import IndexKeeper
from dtqkit.store.many import ManyJobs
from dtqkit.store.minutes import Minutes
from dtqkit.store.pauses import PauseBook
from dtqkit.store.recount import Recount
from dtqkit.store.recovery_scan import RecoveryScans
from dtqkit.store.refusals import of_hello
from dtqkit.store.schedules import Schedules
from dtqkit.store.steps import ClockSteps
from dtqkit.store.unique import UniqueJobs
from dtqkit.store.upkeep import Upkeep

log = logging.getLogger("dtqkit.store")

#: How long connecting may take, in seconds; and how long when the server answers slowly.
OPEN_S: Final = 3.0
FAR_S: Final = 10.0
#: Timeout of a ping, in seconds.
PING_S: Final = 1.5

#: Maximum age in seconds of the clock comparison that a delayed submit uses.
RECENT_S: Final = 2.0


class _Heartbeats(ServerHeartbeatListener):
    """Sets the clock and measures the round trip from the heartbeats that the driver sends every ten seconds anyway.

    Notes on the link the outcome of the last one.
    """

    def __init__(self, clock: Clock, link: MongoLink) -> None:
        self._clock = clock
        self._link = link

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        pass

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        self._link.heartbeat = event.reply.document
        theirs = event.reply.document.get("localTime")
        if event.reply.is_writable and not event.awaited and isinstance(theirs, datetime):
            now = self._clock.read()
            self._clock.set(theirs.replace(tzinfo=UTC), (now - event.duration, now))
            self._link.measured(event.duration)

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        self._link.heartbeat = str(event.reply)


class Store:
    """MongoDB as the queue uses it."""

    def __init__(
        self, settings: Settings, *, client: AsyncMongoClient[dict[str, Any]] | None = None, clock: Clock | None = None
    ) -> None:
        """`client` and `clock` replace the connection to ATLAS_URI and this machine's steady clock, as in a test."""
        self._where = MongoLink(settings.atlas_uri)
        self._clock = Clock() if clock is None else clock
        self._compared = float("-inf")
        self._client = client or connect(self._where, _Heartbeats(self._clock, self._where))
        self._database = database(self._client, settings.database_name)
        self.indexes: Final = IndexKeeper(self._database)
        self.inserts: Final = Inserts(self._database["jobs"], self._where, self.indexes)
        self.unique: Final = UniqueJobs(self._database, self._where, self.indexes)
        self.jobs: Final = Jobs(self._database["jobs"], self._where, self.indexes)
        self.followups: Final = FollowUps(self._database["jobs"], self._where, self.indexes)
        self.scans: Final = RecoveryScans(self._database["jobs"], self._where, self.indexes, settings.round_s)
        self.dead: Final = DeadLetters(self._database["deadletter"], self._where)
        self.steps: Final = ClockSteps(self._database, self._where)
        self.upkeep: Final = Upkeep(self._database, self._where)
        minutes, jobs = self._database["minutes"], self._database["jobs"]
        self.minutes: Final = Minutes(minutes, jobs, self._where)
        self.recount: Final = Recount(self.minutes, minutes, jobs, self._where)
        self.many: Final = ManyJobs(self._database["jobs"], self._where)
        self.pauses: Final = PauseBook(self._database, self._where)
        self.catalogue: Final = Catalogue(self._database["tasks"], self._where)
        self.schedules: Final = Schedules(self._database, self._where)

    async def open(self) -> None:
        """Connect, compare clocks, and create missing indexes: in the background when there are many jobs."""
        await self._reach()
        with store_errors(self._where, writes=True), pymongo.timeout(self._where.within(OPEN_S)):
            await self.indexes.open()

    async def _reach(self) -> None:
        """Connect, and check that the server can be used. Raises StoreUnavailable.

        A server that has not answered yet gets more time: TLS and authentication need several round trips.
        """
        try:
            hello = await self._hello(OPEN_S)
        except StoreUnavailable as error:
            if error.reason != "away" or not self._where.connecting:
                raise
            hello = await self._hello(FAR_S)
        if (verdict := of_hello(hello)) is not None:
            raise refused(self._where, verdict, writes=False)

    async def _hello(self, patience_s: float) -> dict[str, Any]:
        with store_errors(self._where), pymongo.timeout(self._where.within(patience_s)):
            return await self._compare_clocks()

    async def identity(self) -> str:
        """The id of the record; created by the first call."""
        with store_errors(self._where), pymongo.timeout(OPEN_S):
            return await identity_of(self._database["configuration"])

    async def compare_clocks(self) -> None:
        """Set the clock now. Afterwards `step` is up to date."""
        with store_errors(self._where), pymongo.timeout(self._where.within(PING_S)):
            await self._compare_clocks()

    async def clock_of_now(self) -> None:
        """Compare clocks unless that was just done, before a time by MongoDB's clock is computed."""
        if self._clock.read() - self._compared > RECENT_S:
            await self.compare_clocks()

    async def _compare_clocks(self) -> dict[str, Any]:
        before = self._clock.read()
        hello: dict[str, Any] = await self._client.admin.command("hello")
        theirs = cast(datetime, hello["localTime"]).replace(tzinfo=UTC)
        self._compared = self._clock.read()
        self._clock.set(theirs, (before, self._compared))
        return hello

    @property
    def step(self) -> Step | None:
        """The last step of MongoDB's clock that this process noticed."""
        return self._clock.step

    def since(self, step: Step) -> float:
        """Seconds since a step was noticed."""
        return self._clock.read() - step.noticed

    async def ping(self) -> None:
        """Check that it answers and, if the last write was refused, that it takes writes again."""
        if self._where.refused is not None:
            await self.probe()
            return
        # Use the driver's own timeout: a cancellation from outside can leave a lock of the driver held forever.
        with pymongo.timeout(self._where.within(PING_S)), store_errors(self._where):
            await self._client.admin.command("ping")

    async def probe(self) -> None:
        """Check that it takes inserts, by inserting a minimal document.

        The document is deleted first: MongoDB would answer "duplicate key" before it checks whether inserts are
        blocked. If it exists again, another process inserted it in between.
        """
        configuration = self._database["configuration"]
        within_s = self._where.within(PING_S)
        with pymongo.timeout(within_s), store_errors(self._where, writes=True):
            await configuration.delete_one({"_id": "probe"})
        with (
            pymongo.timeout(within_s),
            store_errors(self._where, writes="insert"),
            contextlib.suppress(DuplicateKeyError),
        ):
            await configuration.insert_one({"_id": "probe"})
            self._where.note_insert()

    @property
    def inserted_at(self) -> float:
        """When MongoDB has last stored a new document for this process, by the monotonic clock; -inf: not yet."""
        return self._where.inserted_at

    def now(self) -> datetime:
        """MongoDB's time, as estimated on this machine."""
        return self._clock.now()

    async def close(self) -> None:
        await self.indexes.close()
        await self._client.close()
