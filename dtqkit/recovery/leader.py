"""One process leads: it holds a lock in Redis, and while it does, it runs the rounds. Two at once do no harm."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from datetime import timedelta
from typing import Final

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.broker.found import Tick
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.settings import Settings
from dtqkit.recovery.audit import Auditor
from dtqkit.recovery.deadletters import DeadLetterRounds
from dtqkit.recovery.minutes import MinuteRounds
from dtqkit.recovery.rounds import Rounds
from dtqkit.recovery.silence import Silence
from dtqkit.recovery.task import HUNG_S, Progress, RoundTask
from dtqkit.store import Store
from dtqkit.store.clock import Step
from dtqkit.transitions.cancel import ask_to_stop_again
from dtqkit.transitions.lose import LIMIT, LostJobs

log = logging.getLogger("dtqkit.recovery")

#: Beats between two answers after which silence is judged anew.
_GAP_BEATS: Final = 1.5
#: Rounds between two audits by id, of lanes and of dead letters.
_AUDIT_ROUNDS: Final = 5
#: Part of a round after which a count that differed is compared again: what is on its way has arrived by then.
_AGAIN: Final = 1 / 6
#: How much later than due a job is moved to its lane, in ms: its claim must not find that it is not due yet.
_EARLY_MS: Final = 20.0
#: How often old jobs are deleted, in seconds.
_EXPIRE_S: Final = 3600.0


class Leader:
    """A candidate until the lock is free, then the leader until it stops or loses the lock."""

    def __init__(self, settings: Settings, broker: Broker, store: Store, *, candidate: str, rng: random.Random) -> None:
        """`candidate` is the id of the worker in this process: no other process may have it."""
        self._settings = settings
        self._broker = broker
        self._store = store
        self._candidate = candidate
        self._lost = LostJobs(broker, store, rng)
        self._auditor = Auditor(broker, store)
        self._dead_letters = DeadLetterRounds(settings, broker, store)
        self._minutes = MinuteRounds(store, settings.retention_days)
        self._silence = Silence(settings.silence_s, _GAP_BEATS * settings.heartbeat_s)
        self._rounds = Rounds(self._candidate)
        self._vacant = asyncio.Event()
        away = self._mongodb_was_away
        self._silent_workers = RoundTask("silent workers", self._some_silent, self._recover_silent, put_off=away)
        self._surveys = RoundTask("leases", self._survey_due, self._survey, put_off=away)
        self._lanes = RoundTask("lanes", self._lanes_due, self._repair_lanes)
        later_s = settings.round_s * _AGAIN
        self._letters = RoundTask("dead letters", self._letters_due, self._repair_letters, pause_s=later_s)
        self._expiry = RoundTask("expired jobs", self._expiry_due, self._expire, pause_s=later_s)
        self._closing = RoundTask("minutes", self._minutes_due, self._close_minutes)
        self._indexing = RoundTask("indexes", self._indexes_due, self._keep_indexes)
        #: None of them waits for another: however much one has to do, jobs of dead workers are found in time.
        self._tasks = (
            *(self._silent_workers, self._surveys, self._lanes),
            *(self._letters, self._expiry, self._closing, self._indexing),
        )
        self._lost.moved = self._marked
        self._auditor.moved = self._lanes.moved
        #: The last step of MongoDB's clock that was seen to.
        self._step: Step | None = None
        self.leads = False
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        """A new leader looks at everything at once, but takes running jobs only when their workers have had time."""
        self._next_survey = 0.0
        self._next_audit = 0.0
        self._next_letters = 0.0
        self._next_expiry = 0.0
        # They were compared when the store was opened.
        self._next_indexes = now + _AUDIT_ROUNDS * self._settings.round_s
        self._recount_at: float | None = None
        self._audit_lanes = False
        self._audit_letters = False
        #: Whether the last survey found nothing that an audit by id could compare.
        self._nothing_listed = False
        self._nothing_died = False
        # Workers renew what is older than a third of a lease, each sixth of one. If MongoDB's clock was set before
        # this process could notice, that puts it right.
        self._leases_count_from = now + self._settings.lease_s / 2 + self._settings.heartbeat_s

    def _marked(self) -> None:
        self._silent_workers.moved()
        self._surveys.moved()

    def heard(self, led: bool, scores: dict[str, str]) -> None:
        """What a beat of a worker in this process brought back: even a candidate watches, so as to be ready."""
        self._silence.observe(scores, asyncio.get_running_loop().time())
        if not led:
            self._vacant.set()

    async def run(self) -> None:
        """For ever; a store that is away is waited for."""
        try:
            while True:
                if not self.leads:
                    await self._vacant.wait()
                    self._vacant.clear()
                await self._tick()
                if self.leads:
                    await asyncio.sleep(self._settings.heartbeat_s / 2)
        finally:
            await asyncio.gather(*(task.end() for task in self._tasks))
            if self.leads:
                try:
                    await self._broker.resign(self._candidate)
                except StoreUnavailable:
                    pass  # the lock ends by itself

    async def _lead(self) -> Tick:
        due_ms = self._store.now().timestamp() * 1000 - _EARLY_MS
        tick = await self._broker.lead(self._candidate, self._settings.lock_s, due_ms=due_ms)
        if tick.leads:
            self._silence.observe(tick.scores, asyncio.get_running_loop().time())
        return tick

    async def _tick(self) -> None:
        try:
            tick = await self._lead()
        except StoreUnavailable as error:
            if self.leads:
                log.warning("cannot lead: %s", error)
            self.leads = False
            return
        if tick.leads and not self.leads:
            log.info("worker %s leads", self._candidate)
            self._begin(asyncio.get_running_loop().time())
        self.leads = tick.leads
        if not tick.leads:
            return  # a round that is under way comes to an end: two leaders do no harm
        self._rounds.did("sweep", tick.swept)
        self._rounds.did("mend", tick.mended)
        if tick.mended:
            self._audit_lanes = True
        for task in self._tasks:
            task.check(max(self._settings.lease_s, HUNG_S))
            task.tick(tick)
        if self._rounds.changed:
            with suppress(StoreUnavailable):
                await self._broker.note_rounds(self._rounds.encode())

    # -- jobs of workers that are gone

    def _some_silent(self, _: Tick) -> bool:
        return bool(self._silence.silent(asyncio.get_running_loop().time()))

    async def _recover_silent(self, _: Tick) -> None:
        """The jobs of silent workers are taken; a worker that has none any more is forgotten."""

        async def still_silent() -> bool:
            tick = await self._lead()
            return tick.leads and self._silence.still(worker, score)

        for worker, score in self._silence.silent(asyncio.get_running_loop().time()).items():
            docs = await self._store.jobs.running_of(worker)
            if docs:
                self._rounds.did("dead_worker", await self._lost.mark_silent(docs, still_silent))
            elif await self._broker.forget(worker, score):
                log.warning("worker %s is gone: it sent no heartbeats for %.0f s", worker, self._settings.silence_s)
                # It may have popped ids that it never claimed.
                self._audit_lanes = True
            self._silent_workers.moved()

    def _survey_due(self, _: Tick) -> bool:
        now = asyncio.get_running_loop().time()
        recount = self._recount_at is not None and now >= self._recount_at
        return recount or now >= self._next_survey or self._store.step is not self._step

    async def _survey(self, _: Tick) -> None:
        """Running jobs whose lease is over; cancels that their workers may not have heard; and counts."""
        await self._mind_clock()
        now = asyncio.get_running_loop().time()
        recount = self._recount_at is not None and now >= self._recount_at
        if now >= self._next_survey:
            self._next_survey = now + self._settings.round_s
        try:
            await self._survey_at(now, recount)
        except BaseException:
            self._next_survey = 0.0
            raise

    async def _survey_at(self, now: float, recount: bool) -> None:
        survey = await self._store.surveys.look(LIMIT)
        if survey.overdue:
            await self._store.compare_clocks()  # after the survey: it is the clock that was used there
            await self._mind_clock()
        if survey.overdue and now >= self._leases_count_from:
            self._rounds.did("lease_expiry", await self._lost.mark_overdue(survey.overdue))
        await ask_to_stop_again(self._broker, survey.to_stop)
        self._rounds.did("survey", 0)
        if len(survey.overdue) + len(survey.to_stop) >= LIMIT and now >= self._leases_count_from:
            self._next_survey = 0.0  # there may be more
        if (counts := survey.counts) is not None:
            listed = await self._auditor.listed()
            self._nothing_listed = counts.waiting == listed == 0
            self._nothing_died = counts.failed == counts.letters == 0
            if listed >= counts.waiting:
                self._recount_at = None
            elif recount:
                self._audit_lanes = True
                self._recount_at = None
            elif self._recount_at is None:
                self._recount_at = now + self._settings.round_s * _AGAIN
            if recount or counts.failed != counts.letters:
                self._audit_letters = True

    def _mongodb_was_away(self) -> None:
        # Workers could not renew either: once MongoDB is back, they get the time to do so first.
        self._leases_count_from = asyncio.get_running_loop().time() + self._settings.round_s
        self._next_survey = 0.0

    async def _mind_clock(self) -> None:
        """When MongoDB's clock was set: leases and due times are of the old one.

        Every worker gets the time to renew before a lease counts as over. After a step back, what would be waited for
        that much longer is set right.
        """
        step = self._store.step
        if step is None or step is self._step:
            return
        if self._store.since(step) > self._settings.lease_s:
            self._step = step  # whoever led then has seen to it
            return
        now = asyncio.get_running_loop().time()
        self._leases_count_from = max(self._leases_count_from, now + self._settings.lease_s)
        if await self._store.steps.claim(step):
            log.warning(
                "MongoDB's clock was set by %+.1f s: jobs are taken from workers that do not renew within %.0f s",
                step.by_s,
                self._settings.lease_s,
            )
            if step.by_s < 0:
                moved = await self._store.steps.set_back(-step.by_s, self._settings.lease_s)
                self._rounds.did("clock", moved)
        self._step = step
        self._audit_lanes = True  # scores follow due times

    # -- lanes

    def _lanes_due(self, tick: Tick) -> bool:
        now = asyncio.get_running_loop().time()
        regular = now >= self._next_audit and not self._nothing_listed
        return tick.epoch != tick.run_id or self._audit_lanes or regular

    async def _repair_lanes(self, tick: Tick) -> None:
        now = asyncio.get_running_loop().time()
        if tick.epoch != tick.run_id:
            self._rounds.did("rebuild", (await self._auditor.rebuild(tick.run_id)).listed)
            self._next_survey = 0.0
            return
        self._audit_lanes = False
        if now >= self._next_audit:
            self._next_audit = now + _AUDIT_ROUNDS * self._settings.round_s
        try:
            repairs = await self._auditor.audit()
        except BaseException:
            self._audit_lanes = True
            raise
        self._rounds.did("audit", repairs.listed + repairs.rescored + repairs.pruned + repairs.cancelled)

    # -- what there is time for

    def _letters_due(self, _: Tick) -> bool:
        regular = asyncio.get_running_loop().time() >= self._next_letters and not self._nothing_died
        return self._audit_letters or regular

    async def _repair_letters(self, _: Tick) -> None:
        repaired = Progress("repaired %d dead letters")
        requeued = Progress("requeued %d jobs that died of a lost worker, a timeout or a store")
        self._audit_letters = False
        self._next_letters = asyncio.get_running_loop().time() + _AUDIT_ROUNDS * self._settings.round_s
        try:
            async for piece in self._dead_letters.pieces():
                repaired.add(piece.repaired)
                requeued.add(piece.requeued)
                self._rounds.did("dead letters", piece.repaired)
                self._rounds.did("automatic requeues", piece.requeued)
                self._letters.moved()
                if not self.leads:
                    break  # the next leader looks for itself
        except BaseException:
            self._audit_letters = True
            raise
        finally:
            repaired.end()
            requeued.end()

    def _expiry_due(self, _: Tick) -> bool:
        return asyncio.get_running_loop().time() >= self._next_expiry

    async def _expire(self, _: Tick) -> None:
        """Deletes take at most half of the time: others need MongoDB too."""
        clock = asyncio.get_running_loop().time
        began = clock()
        expired = Progress(f"deleted %d jobs that were over for more than {self._settings.retention_days:g} days")
        before = self._store.now() - timedelta(days=self._settings.retention_days)
        last: ObjectId | None = None
        try:
            while self.leads:
                piece_began = clock()
                done, last = await self._store.upkeep.expire(before, last)
                expired.add(done)
                self._rounds.did("expire", done)
                self._expiry.moved()
                if last is None:
                    self._next_expiry = began + _EXPIRE_S
                    break
                await asyncio.sleep(clock() - piece_began)
        finally:
            expired.end()

    def _minutes_due(self, _: Tick) -> bool:
        return self._minutes.due()

    async def _close_minutes(self, _: Tick) -> None:
        await self._minutes.run()

    def _indexes_due(self, _: Tick) -> bool:
        return asyncio.get_running_loop().time() >= self._next_indexes

    async def _keep_indexes(self, _: Tick) -> None:
        self._next_indexes = asyncio.get_running_loop().time() + _AUDIT_ROUNDS * self._settings.round_s
        self._store.indexes.keep()
