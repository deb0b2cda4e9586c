"""One worker: it fetches, runs and settles jobs until it is asked to stop. It lives on its creator's loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast

import msgspec
from bson import ObjectId

from dtqkit._version import VERSION
from dtqkit.broker import Broker
from dtqkit.model.events import Heartbeat
from dtqkit.model.jobs import Priority, is_job_id
from dtqkit.model.outcomes import Declined, Released
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.support.cancel import end
from dtqkit.tasks.hooks import ProcessLifespan
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.worker import child_messages
from dtqkit.worker.attempt import RunningAttempt
from dtqkit.worker.beat import Beat, Pulse
from dtqkit.worker.claim import Claimed, Claimer
from dtqkit.worker.execute import Executor
from dtqkit.worker.fetch import Fetcher
from dtqkit.worker.held import Held
from dtqkit.worker.kinds import Kinds
from dtqkit.worker.leases import Leases
from dtqkit.worker.live import Live
from dtqkit.worker.pausing import KnownPauses
from dtqkit.worker.pool import Pool
from dtqkit.worker.published import PublishedTasks
from dtqkit.worker.settle import Settler
from dtqkit.worker.slots import PROBATION_S, Slots

log = logging.getLogger("dtqkit.worker")

#: How long a stopping worker waits for its last ends to be recorded, in seconds.
SETTLE_S: Final = 10.0
#: The same of one that stops at once; and how long its tasks may take to stop, once asked and once killed.
HASTY_SETTLE_S: Final = 1.0
HASTY_END_S: Final = 0.25
#: How long its last claim may take to be answered, and its ids to be put back.
HASTY_FETCH_S: Final = 0.5


class Worker:
    """`run()` works until `stop()`; both are called on the same loop."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        store: Store,
        registry: TaskRegistry,
        *,
        name: str,
        lanes: Sequence[Priority],
        app: str | None = None,
        outdated: Callable[[Sequence[str]], bool] | None = None,
        rng: random.Random | None = None,
        on_pulse: Callable[[Pulse], None] | None = None,
        life: ProcessLifespan | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._registry = registry
        #: `package.module:queue`, which children import too; None in a notebook or script.
        self._app = app
        #: New in each incarnation, so that a restarted worker is never taken for its predecessor.
        self.id: Final = f"{name}-{secrets.token_hex(4)}"
        self.name: Final = name
        self._lanes = tuple(lanes)
        self._on_pulse = on_pulse
        #: By the job's id as text: an ObjectId takes far longer to look up.
        self._held: dict[str, Held] = {}
        #: Tasks of ours: what runs beside the jobs, and the jobs.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._published = PublishedTasks(store, registry)
        self._failure: BaseException | None = None
        self._started_at = datetime.now(UTC)
        rng = random.Random() if rng is None else rng
        self._slots = Slots(settings.concurrency, lambda: self._pool.ready)
        owned = (settings.child_count, settings.child_jobs, self._setup, self._watch)
        self._pool = Pool(*owned, changed=self._slots.wake, outdated=outdated)
        self._kinds = Kinds(registry, lambda: self._pool.unusable)
        self._executor = Executor(registry, self._pool, settings.max_result, store.now, life=life)
        self.pauses = KnownPauses(store, lanes, self._executor.use)
        self._claimer = self._new_claimer(broker, rng)
        self._fetcher = Fetcher(
            broker,
            store,
            self._slots,
            self._kinds,
            self._claimer,
            lanes=lanes,
            lease_s=settings.lease_s,
            awaited=self._awaited,
            pauses=self.pauses,
        )
        self._settler = Settler(broker, store, settled=self._settled, rng=rng, log_jobs=settings.log_jobs)
        self._leases = Leases(store, self._held, settings.lease_s, self._watch)
        self._live = Live(broker, self._begun_ones)
        self._beat = Beat(settings, broker, self._compose, self._on_beat, self._kinds.served, self.pauses.versions)

    def _new_claimer(self, broker: Broker, rng: random.Random) -> Claimer:
        return Claimer(
            broker,
            self._store,
            worker=self.id,
            lease_s=self._settings.lease_s,
            start=self._start,
            holds=self._holds,
            refused=self._claim_refused,
            rng=rng,
        )

    # -- start and stop

    async def run(self) -> None:
        """Work until `stop`; then finish, or after the grace give back, what runs. Raises if a part of it breaks."""
        self._loop = asyncio.get_running_loop()
        settling = self._settling = asyncio.create_task(self._settler.run(), name="settle")
        fetching = self._fetching = asyncio.create_task(self._fetcher.run(), name="fetch")
        parts = [
            settling,
            fetching,
            asyncio.create_task(self._leases.keep(), name="renew"),
            asyncio.create_task(self._live.run(), name="live"),
            asyncio.create_task(self._published.keep(), name="publish tasks"),
            asyncio.create_task(self._pool.keep(), name="keep children ready"),
        ]
        stopped = asyncio.create_task(self._stopping.wait(), name="stop")
        self._beat.start(self.id)
        try:
            await asyncio.wait([*parts, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._wind_down(fetching, settling)
            await end(*parts, stopped)
            await self._pool.close()
            if rest := self._tasks | self._jobs:
                await asyncio.wait(rest, timeout=SETTLE_S)
            await self._stop_beating()
        for part in parts:
            if not part.cancelled() and (error := part.exception()) is not None:
                raise error
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Take no more jobs, finish what runs within the grace, give the rest back."""
        self._stopping.set()

    @property
    def busy(self) -> int:
        """Jobs whose task is not over."""
        return sum(not held.over for held in self._held.values())

    async def give_back(self) -> int:
        """Stop what runs, whatever it does, and give it back. Then this process must end, at once.

        Returns how many jobs could not be given back in time: these are taken from this worker once it is silent.
        """
        self._stopping.set()
        await asyncio.gather(self._fetcher.stop_at_once(self._fetching, HASTY_FETCH_S), self._end_jobs())
        for held in list(self._held.values()):
            if not held.over:  # it ends with this process, a moment after it is listed again
                held.over = True
                attempt = held.attempt
                self._settler.put(held.claimed, Released(attempt.run_ms()), attempt.started, attempt.attempt_log)
        self._settler.finish()
        await asyncio.wait([self._settling], timeout=HASTY_SETTLE_S)
        await self._stop_beating()
        return len(self._held)

    async def _end_jobs(self) -> None:
        for _ in range(2):  # the second request kills what the first could not interrupt
            for held in list(self._held.values()):
                if not held.over:
                    held.attempt.stop("release")
            if self._jobs:
                await asyncio.wait(list(self._jobs), timeout=HASTY_END_S)

    async def _stop_beating(self) -> None:
        """Stop the heartbeats. A worker without jobs removes itself from the list: nothing has to be recovered."""
        doubtful = self._claimer.unresolved or self._claimer.doubtful(self._loop.time())
        await self._beat.stop(deregister=not self._held and not doubtful)

    async def _wind_down(self, fetching: asyncio.Task[None], settling: asyncio.Task[None]) -> None:
        await self._fetcher.stop(fetching)
        if self._jobs:
            _, late = await asyncio.wait(list(self._jobs), timeout=self._settings.grace_s)
            for held in list(self._held.values()):
                held.attempt.stop("release")
            if late:
                await asyncio.wait(late, timeout=SETTLE_S)
        self._settler.finish()
        await asyncio.wait([settling], timeout=SETTLE_S)
        if not settling.done():
            log.warning("%d results could not be recorded in MongoDB: these jobs will run again", len(self._held))

    def _watch(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a background task: if it breaks, the worker logs the error and stops."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._watched)
        return task

    def _watched(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broke(task, error)

    def _broke(self, task: asyncio.Task[Any], error: BaseException) -> None:
        log.error("%s broke: %r", task.get_name(), error, exc_info=error)
        self._failure = self._failure or error
        self._stopping.set()

    # -- jobs

    def _start(self, claims: list[Claimed]) -> None:
        loop = asyncio.get_running_loop()
        for claimed in claims:
            job = claimed.job
            if (earlier := self._held.get(job.id)) is not None:
                # It was lost while we sent no heartbeats, and claimed again: the first attempt must stop.
                earlier.attempt.stop("gone")
            kind = self._kinds.of(job.task) or "loop"
            attempt = RunningAttempt(job, waiting=self._waits_for)
            held = self._held[job.id] = Held(claimed, kind, attempt)
            self._slots.take(kind, borrowed=claimed.borrowed)
            if claimed.alone:
                self._slots.alone = claimed.claim
            if job.losses:
                self._slots.suspects.begun(claimed.claim)
                attempt.began = partial(self._suspect_began, claimed.claim)
            self._jobs.add(loop.create_task(self._work(held), name=job.id))

    def _holds(self, job: ObjectId, claim: ObjectId) -> bool:
        held = self._held.get(str(job))
        return held is not None and held.claimed.claim == claim

    def _claim_refused(self, job: ObjectId, before: int) -> None:
        self._fetcher.avoid(str(job), before)

    def _suspect_began(self, claim: ObjectId) -> None:
        self._loop.call_later(PROBATION_S, self._proven, claim)

    def _proven(self, claim: ObjectId) -> None:
        self._slots.suspects.proven(claim, self._loop.time())

    def _waits_for(self, attempt: RunningAttempt, ids: Sequence[str]) -> None:
        held = self._held.get(attempt.job.id)
        if held is not None and held.attempt is attempt and not held.over:
            self._lend_slot_of(held, ids)

    def _lend_slot_of(self, held: Held, ids: Sequence[str]) -> None:
        """A running job begins to wait for other jobs, or (without ids) ends to: meanwhile it lends its slot."""
        waited, held.waits_for = held.waits_for, [job for job in ids if is_job_id(job)]
        if change := bool(held.waits_for) - bool(waited):
            self._slots.lend(held.kind, change)
            self._pool.lend(self._slots.lent_of("process"))
        if held.waits_for and not self._stopping.is_set():
            self._watch(self._fetcher.wake(), "fetch what is waited for")

    def _awaited(self) -> list[ObjectId]:
        """The jobs that running jobs wait for and that do not run here, each once."""
        awaited = dict.fromkeys(job for held in self._held.values() for job in held.waits_for)
        return [ObjectId(job) for job in awaited if job not in self._held]

    async def _work(self, held: Held) -> None:
        """The task of asyncio that belongs to one attempt: run it, and have its outcome recorded."""
        claimed, attempt = held.claimed, held.attempt
        task = cast("asyncio.Task[None]", asyncio.current_task())
        # Only now: a task that is cancelled before its first step would never come here, and keep its job claimed.
        attempt.attach(task)
        self._slots.begins(held.kind)
        try:
            try:
                outcome = await self._executor.run(attempt)
            except asyncio.CancelledError:  # not by a stop, but with the loop
                outcome = Released(None)
            self._over(held)
            if outcome is None:  # the claim is lost
                self._settled([claimed])
            else:
                if isinstance(outcome, Declined):
                    self._fetcher.avoid(claimed.job.id, claimed.job.declined)
                self._settler.put(claimed, outcome, attempt.started, attempt.attempt_log)
        except Exception as error:
            self._broke(task, error)
        finally:
            self._jobs.discard(task)

    def _over(self, held: Held) -> None:
        """Its attempt is over: its slot is free."""
        claimed, attempt = held.claimed, held.attempt
        if held.waits_for:
            self._lend_slot_of(held, ())
        held.over = True
        attempt.context.end()
        if claimed.job.losses:
            if attempt.started is not None:
                self._proven(claimed.claim)
            self._slots.suspects.forget(claimed.claim)
        self._slots.ran(held.kind, claimed.claim, borrowed=claimed.borrowed)
        if self._slots.lent:
            self._fetcher.help_soon()

    def _settled(self, claims: list[Claimed]) -> None:
        for claimed in claims:
            held = self._held.get(claimed.job.id)
            if held is not None and held.claimed is claimed:
                del self._held[claimed.job.id]
        self._slots.settled(len(claims))

    def _setup(self) -> child_messages.Setup:
        """What children import, and to which queue their tasks submit."""
        known = {ref: task for task in self._registry if (ref := task.ref) is not None}
        return child_messages.Setup(
            app=self._app,
            tasks={t.name: t.ref or "" for t in self._registry if self._registry.runs_as(t) == "process"},
            known=list(known),
            settings=msgspec.to_builtins(self._settings.without_tokens()),
            argv=sys.argv,
        )

    def _begun_ones(self) -> list[tuple[Claimed, RunningAttempt]]:
        return [
            (held.claimed, held.attempt)
            for held in self._held.values()
            if held.attempt.started is not None and not held.over
        ]

    # -- the beat (its own thread)

    def _compose(self) -> Heartbeat:
        load = self._slots.running
        return Heartbeat(
            id=self.id,
            name=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            lanes=self._lanes,
            concurrency=self._capacity(),
            load=load,
            started_at=self._started_at,
            version=VERSION,
            status="stopping" if self._stopping.is_set() else "working" if load else "idle",
            completed=self._settler.completed,
            failed=self._settler.failed,
        )

    def _capacity(self) -> int:
        """Jobs that it can run at a time."""
        of_kind = {"loop": self._settings.concurrency, "process": self._settings.child_count}
        return sum(of_kind[kind] for kind in self._kinds.present()) or self._settings.concurrency

    def _on_beat(self, pulse: Pulse, gap: bool) -> None:
        # The loop may be closed by the time that the last beat is answered.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._apply, pulse, gap)

    def _apply(self, pulse: Pulse, gap: bool) -> None:
        self._published.look()
        if asked := [h for h in self._held.values() if h.claimed.job.id in pulse.stop and h.attempt.reason is None]:
            self._watch(self._leases.cancel(asked), "cancel")
        if gap:
            # After such a gap the leader may count this worker as lost: renew what it still holds at once.
            self._watch(self._leases.renew(0.0), "renew after a gap")
        if self.pauses.due(pulse.pauses, gap=gap):
            self._watch(self._fetcher.read_pauses(pulse.pauses), "read the pauses")
        if self._on_pulse is not None:
            self._on_pulse(pulse)
