"""The leader: the process that holds a lock in Redis runs the rounds of recovery. Two leaders at once are safe."""

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
from dtqkit.recovery.followups import FollowUpRounds
from dtqkit.recovery.heartbeats import MissedHeartbeats
from dtqkit.recovery.minutes import MinuteRounds
from dtqkit.recovery.rounds import Rounds
from dtqkit.recovery.schedules import ScheduleRounds
from dtqkit.recovery.task import HUNG_S, ProgressLog, RoundTask
from dtqkit.store import Store
from dtqkit.store.clock import Step
from dtqkit.store.recovery_scan import Noticed
from dtqkit.transitions.cancel import ask_to_stop_again
from dtqkit.transitions.lose import LIMIT, LostJobs
from dtqkit.transitions.pause import announce_version, list_released

log = logging.getLogger("dtqkit.recovery")

#: After a gap of more heartbeats between two answers, missed heartbeats are measured from the start.
_GAP_BEATS: Final = 1.5
#: Rounds between two audits by id, of lanes and of dead letters.
_AUDIT_ROUNDS: Final = 5
#: Part of a round after which a count that differed is compared again: pushes in progress are done by then.
_AGAIN: Final = 1 / 6
#: How long after its due time a job is moved to its lane, in ms: a claim must not find it not due yet.
_EARLY_MS: Final = 20.0
#: How often old jobs are deleted, in seconds.
_EXPIRE_S: Final = 3600.0


