"""One process leads: it holds a lock in Redis, and while it does, it runs the rounds. Two at once do no harm."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from datetime import timedelta
from typing import Final

from dtqkit.broker import Broker
from dtqkit.broker.found import Tick
from dtqkit.ending import end
from dtqkit.errors import StoreUnavailable
from dtqkit.recovery.audit import Auditor
from dtqkit.recovery.deadletters import DeadLetterRounds
from dtqkit.recovery.minutes import MinuteRounds
from dtqkit.recovery.reap import LIMIT, Reaper
from dtqkit.recovery.rounds import Rounds
from dtqkit.recovery.silence import Silence
from dtqkit.settings import Settings
from dtqkit.store import Store
from dtqkit.store.clock import Step

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
        self._settings = settings
        self._broker = broker
        self._store = store
        self._candidate = f"{candidate}-{secrets.token_hex(4)}"
        self._reaper = Reaper(broker, store, rng)
        self._auditor = Auditor(broker, store)
        self._dead_letters = DeadLetterRounds(settings, broker, store)
        self._minutes = MinuteRounds(store, settings.retention_days)
        self._silence = Silence(settings.silence_s, _GAP_BEATS * settings.heartbeat_s)
        self._rounds = Rounds(self._candidate)
        self._vacant = asyncio.Event()
        #: The round that is under way: apart from the ticks, so that a long one does not cost the lock.
        self._round: asyncio.Task[None] | None = None
        self._round_since = 0.0
        self._put_off = False
        #: The last step of MongoDB's clock that was seen to.
        self._step: Step | None = None
        self.leads = False
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        """A new leader looks at everything at once, but takes running jobs only when their workers have had time."""
        self._next_survey = 0.0
        self._next_audit = 0.0
        self._next_expiry = 0.0
        self._recount_at: float | None = None
        # Workers renew what is older than a third of a lease, each sixth of one. If MongoDB's clock was set before
        # this process could notice, that puts it right.
        self._law_from = now + self._settings.lease_s / 2 + self._settings.heartbeat_s

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
            if self._round is not None:
                await end(self._round)
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
            log.info("%s leads", self._candidate)
            self._begin(asyncio.get_running_loop().time())
        self.leads = tick.leads
        if not tick.leads:
            return  # a round that is under way goes on: two leaders do no harm
        self._rounds.did("sweep", tick.swept)
        self._rounds.did("mend", tick.mended)
        if tick.mended:
            self._next_audit = 0.0
        now = asyncio.get_running_loop().time()
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._run_round(tick), name="round of recovery")
            self._round_since = now
        elif now - self._round_since > self._settings.lease_s:
            # Nobody recovers while it leads: better a process that is started again.
            raise RuntimeError(f"a round of recovery has hung for {now - self._round_since:.0f} s")

    async def _run_round(self, tick: Tick) -> None:
        """What fails stays due, so that the next round tries it again."""
        try:
            await self._recover(tick)
            self._put_off = False
        except StoreUnavailable as error:
            if not self._put_off:
                log.warning("recovery is put off: %s", error)
            self._put_off = True
            # Workers could not renew either: once MongoDB is back, they get the time to do so first.
            self._law_from = asyncio.get_running_loop().time() + self._settings.round_s
            self._next_survey = 0.0
        except Exception:
            log.exception("a round of recovery broke; the next one tries again")

    async def _recover(self, tick: Tick) -> None:
        now = asyncio.get_running_loop().time()
        await self._mind_clock()
        if tick.epoch != tick.run_id:
            self._rounds.did("rebuild", (await self._auditor.rebuild(tick.run_id)).listed)
            self._next_survey = 0.0
        for worker, score in self._silence.silent(now).items():
            await self._bury(worker, score)
        if now >= self._next_survey or (self._recount_at is not None and now >= self._recount_at):
            await self._survey(now)
        if now >= self._next_audit:
            await self._audit()
            self._next_audit = now + _AUDIT_ROUNDS * self._settings.round_s
        if now >= self._next_expiry:
            before = self._store.now() - timedelta(days=self._settings.retention_days)
            self._rounds.did("expire", await self._store.jobs.expire(before))
            self._next_expiry = now + _EXPIRE_S
        await self._minutes.run()
        if self._rounds.changed:
            await self._broker.note_rounds(self._rounds.encode())

    async def _bury(self, worker: str, score: str) -> None:
        """A silent worker: its jobs are taken; once it has none, it is forgotten."""

        async def still_silent() -> bool:
            tick = await self._lead()
            return tick.leads and self._silence.still(worker, score)

        docs = await self._store.jobs.running_of(worker)
        if docs:
            self._rounds.did("short cut", await self._reaper.of_silent(docs, still_silent))
        elif await self._broker.forget(worker, score):
            log.warning("worker %s is gone", worker)
            # It may have popped ids that it never claimed.
            self._rounds.did("audit", (await self._auditor.audit()).listed)

    async def _survey(self, now: float) -> None:
        """Running jobs whose lease is over; cancels that their workers may not have heard; and counts."""
        recount = self._recount_at is not None and now >= self._recount_at
        survey = await self._store.jobs.survey(LIMIT)
        if survey.overdue:
            await self._store.compare_clocks()  # after the survey: it is the clock that was used there
            await self._mind_clock()
        if survey.overdue and now >= self._law_from:
            self._rounds.did("law", await self._reaper.overdue(survey.overdue))
        await self._broker.ask_to_stop(survey.to_stop)
        self._rounds.did("survey", 0)
        if not await self._auditor.missing(survey.waiting):
            self._recount_at = None
        elif recount:
            await self._audit()
            self._recount_at = None
        elif self._recount_at is None:
            self._recount_at = now + self._settings.round_s * _AGAIN
        if survey.failed != survey.letters:
            await self._audit_dead_letters()
        self._next_survey = max(self._next_survey, now + self._settings.round_s if not recount else 0.0)

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
        self._law_from = max(self._law_from, now + self._settings.lease_s)
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
        self._next_audit = 0.0  # scores follow due times

    async def _audit(self) -> None:
        repairs = await self._auditor.audit()
        self._rounds.did("audit", repairs.listed + repairs.rescored + repairs.pruned + repairs.cancelled)
        await self._audit_dead_letters()

    async def _audit_dead_letters(self) -> None:
        repaired, recovered = await self._dead_letters.run()
        self._rounds.did("dead letters", repaired)
        self._rounds.did("another life", recovered)
