"""What workers and the leader do, for a TestQueue: start what is due, record how it ended, mark jobs lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from bson import ObjectId

from dtqkit.model.errors import JobConflict
from dtqkit.model.events import ProgressEvent
from dtqkit.model.jobs import PRIORITIES, WAITING, Job
from dtqkit.model.lifecycle import decide, patience_s
from dtqkit.model.outcomes import Declined, Outcome, Released
from dtqkit.model.pauses import Pauses
from dtqkit.model.settings import Settings
from dtqkit.recovery.deadletters import DeadLetterRounds
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job
from dtqkit.store.ids import object_id
from dtqkit.store.settlements import Settlement
from dtqkit.tasks.hooks import Life
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.testing.broker import WORKER, MemoryBroker
from dtqkit.testing.execute import VirtualAttempt, VirtualExecutor
from dtqkit.testing.loop import Turns, VirtualClock
from dtqkit.testing.mongo.client import Database
from dtqkit.transitions.enqueue import Enqueuer
from dtqkit.transitions.lose import LostJobs
from dtqkit.transitions.settle import publish, record
from dtqkit.transitions.tick import Ticker
from dtqkit.worker.attempt import RunningAttempt

log: logging.Logger = logging.getLogger("dtqkit.jobs")

#: How many workers a job may have lost to be started here: as many as there are.
_ANY_LOSSES: Final = 1_000_000


class Round(NamedTuple):
    """What a leader does now and then: when it is due next (None: never), and the round."""

    due_at: Callable[[], datetime | None]
    run: Callable[[], Awaitable[None]]


class NothingLeft(Exception):
    """Nothing runs, nothing is due, and nothing ever will be."""


class Runner:
    """On the virtual loop: one worker, with a slot for each job, and a leader."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        broker: MemoryBroker,
        database: Database,
        registry: TaskRegistry,
        life: Life,
        clock: VirtualClock,
        turns: Turns,
    ) -> None:
        self._settings = settings
        self._store = store
        self._broker = broker
        self._jobs = database["jobs"]
        self._registry = registry
        self._clock = clock
        self._turns = turns
        self._life = life
        self._lives = False
        self._entering = asyncio.Lock()
        self._rng = random.Random()
        self._executor = VirtualExecutor(settings, registry, clock.now, life)
        self._lost = LostJobs(broker, store, self._rng)
        self._dead_letters = DeadLetterRounds(settings, broker, store)
        self._recovered_at = datetime.min.replace(tzinfo=UTC)
        self._schedules = database["schedules"]
        self._ticker = Ticker(settings, broker, store, Enqueuer(settings, broker, store, registry))
        self._rounds = (Round(self._recovery_at, self._recover), Round(self._schedules_at, self._run_schedules))
        self._attempts: dict[str, RunningAttempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: Ids of due jobs, in the order in which they start; and whether the record has changed since.
        self._due: deque[Any] = deque()
        self._stale = True
        self._pauses: Pauses = Pauses()
        #: Jobs that this worker could not begin, and until when it leaves them alone.
        self._avoided: dict[Any, float] = {}
        #: Jobs whose worker is to be lost in their next attempt.
        self._to_lose: set[str] = set()
        self._waiters: set[asyncio.Future[None]] = set()
        self._broken: BaseException | None = None
        #: Those documents of the record that something may follow for, by id.
        self._waiting: dict[Any, Document] = {}
        self._failed: dict[Any, Document] = {}
        self._jobs.changed = self._on_change
        self._schedules.changed = lambda _, __: self._wake()
        broker.stop = self._stop
        broker.shown = self._shown
        broker.tasks = lambda: (task.name for task in registry)

    # -- what a queue asks for

    async def until(self, done: Callable[[], bool]) -> None:
        """Run until `done`; time passes as far as it must. Raises NothingLeft when that would not help."""
        await self._run(done, self._next_at)

    async def until_idle(self) -> None:
        """Run what is due now. Time passes only while running jobs wait for it."""
        await self._run(lambda: not (self._attempts or self._next_due() or self._due_round()), self._next_at_of_running)

    async def until_time(self, end_s: float) -> None:
        """Run what becomes due until then, each at its time."""
        await self._run(
            lambda: self._clock.elapsed_s >= end_s and not (self._next_due() or self._due_round()),
            lambda: end_s if (at := self._next_at()) is None else min(at, end_s),
        )

    async def lose_worker(self, job: Job) -> None:
        """Run one attempt of a job, whose worker is lost before it records the end."""
        document = self._jobs.docs.get(object_id(job.id))
        if document is None or not self._is_due(document):
            raise JobConflict(
                f"job {job.id} is {job.status}: only a job that is due can be started by a worker, and lose it; "
                "advance the clock first"
            )
        self._to_lose.add(job.id)
        self._due.appendleft(document["_id"])
        await self._run(lambda: job.id not in self._to_lose, self._next_at_of_running)

    async def close(self) -> None:
        """Give back what runs, and leave the lifespan."""
        for attempt in list(self._attempts.values()):
            attempt.stop("release")
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._lives:
            self._lives = False
            await self._life.end()

    # -- running

    async def _run(self, done: Callable[[], bool], next_at: Callable[[], float | None]) -> None:
        while not await self._is(done):
            if self._broken is not None:
                error, self._broken = self._broken, None
                raise error
            if (job := self._next_due()) is not None:
                await self._start(job)
                continue
            if (due := self._due_round()) is not None:
                await due.run()
                continue
            await self._wait(next_at())

    async def _wait(self, until_s: float | None) -> None:
        """Until the record changes, an attempt ends, or that time comes."""
        loop = self._turns.loop
        change: asyncio.Future[None] = loop.create_future()
        self._waiters.add(change)
        timer = None if until_s is None else loop.call_at(until_s, _resolve, change)
        try:
            if await self._turns.until_stuck(change):
                raise NothingLeft
        finally:
            self._waiters.discard(change)
            change.cancel()
            if timer is not None:
                timer.cancel()

    def _on_change(self, old: Document | None, new: Document | None) -> None:
        """The record has changed."""
        for documents, statuses in ((self._waiting, WAITING), (self._failed, ("failed",))):
            if new is not None and new["status"] in statuses:
                documents[new["_id"]] = new
                self._stale = self._stale or documents is self._waiting
            elif old is not None:
                documents.pop(old["_id"], None)
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            _resolve(waiter)
        self._waiters.clear()

    async def _start(self, job_id: ObjectId) -> None:
        """Claim a due job and start it; returns once it has ended, or waits for something."""
        async with self._entering:
            if not self._lives:
                await self._life.begin()
                self._lives = True
        claim = ObjectId()
        task_name = self._jobs.docs[job_id]["task"]
        claimed = await self._store.jobs.claim_one(
            job_id, claim, WORKER, self._settings.lease_s, tasks=[task_name], max_losses=_ANY_LOSSES
        )
        if claimed is None:
            return
        attempt = VirtualAttempt(to_job(claimed), self._clock)
        self._attempts[attempt.job.id] = attempt
        self._turns.jobs += 1
        task = self._turns.loop.create_task(self._work(attempt, claim), name=attempt.job.id)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        await self._turns.until_idle(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._broken = self._broken or task.exception()
        self._wake()

    async def _work(self, attempt: RunningAttempt, claim: ObjectId) -> None:
        job = attempt.job
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        attempt.attach(task)
        try:
            try:
                outcome = await self._executor.run(attempt)
            except asyncio.CancelledError:  # with the queue
                outcome = Released(None)
            await self._settle(attempt, claim, outcome or Released(None))
        finally:
            self._turns.jobs -= 1
            self._attempts.pop(job.id, None)
            self._to_lose.discard(job.id)
            attempt.context.end()

    async def _settle(self, attempt: RunningAttempt, claim: ObjectId, outcome: Outcome) -> None:
        job = attempt.job
        if job.id in self._to_lose:
            docs = await self._store.jobs.find([object_id(job.id)])
            await self._lost.mark_on_missed_heartbeats(docs, _yes)
            return
        if isinstance(outcome, Declined):
            self._avoided[object_id(job.id)] = self._clock.elapsed_s + patience_s(job.declined)
        start_ms = None if attempt.started is None else 0
        change = decide(job, outcome, self._rng, start_ms)
        end = Settlement(object_id(job.id), claim, job.claim_number, change, attempt.attempt_log.document())
        if change.error is not None:
            log.warning("job %s (%s) %s: %s\n%s", job.id, job.task, change.ending, change.error, change.error.traceback)
        await publish(self._broker, self._store, await record(self._store, [(job, end)], self._rng))

    async def _recover(self) -> None:
        """Automatic requeues of jobs that may not be at fault."""
        self._recovered_at = self._clock.now()
        async for _ in self._dead_letters.pieces():
            pass

    def _schedules_at(self) -> datetime | None:
        """When the next schedule is due."""
        return min((doc["due_at"] for doc in self._schedules.docs.values() if "due_at" in doc), default=None)

    async def _run_schedules(self) -> None:
        look = await self._store.schedules.look()
        for schedule in look.due:
            await self._ticker.fire(schedule, look.now or self._clock.now())

    # -- what is next

    def _is_due(self, doc: Document) -> bool:
        if doc["status"] not in WAITING or doc["task"] not in self._registry or doc.get("cancel_requested"):
            return False
        if self._avoided.get(doc["_id"], 0.0) > self._clock.elapsed_s:
            return False
        if self._pauses and self._pauses.of(to_job(doc)) is not None:
            return False
        return doc["status"] == "pending" or doc["due_at"] <= self._clock.now()

    async def _is(self, done: Callable[[], bool]) -> bool:
        """Whether it is done, by the pauses that are in force now: jobs that are paused are not due."""
        pauses: Pauses = (await self._store.pauses.read()).at(self._clock.now())
        if pauses != self._pauses:
            self._pauses, self._stale = pauses, True
        return done()

    def _next_due(self) -> ObjectId | None:
        """By lane, and by the time at which they became due within a lane."""
        if self._stale or not self._due:
            due = sorted((doc for doc in self._waiting.values() if self._is_due(doc)), key=_place)
            self._due = deque(doc["_id"] for doc in due)
            self._stale = False
        while self._due:
            doc = self._jobs.docs.get(self._due[0])
            if doc is not None and self._is_due(doc):
                return doc["_id"]
            self._due.popleft()
        return None

    def _due_round(self) -> Round | None:
        now = self._clock.now()
        return next((one for one in self._rounds if (at := one.due_at()) is not None and at <= now), None)

    def _next_at(self) -> float | None:
        """When the next job is due, by the loop's clock; None when none ever is."""
        times = [
            max(self._clock.seconds_at(doc["due_at"]) if "due_at" in doc else 0.0, self._avoided.get(doc["_id"], 0.0))
            for doc in self._waiting.values()
            if doc["task"] in self._registry
        ]
        if (end := self._pauses.next_end) is not None:
            times.append(self._clock.seconds_at(end))
        times += [self._clock.seconds_at(at) for one in self._rounds if (at := one.due_at()) is not None]
        return min((at for at in times if at > self._clock.elapsed_s), default=None)

    def _next_at_of_running(self) -> float | None:
        return self._next_at() if self._attempts else None

    def _recovery_at(self) -> datetime | None:
        """When the next failed job is looked at, which may have it requeued automatically."""
        cooldown = timedelta(seconds=self._settings.dead_letter_cooldown_s, milliseconds=1)
        times = (doc["ended_at"] + cooldown for doc in self._failed.values())
        return min((at for at in times if at > self._recovered_at), default=None)

    # -- of running jobs

    def _stop(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            if (attempt := self._attempts.get(job_id)) is not None:
                attempt.stop("cancel")

    def _shown(self) -> dict[str, ProgressEvent]:
        return {job_id: _event(attempt) for job_id, attempt in list(self._attempts.items())}


def _event(attempt: RunningAttempt) -> ProgressEvent:
    attempt_log = attempt.attempt_log
    return ProgressEvent(
        id=attempt.job.id,
        claim_number=attempt.job.claim_number,
        started_at=None if attempt.started is None else attempt.job.claimed_at,
        progress=attempt_log.fraction,
        message=attempt_log.message,
        log=tuple(attempt_log.log()),
    )


def _place(doc: Document) -> tuple[int, datetime, ObjectId]:
    since = doc["due_at"] if doc["status"] == "scheduled" else doc.get("queued_at", doc["created_at"])
    return PRIORITIES.index(doc["priority"]), since, doc["_id"]


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _yes() -> bool:
    return True
