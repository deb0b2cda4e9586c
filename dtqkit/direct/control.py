"""A queue on its two stores, on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec

from dtqkit import control
from dtqkit.broker import Broker
from dtqkit.broker.background import Lives
from dtqkit.control import (
    BatchItem,
    DeadLetterQuery,
    HistoryQuery,
    JobQuery,
    Page,
    Refusal,
    Requeued,
    Submission,
)
from dtqkit.direct import listing
from dtqkit.direct.follow import Follower
from dtqkit.direct.health import HealthMonitor
from dtqkit.direct.lookup import Lookups
from dtqkit.direct.opening import Opening
from dtqkit.direct.shared import Shared
from dtqkit.direct.stats import stats, totals
from dtqkit.errors import (
    DtqError,
    InvalidQuery,
    JobConflict,
    JobNotFound,
    NamespaceTaken,
    StoreUnavailable,
    WrongLoop,
)
from dtqkit.events import Batch, Depths, Heartbeat, Line, ProgressEvent, Snapshot
from dtqkit.jobs import PRIORITIES, Job, is_job_id
from dtqkit.sanitize import bounded
from dtqkit.settings import Settings
from dtqkit.store import Store
from dtqkit.store.documents import object_id, to_job
from dtqkit.tasks import TaskInfo, TaskRegistry
from dtqkit.transitions.cancel import cancel
from dtqkit.transitions.enqueue import Enqueuer
from dtqkit.transitions.patience import Patience
from dtqkit.transitions.requeue import requeue

#: Jobs that a snapshot shows.
RECENT: Final = 50
#: Between two tries to open the stores, in seconds.
OPEN_PAUSE_S: Final = 1.0


class DirectControl:
    """Implements `Control`. Opens its connections at the first use, on the loop that uses it first."""

    def __init__(self, settings: Settings, registry: TaskRegistry) -> None:
        self._settings = settings
        self._registry = registry
        self._store = Store(settings)
        self._broker = Broker(settings)
        self._stores = Opening(self._store, self._broker)
        self._enqueuer = Enqueuer(settings, self._broker, self._store, registry)
        self._lives = Lives(self._broker.lives)
        self._follower = Follower(self._broker)
        self._lookups = Lookups(self.get_many)
        self._stats: Shared[control.Stats] = Shared(good_for=4.0)
        self._totals: Shared[control.Totals] = Shared()
        self._opening: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._health = HealthMonitor(settings, self._broker, self._store, self._open)

    async def until_open(self) -> None:
        """Wait for MongoDB. Raises NamespaceTaken: waiting does not change that."""
        while True:
            try:
                await self._open()
            except StoreUnavailable as error:
                if isinstance(error, NamespaceTaken):
                    raise
                await asyncio.sleep(OPEN_PAUSE_S)
            else:
                return

    async def until_taken(self) -> None:
        """Raises NamespaceTaken once Redis lists another environment's jobs; never returns."""
        await self._stores.until_taken()

    async def _open(self) -> None:
        """Connect once; a failure is raised for all who waited for it, and tried again by the next."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongLoop("this queue lives on the event loop that used it first; make another one for this loop")
        opening = self._opening
        # Whoever waited for one that failed may have given up before: its error is an old one.
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
            opening = self._opening = asyncio.ensure_future(self._stores.open())
            opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if opening.cancelled() and not (waiter and waiter.cancelling()):
                raise RuntimeError("this queue is closed") from None
            raise

    async def close(self) -> None:
        self._health.leave()
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self._enqueuer.close()
        await self._lookups.close()
        await self._lives.close()
        await self._follower.close()
        await self._stores.close()
        await self._broker.close()
        await self._store.close()
        await self._health.close()

    # -- submit

    async def submit(self, submission: Submission) -> Job:
        (answer,) = await self._enqueue([submission])
        if isinstance(answer, DtqError):
            raise answer
        return answer

    async def submit_many(self, submissions: Sequence[Submission]) -> list[BatchItem]:
        answers = await self._enqueue(submissions)
        return [BatchItem(job=answer) if isinstance(answer, Job) else _refused(answer) for answer in answers]

    async def _enqueue(self, submissions: Sequence[Submission]) -> list[Job | DtqError]:
        patience = self._patience(submissions)
        await self._ready_for(submissions, patience)
        answers = await self._enqueuer.enqueue(submissions, patience)
        if any(isinstance(answer, Job) for answer in answers):
            self._health.wrote()
        return answers

    def _patience(self, submissions: Sequence[Submission]) -> Patience:
        default_s = self._settings.submit_wait_s
        return Patience(max((default_s if s.wait_s is None else s.wait_s for s in submissions), default=0.0))

    async def _ready_for(self, submissions: Sequence[Submission], patience: Patience) -> None:
        """Connected; for delayed jobs, with the clock compared just now."""
        while True:
            try:
                await self._open()
                await self._stores.check()
                if any(submission.delay_s for submission in submissions):
                    await self._store.clock_of_now()
            except StoreUnavailable as error:
                if not await patience.again(error):
                    raise
            else:
                return

    # -- look

    async def get(self, job_id: str) -> Job:
        """The job; while it runs, with its progress and its log's tail as they are now."""
        job = await self._lookups.get(job_id.lower()) if is_job_id(job_id) else None
        if job is None:
            raise JobNotFound(job_id)
        (job,) = await self._as_they_run([job])
        return job

    async def _as_they_run(self, jobs: Sequence[Job]) -> list[Job]:
        """`jobs`; those that run with what their attempts last showed, as far as that can be had at once."""
        running = [job.id for job in jobs if job.status == "running"]
        if not running:
            return list(jobs)
        lives = await self._lives.get(running)
        return [_shown(job, lives[job.id]) if job.id in lives else job for job in jobs]

    async def get_many(self, job_ids: Sequence[str], *, payload: bool = True) -> list[Job]:
        await self._open()
        ids = [object_id(i) for i in job_ids if is_job_id(i)]
        return [to_job(doc) for doc in await self._store.jobs.find(ids, payload=payload)]

    async def statuses(self, job_ids: Sequence[str]) -> list[control.JobStatus]:
        await self._open()
        docs = await self._store.jobs.statuses([object_id(i) for i in job_ids if is_job_id(i)])
        return [control.JobStatus(str(doc["_id"]), doc["status"], doc["rev"]) for doc in docs]

    async def jobs(self, query: JobQuery) -> Page[Job]:
        await self._open()
        page = await listing.page(self._store, query)
        if query.brief:
            return page
        return msgspec.structs.replace(page, items=tuple(await self._as_they_run(page.items)))

    async def dead_letters(self, query: JobQuery) -> Page[Job]:
        if query.status not in (None, "failed"):
            raise InvalidQuery(f"dead letters are failed jobs; status is {query.status!r}")
        return await self.jobs(msgspec.structs.replace(query, status="failed"))

    async def log(self, job_id: str) -> control.Log:
        """The kept lines; of a running job, its last ones as it shows them now."""
        job = await self.get(job_id)
        return control.Log(id=job.id, lines=job.log)

    async def depths(self) -> Depths:
        """As Redis has them; while it is away, as they should be."""
        await self._open()
        running, oldest = await self._store.jobs.load()
        try:
            waiting = await self._broker.depths()
        except StoreUnavailable:
            waiting = await self._missed_depths()
        age = (self._store.now() - oldest).total_seconds() if oldest else None
        return msgspec.structs.replace(
            waiting, running=running, oldest_wait_s=max(0.0, age) if age is not None else None
        )

    async def _missed_depths(self) -> Depths:
        found = await self._store.jobs.count_waiting()
        lanes = {lane: found.get(("pending", lane), 0) for lane in PRIORITIES}
        return Depths(**lanes, scheduled=sum(n for (status, _), n in found.items() if status == "scheduled"))

    async def workers(self) -> Sequence[Heartbeat]:
        await self._open()
        return await self._broker.workers()

    async def tasks(self) -> Sequence[TaskInfo]:
        await self._open()
        began = asyncio.get_running_loop().time()
        tasks = await self._store.catalogue.all()
        self._enqueuer.known.take(tasks, began)
        return tasks

    async def health(self) -> control.Health:
        """Looked up at most every second, however often it is asked for."""
        return await self._health.health()

    async def snapshot(self) -> Snapshot:
        """What there is; without workers while Redis, which alone knows them, is away."""
        recent = await self.jobs(JobQuery(limit=RECENT))
        depths = await self.depths()
        try:
            workers = tuple(await self.workers())
        except StoreUnavailable:
            workers = ()
        return Snapshot(depths=depths, workers=workers, jobs=tuple(map(control.lean, recent.items)))

    def history(self, query: HistoryQuery) -> AsyncIterator[control.AttemptRow]:
        return listing.history(self._store, self._open, query)

    async def stats(self, query: control.StatsQuery) -> control.Stats:
        """Counted from the record, at the time of asking; see `direct.stats` for what is looked at."""
        depths = await self.depths()
        return await self._stats.get(query.window_s, lambda: stats(self._store, depths, query.window_s))

    async def totals(self) -> control.Totals:
        await self._open()
        return await self._totals.get(None, lambda: totals(self._store))

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        return self._follower.subscribe(callback)

    # -- change

    async def cancel(self, job_id: str) -> Job:
        """A waiting job is cancelled at once; a running one is marked, and stopped within two beats.

        Raises JobConflict when it is over already.
        """
        await self._open()
        cancelled = await cancel(self._broker, self._store, object_id(job_id)) if is_job_id(job_id) else None
        if cancelled is None:
            job = await self.get(job_id)
            raise JobConflict(f"job {job_id} is {job.status}: it cannot be cancelled any more")
        return cancelled

    async def requeue(self, job_id: str) -> Job:
        """Requeue a failed job. Raises JobConflict when it is not failed, or somebody else just did."""
        job = await self.get(job_id)
        if job.status != "failed":
            raise JobConflict(f"job {job_id} is {job.status}: only a failed job can be requeued")
        again = await requeue(self._broker, self._store, job)
        if again is None:
            raise JobConflict(f"job {job_id} was requeued by somebody else")
        return again

    async def requeue_dead(self, query: DeadLetterQuery) -> Requeued:
        await self._open()
        matched = await listing.dead_matching(self._store, query)
        if query.dry_run:
            return Requeued(matched=len(matched), requeued=0)
        requeued = 0
        for job in matched:
            requeued += await requeue(self._broker, self._store, job) is not None
        return Requeued(matched=len(matched), requeued=requeued)


def _shown(job: Job, live: ProgressEvent) -> Job:
    """A running job with what its attempt last showed."""
    if live.token != job.token:
        return job
    return msgspec.structs.replace(
        job,
        started_at=job.started_at or live.started_at,
        progress=live.progress,
        progress_message=live.message,
        log=live.log,
    )


def _refused(error: DtqError) -> BatchItem:
    return BatchItem(refused=Refusal(code=error.code, detail=bounded(str(error))))