class Leader:
    """A candidate until the lock is free; then the leader until it stops or loses the lock."""

    def __init__(self, settings: Settings, broker: Broker, store: Store, *, candidate: str, rng: random.Random) -> None:
        """`candidate` is the id of the worker in this process, which is unique."""
        self._settings = settings
        self._broker = broker
        self._store = store
        self._candidate = candidate
        self._lost = LostJobs(broker, store, rng)
        self._auditor = Auditor(broker, store)
        self._dead_letters = DeadLetterRounds(settings, broker, store)
        self._minutes = MinuteRounds(store, settings.retention_days)
        self._followups = FollowUpRounds(broker, store)
        self._heartbeats = MissedHeartbeats(settings.silence_s, _GAP_BEATS * settings.heartbeat_s)
        self._rounds = Rounds(self._candidate)
        self._vacant = asyncio.Event()
        away = self._mongodb_was_away
        self._dead_workers = RoundTask("dead workers", self._some_missing, self._recover_from_dead, when_postponed=away)
        self._scans = RoundTask("leases", self._scan_due, self._scan, when_postponed=away)
        self._lanes = RoundTask("lanes", self._lanes_due, self._repair_lanes)
        later_s = settings.round_s * _AGAIN
        self._dead_letter_task = RoundTask(
            "dead letters", self._dead_letters_due, self._repair_dead_letters, pause_s=later_s
        )
        self._expiry = RoundTask("expired jobs", self._expiry_due, self._expire, pause_s=later_s)
        self._closing = RoundTask("minutes", self._minutes_due, self._close_minutes)
        self._following = RoundTask("follow-ups", self._followups_due, self._follow_up, pause_s=later_s)
        self._indexing = RoundTask("indexes", self._indexes_due, self._keep_indexes)
        self._schedules = ScheduleRounds(settings, broker, store, lambda n: self._rounds.record("schedules", n))
        self._scheduling = RoundTask("schedules", self._schedules.due, self._run_schedules)
        self._schedules.progressed = self._scheduling.progressed
        self._parked = RoundTask("paused jobs", self._parked_due, self._list_released)
        #: They run independently: however long one takes, the jobs of dead workers are re-queued in time.
        self._tasks = (
            *(self._dead_workers, self._scans, self._lanes),
            *(self._dead_letter_task, self._expiry, self._closing, self._indexing, self._following, self._parked),
            self._scheduling,
        )
        self._lost.progressed = self._loss_progressed
        self._auditor.progressed = self._lanes.progressed
        self._followups.progressed = self._following.progressed
        #: The last step of MongoDB's clock that was handled.
        self._step: Step | None = None
        self.leads = False
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        """A new leader runs all rounds at once, but gives workers time to renew before a lease counts as expired."""
        self._schedules.begin()
        self._next_scan = 0.0
        self._next_audit = 0.0
        self._next_dead_letters = 0.0
        self._next_expiry = 0.0
        self._followups.begin()
        # Indexes were compared when the store was opened.
        self._next_indexes = now + _AUDIT_ROUNDS * self._settings.round_s
        self._recount_at: float | None = None
        self._audit_lanes = False
        #: The version of the pauses for which parked jobs were last looked at.
        self._parked_for: str | None = None
        self._audit_dead_letters = False
        #: Whether the last scan found no ids that an audit could compare, and no failed jobs or dead letters.
        self._nothing_listed = False
        self._nothing_failed = False
        # Every sixth of a lease, workers renew leases that are older than a third. So after this time all leases are
        # valid again, even if MongoDB's clock was set before this process could notice.
        self._leases_count_from = now + self._settings.lease_s / 2 + self._settings.heartbeat_s

    def _loss_progressed(self) -> None:
        self._dead_workers.progressed()
        self._scans.progressed()

    def beat_answered(self, led: bool, scores: dict[str, str]) -> None:
        """The answer to a heartbeat of this process: candidates observe scores too, so that they can act at once."""
        self._heartbeats.observe(scores, asyncio.get_running_loop().time())
        if not led:
            self._vacant.set()

    async def run(self) -> None:
        """Run until cancelled; waits while a store is unreachable."""
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
            await self._schedules.close()
            if self.leads:
                try:
                    await self._broker.resign(self._candidate)
                except StoreUnavailable:
                    pass  # the lock expires

    async def _lead(self) -> Tick:
        due_ms = self._store.now().timestamp() * 1000 - _EARLY_MS
        tick = await self._broker.lead(self._candidate, self._settings.lock_s, due_ms=due_ms)
        if tick.leads:
            self._heartbeats.observe(tick.scores, asyncio.get_running_loop().time())
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
            return  # a round in progress is completed: two leaders at once are safe
        self._rounds.record("sweep", tick.swept)
        self._rounds.record("mend", tick.mended)
        if tick.mended:
            self._audit_lanes = True
        for task in self._tasks:
            task.check(max(self._settings.lease_s, HUNG_S))
            task.tick(tick)
        if self._rounds.changed:
            with suppress(StoreUnavailable):
                await self._broker.note_rounds(self._rounds.encode())

    # -- jobs of dead workers

    def _some_missing(self, _: Tick) -> bool:
        return bool(self._heartbeats.missing(asyncio.get_running_loop().time()))

    async def _recover_from_dead(self, _: Tick) -> None:
        """Mark the jobs of dead workers lost; remove a dead worker when it has none left."""

        async def still_missing() -> bool:
            tick = await self._lead()
            return tick.leads and self._heartbeats.unchanged(worker, score)

        for worker, score in self._heartbeats.missing(asyncio.get_running_loop().time()).items():
            self._followups.begin()  # it may have died between an end and what follows on it
            docs = self._lost.markable(await self._store.jobs.running_of(worker))
            if docs:
                self._rounds.record("dead_worker", await self._lost.mark_on_missed_heartbeats(docs, still_missing))
            elif await self._broker.forget(worker, score):
                log.warning("worker %s is gone: it sent no heartbeats for %.0f s", worker, self._settings.silence_s)
                # It may have popped ids without claiming them.
                self._audit_lanes = True
            self._dead_workers.progressed()

    def _scan_due(self, _: Tick) -> bool:
        now = asyncio.get_running_loop().time()
        recount = self._recount_at is not None and now >= self._recount_at
        return recount or now >= self._next_scan or self._store.step is not self._step

    async def _scan(self, tick: Tick) -> None:
        """Running jobs with an expired lease; cancel requests that workers may have missed; counts; other work."""
        await self._handle_clock_step()
        now = asyncio.get_running_loop().time()
        recount = self._recount_at is not None and now >= self._recount_at
        if now >= self._next_scan:
            self._next_scan = now + self._settings.round_s
        try:
            await self._scan_at(now, recount, tick)
        except BaseException:
            self._next_scan = 0.0
            raise

    async def _scan_at(self, now: float, recount: bool, tick: Tick) -> None:
        # Only a scan that comes to its counts, and finds none, spares the audits: not an earlier one.
        self._nothing_listed = self._nothing_failed = False
        scan = await self._store.scans.look(LIMIT)
        if scan.overdue:
            await self._store.compare_clocks()  # after the scan, which used MongoDB's clock
            await self._handle_clock_step()
        if scan.overdue and now >= self._leases_count_from:
            self._rounds.record("lease_expiry", await self._lost.mark_overdue(scan.overdue))
        await ask_to_stop_again(self._broker, scan.to_stop)
        self._rounds.record("scan", 0)
        if len(scan.overdue) + len(scan.to_stop) >= LIMIT and now >= self._leases_count_from:
            self._next_scan = 0.0  # there may be more of them
        if (counts := scan.counts) is not None:
            listed = await self._auditor.listed()
            self._nothing_listed = counts.waiting == listed == 0
            self._nothing_failed = counts.failed == counts.dead_letters == 0
            if listed >= counts.waiting:
                self._recount_at = None
            elif recount:
                self._audit_lanes = True
                self._recount_at = None
            elif self._recount_at is None:
                self._recount_at = now + self._settings.round_s * _AGAIN
            if recount or counts.failed != counts.dead_letters:
                self._audit_dead_letters = True
        await self._act_on(scan.noticed, tick)

    async def _act_on(self, noticed: Noticed, tick: Tick) -> None:
        """What the scan has seen besides."""
        if noticed.followups:
            self._followups.begin()
        if noticed.schedules:
            self._schedules.seen()
        # The record decides: after MongoDB was restored from a backup, its version is lower than that in Redis.
        if noticed.pauses != _version(tick.pauses):
            await announce_version(self._broker, noticed.pauses)

    def _mongodb_was_away(self) -> None:
        # Workers could not renew either: once MongoDB is back, give them time to renew first.
        self._leases_count_from = asyncio.get_running_loop().time() + self._settings.round_s
        self._next_scan = 0.0

    async def _handle_clock_step(self) -> None:
        """After MongoDB's clock was set: leases and due times are by the old clock.

        Every worker gets time to renew before a lease counts as expired. After a step back, leases and due times are
        corrected, which would otherwise be too late by the step.
        """
        step = self._store.step
        if step is None or step is self._step:
            return
        if self._store.since(step) > self._settings.lease_s:
            self._step = step  # the leader at that time has handled it
            return
        now = asyncio.get_running_loop().time()
        self._leases_count_from = max(self._leases_count_from, now + self._settings.lease_s)
        if await self._store.steps.claim(step):
            log.warning(
                "MongoDB's clock was set by %+.1f s: jobs whose lease is not renewed within %.0f s will be re-queued",
                step.by_s,
                self._settings.lease_s,
            )
            if step.by_s < 0:
                moved = await self._store.steps.set_back(-step.by_s, self._settings.lease_s)
                self._rounds.record("clock", moved)
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
            self._rounds.record("rebuild", (await self._auditor.rebuild(tick.run_id)).listed)
            self._next_scan = 0.0
            return
        self._audit_lanes = False
        if now >= self._next_audit:
            self._next_audit = now + _AUDIT_ROUNDS * self._settings.round_s
        try:
            repairs = await self._auditor.audit()
        except BaseException:
            self._audit_lanes = True
            raise
        self._rounds.record("audit", repairs.listed + repairs.rescored + repairs.pruned + repairs.cancelled)

    def _parked_due(self, tick: Tick) -> bool:
        return tick.parked > 0 and tick.pauses != self._parked_for

    async def _list_released(self, tick: Tick) -> None:
        """After a change of the pauses: the process that made it may have died before it listed what they held."""
        self._rounds.record("resume", await list_released(self._broker, self._store, await self._store.pauses.read()))
        self._parked_for = tick.pauses

    # -- other rounds

    def _dead_letters_due(self, _: Tick) -> bool:
        regular = asyncio.get_running_loop().time() >= self._next_dead_letters and not self._nothing_failed
        return self._audit_dead_letters or regular

    async def _repair_dead_letters(self, _: Tick) -> None:
        repaired = ProgressLog("repaired %d dead letters")
        requeued = ProgressLog("re-queued %d dead jobs that failed by a lost worker, a timeout or a store")
        self._audit_dead_letters = False
        self._next_dead_letters = asyncio.get_running_loop().time() + _AUDIT_ROUNDS * self._settings.round_s
        try:
            async for piece in self._dead_letters.pieces():
                repaired.add(piece.repaired)
                requeued.add(piece.requeued)
                self._rounds.record("dead letters", piece.repaired)
                self._rounds.record("automatic requeues", piece.requeued)
                self._dead_letter_task.progressed()
                if not self.leads:
                    break  # the next leader does its own round
        except BaseException:
            self._audit_dead_letters = True
            raise
        finally:
            repaired.end()
            requeued.end()

    def _expiry_due(self, _: Tick) -> bool:
        return asyncio.get_running_loop().time() >= self._next_expiry

    async def _expire(self, _: Tick) -> None:
        """Deletes take at most half of the time: MongoDB has other work."""
        clock = asyncio.get_running_loop().time
        began = clock()
        expired = ProgressLog(f"deleted %d jobs that ended more than {self._settings.retention_days:g} days ago")
        before = self._store.now() - timedelta(days=self._settings.retention_days)
        last: ObjectId | None = None
        try:
            while self.leads:
                piece_began = clock()
                done, last = await self._store.upkeep.expire(before, last)
                expired.add(done)
                self._rounds.record("expire", done)
                self._expiry.progressed()
                if last is None:
                    self._next_expiry = began + _EXPIRE_S
                    break
                await asyncio.sleep(clock() - piece_began)
        finally:
            expired.end()

    async def _run_schedules(self, _: Tick) -> None:
        await self._schedules.run()

    def _minutes_due(self, _: Tick) -> bool:
        return self._minutes.due()

    async def _close_minutes(self, _: Tick) -> None:
        await self._minutes.run()

    def _followups_due(self, _: Tick) -> bool:
        return self._followups.due()

    async def _follow_up(self, _: Tick) -> None:
        await self._followups.run()

    def _indexes_due(self, _: Tick) -> bool:
        return asyncio.get_running_loop().time() >= self._next_indexes

    async def _keep_indexes(self, _: Tick) -> None:
        self._next_indexes = asyncio.get_running_loop().time() + _AUDIT_ROUNDS * self._settings.round_s
        self._store.indexes.keep()


def _version(hint: str) -> int:
    """The version of the pauses that Redis has; 0 for anything else that stands there."""
    return int(hint) if hint.isascii() and hint.isdigit() and len(hint) < 19 else 0
