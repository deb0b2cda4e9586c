"""From the lanes to claims: only for jobs that start at once.

A lane holds ids and does not say what they need. Ids are popped for the kind of slot that jobs have needed of late, and
the claim names the tasks for which a slot is free; the rest goes back to the front of its lane. From then on, for as
long as such jobs stand in front, and when only slots of the other kind are free, nothing is popped: the front of the
lanes is looked at, and what fits is taken out. So a job that cannot run here now blocks nothing behind it, and stays
where another worker finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final

from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.broker.members import ids_of, without
from dtqkit.broker.popper import BLOCK_S, Popper
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.jobs import TERMINAL, WAITING, Priority
from dtqkit.model.lifecycle import patience_s
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.transitions.release import not_claimed, unpop
from dtqkit.worker.awaited import MIN_PAUSE_S, Awaited
from dtqkit.worker.claim import Claimer, Wanted
from dtqkit.worker.kinds import KINDS, Kinds
from dtqkit.worker.lookahead import LookAhead
from dtqkit.worker.pausing import KnownPauses
from dtqkit.worker.sift import SIFTED, Sifter
from dtqkit.worker.slots import PROBATION_S, Free, Kind, Slots
from dtqkit.worker.unknown import UnknownTasks

log = logging.getLogger("dtqkit.worker")

#: Longest pause in seconds between two tries when a store is away.
MAX_PAUSE_S: Final = 1.0
#: How long a full worker leaves what it has claimed listed as in flight, where it hides a missing id from a count.
FORGET_S: Final = 1.0
#: Losses from which on a job runs alone, so that another's doing costs no job more than so many.
ALONE_FROM: Final = 2
#: The longest wait for a slot, in seconds: tasks may have been registered meanwhile.
LOOK_S: Final = 1.0
#: How long a worker looks before it pops, after it has popped what it cannot run now, in seconds.
CAREFUL_S: Final = 5.0


class Fetcher:
    """Fills the free slots of one worker."""

    def __init__(
        self,
        broker: Broker,
        store: Store,
        slots: Slots,
        kinds: Kinds,
        claimer: Claimer,
        *,
        lanes: Sequence[Priority],
        lease_s: float,
        awaited: Callable[[], list[ObjectId]],
        pauses: KnownPauses | None = None,
    ) -> None:
        """`awaited` gives the jobs that running jobs wait for."""
        self._broker = broker
        self._store = store
        self._slots = slots
        self._kinds = kinds
        self._claimer = claimer
        self._pauses = pauses = pauses or KnownPauses(store, lanes)
        self._lease_s = lease_s
        self._awaited = awaited
        self._popper: Popper = broker.popper(lanes)
        self._unknown = UnknownTasks(kinds)
        self._look_ahead = LookAhead(broker, store, kinds, self._unknown, lanes)
        self._sifter = Sifter(broker, store, pauses)
        self._claimed: list[str] = []
        #: What was popped and is not known to be claimed, nor put back.
        self._undecided: list[str] = []
        #: When that is to be forgotten at the latest.
        self._forget_at = 0.0
        #: The kind of slot that the last of many jobs has needed.
        self._usual: Kind = "loop"
        #: Jobs that could not begin here, each with until when they are left to others.
        self._avoided: dict[str, float] = {}
        #: Until when nothing is popped without a look.
        self._careful_until = 0.0
        self._looks = Awaited()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`. A store that is away is waited for."""
        pause_s = 0.0
        try:
            while not self._stopping.is_set():
                try:
                    if self._claimer.unresolved or self._undecided:
                        await self._decide()
                        continue  # the next claim says whether claims are taken again
                    await self._round()
                    pause_s = 0.0
                except StoreUnavailable as error:
                    if not pause_s:
                        log.warning("cannot fetch: %s", error)
                    pause_s = min(MAX_PAUSE_S, pause_s * 2 or 0.05)
                    await self._pause(pause_s)
            await self._decide()
        except StoreUnavailable as error:
            log.warning("the outcome of a claim is unknown; its jobs are recovered when their leases expire: %s", error)
        finally:
            await self._popper.close()

    async def stop(self, done: asyncio.Task[None]) -> None:
        """End `run`, which is the task `done`, without losing an id that a blocking pop is about to bring."""
        self._stopping.set()
        while not done.done():
            # Again and again: the first may come just before the pop, or the wait for a slot, begins.
            await self.wake()
            await asyncio.wait([done], timeout=0.1)

    async def stop_at_once(self, done: asyncio.Task[None], within_s: float) -> None:
        """The same within `within_s`: then `done` is cancelled, and a claim that is under way is doubtful."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s / 2):
                await self.stop(done)
        done.cancel()
        undecided = without(self._undecided, ())
        if undecided:  # what a claim takes all the same is dropped where it is popped
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(within_s / 2):
                    await unpop(self._broker, undecided)

    async def wake(self) -> None:
        """End a pop, or a wait for a slot, that is under way."""
        self._looks.soon()
        self._slots.wake()
        try:
            await self._popper.interrupt()
        except StoreUnavailable:
            pass  # then the pop fails by itself

    async def read_pauses(self, version: str) -> None:
        """Read the pauses again, since Redis has this version of them: what has changed is in force at once."""
        if await self._pauses.read(version):
            await self.wake()

    def avoid(self, job: str, times: int) -> None:
        """Leave a job that could not begin here to other workers, the longer the more often it happened before."""
        now = asyncio.get_running_loop().time()
        self._avoided[job] = now + patience_s(times)
        self._careful_until = now + CAREFUL_S

    def help_soon(self) -> None:
        """A slot that a waiting job lends is free again."""
        self._looks.soon()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    # -- rounds

    async def _round(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._avoided:
            self._avoided = {job: until for job, until in self._avoided.items() if until > now}
        if self._pauses.now:
            self._pauses.refresh()
        self._slots.mark()
        await self._claimer.look_for_strays(now)
        if self._slots.lent and not self._looks.wait_s(now):
            await self._help()
        if not (free := self._free()):
            await self._slots.change(self._patience_s(now))
            free = self._free()
        if self._stopping.is_set():
            return
        if free and self._sifter.due:
            await self._sift()
        elif free.of(self._likely()) and now >= self._careful_until:
            await self._pop(free, now)
        elif self._claimed and (not free or now >= self._forget_at):
            await self._broker.fetch((), 0, self._forgotten())
        elif free and now < self._look_ahead.next_at:
            await self._slots.change(min(self._look_ahead.next_at - now, self._patience_s(now)))
        elif free:
            await self._take_behind(free, now)

    def _free(self) -> Free:
        """Of the free slots, those that some task needs."""
        present = self._kinds.present()
        free = self._slots.now()
        return Free(free.loop if "loop" in present else 0, free.process if "process" in present else 0)

    def _forgotten(self) -> list[str]:
        """What was claimed, and is to be listed as in flight no more."""
        claimed, self._claimed = self._claimed, []
        return claimed

    def _note(self, members: Sequence[str], put_back: Collection[str]) -> None:
        """Remember what was claimed. What was put back is in flight still: forgotten, it would be listed nowhere until
        the next audit."""
        if not self._claimed:
            self._forget_at = asyncio.get_running_loop().time() + FORGET_S
        self._claimed += [name for name in members if name not in put_back] if put_back else members

    def _likely(self) -> Kind:
        """The kind of slot that the next job probably needs."""
        present = self._kinds.present()
        return self._usual if self._usual in present or not present else present[0]

    async def _pop(self, free: Free, now: float) -> None:
        want = self._likely()
        lanes = self._pauses.lanes
        members = await self._broker.fetch(lanes, free.of(want), self._forgotten())
        if not members and not lanes:
            await self._slots.change(min(LOOK_S, self._block_s(now)))
        if not members:
            popped = await self._popper.pop(self._block_s(now), lanes) if lanes else None
            if popped is None:
                return
            members = [popped]
            free = self._free()  # the pop may have taken its time
        fits: list[Kind] = [kind for kind in KINDS if len(members) <= free.of(kind)]
        tasks = self._kinds.names(*(fits or [want]))
        put_back = await self._claim(members, tasks)
        self._note(members, put_back)

    def _block_s(self, now: float) -> float:
        block_s = max(MIN_PAUSE_S, min(BLOCK_S, self._pauses.ends_in_s())) if self._pauses.now else BLOCK_S
        if self._claimer.doubtful(now):
            return min(block_s, self._lease_s / 6)
        return min(block_s, max(MIN_PAUSE_S, self._looks.wait_s(now))) if self._slots.lent else block_s

    def _patience_s(self, now: float) -> float:
        """How long to wait for a slot: what was claimed is to be forgotten soon, strays and awaited jobs looked for."""
        if self._claimed:
            return FORGET_S
        if self._slots.lent:
            return max(MIN_PAUSE_S, self._looks.wait_s(now))
        return min(LOOK_S, self._lease_s / 6) if self._claimer.doubtful(now) else LOOK_S

    async def _take_behind(self, free: Free, now: float) -> None:
        """What fits, from behind what does not; a pause when there is none."""
        self._look_ahead.lanes = self._pauses.lanes
        members = await self._look_ahead.take(free, self._likely(), self._avoided)
        self._careful_until = now + CAREFUL_S if self._look_ahead.blocked else 0.0
        if members:
            kinds: list[Kind] = [kind for kind in KINDS if free.of(kind)]
            put_back = await self._claim(members, self._kinds.names(*kinds))
            self._note(members, put_back)
        else:
            self._look_ahead.pause(now)

    async def _claim(self, members: Sequence[str], tasks: list[str]) -> Collection[str]:
        """Claim what these stand for; returns those that were put back."""
        if self._pauses.now:
            self._pauses.refresh()
        ids = ids_of(members)
        self._undecided = list(members)
        wanted = [job for job in ids if str(job) not in self._avoided] if self._avoided else ids
        docs = await self._claimer.claim(Wanted(wanted, tasks)) if wanted and tasks else []
        if len(docs) > 1:
            self._usual = self._kinds.of(docs[-1]["task"]) or self._usual
        put_back: Collection[str] = ()
        if len(docs) < len(ids):
            taken = {doc["_id"] for doc in docs}
            self._undecided = without(members, taken)
            put_back = await self._leftovers([job for job in ids if job not in taken])
        self._undecided = []
        # What ends at once frees its slot before the next look: else each claim of many is followed by one of few.
        await asyncio.sleep(0)
        return put_back

    async def _sift(self) -> None:
        """Take paused jobs and those that are over out of the lanes, many at a time: none blocks what is behind it."""
        members = self._undecided = await self._broker.fetch(self._pauses.lanes, SIFTED, self._forgotten())
        left = await self._sifter.sift(members)
        if left:
            await unpop(self._broker, left)
        self._note(members, {*left, *self._sifter.kept})
        self._undecided = []

    async def _decide(self) -> None:
        """After an error: find out what a claim took, and put the rest of what was popped back where it stood."""
        self._undecided = without(self._undecided, await self._claimer.resolve())
        if self._undecided:
            await unpop(self._broker, self._undecided)
            self._undecided = []

    # -- what a claim did not take

    async def _leftovers(self, ids: list[ObjectId]) -> Collection[str]:
        """Find out why, and list each id where it belongs. Returns the members that are listed elsewhere."""
        not_due: list[Document] = []
        suspects: list[Document] = []
        front: list[Document] = []
        fits: dict[Kind, list[Document]] = {"loop": [], "process": []}
        now = self._store.now()
        docs = await self._store.jobs.status_of(ids)
        waiting = [doc for doc in docs if doc["status"] in WAITING and not doc.get("cancel_requested")]
        self._sifter.dropped(len(ids) - len(waiting))
        kept: Collection[str] = ()
        if self._pauses.now and waiting:
            waiting, kept = await self._sifter.park(waiting)
        for doc in waiting:
            due = doc.get("due_at") if doc["status"] == "scheduled" else None
            kind = self._kinds.of(doc["task"])
            if due is not None and due > now:
                not_due.append(doc)
            elif doc["priority"] not in self._pauses.lanes:
                front.append(doc)
            elif kind is None or str(doc["_id"]) in self._avoided:
                self._careful_until = asyncio.get_running_loop().time() + CAREFUL_S
                front.append(doc)
                if kind is None:
                    self._unknown.left(doc["task"])
            elif doc["losses"]:
                if not await self._suspect(doc, kind):
                    suspects.append(doc)
            else:
                fits[kind].append(doc)
        for kind, docs in fits.items():
            taken = await self._others(docs, kind)
            left = [doc for doc in docs if doc["_id"] not in taken]
            if left:
                self._careful_until = asyncio.get_running_loop().time() + CAREFUL_S
                front += left
        put_back = await not_claimed(self._broker, not_due=not_due, later=suspects, in_s=PROBATION_S, front=front)
        return {*put_back, *kept}

    async def _others(self, docs: list[Document], kind: Kind) -> set[ObjectId]:
        """Claim, of these jobs of another kind than was expected, as many as start at once."""
        ids = [doc["_id"] for doc in docs][: self._slots.now().of(kind)]
        if len(docs) > 1:
            self._usual = kind
        claimed = await self._claimer.claim(Wanted(ids, self._kinds.names(kind))) if ids else []
        return {doc["_id"] for doc in claimed}

    async def _suspect(self, doc: Document, kind: Kind, *, borrowed: bool = False) -> bool:
        """Claim a job that has lost a worker: alone after its second loss, or if one more would be its last.

        Returns False when it cannot be taken here now.
        """
        if not self._slots.suspects.may_begin(asyncio.get_running_loop().time()):
            return False
        alone = doc["losses"] >= min(ALONE_FROM, doc.get("max_losses", 3) - 1) >= 1
        if alone:
            if not await self._slots.empty(self._stopping):
                return False
        elif not borrowed and not self._slots.now().of(kind):
            return False
        wanted = Wanted([doc["_id"]], self._kinds.names(kind), losses=doc["losses"], alone=alone, borrowed=borrowed)
        return bool(await self._claimer.claim(wanted))

    # -- what running jobs wait for

    async def _help(self) -> None:
        """Start what running jobs wait for in the slots that these lend, wherever it stands in the lanes.

        Its id stays listed there, and is dropped when it is popped.
        """
        free = self._slots.lending()
        ids = self._looks.next(self._awaited(), free.loop + free.process) if free else []
        docs = await self._store.jobs.status_of(ids) if ids else []
        there = {doc["_id"] for doc in docs if doc["status"] not in TERMINAL}
        ready = [doc for doc in docs if self._may_help(doc) and str(doc["_id"]) not in self._avoided]
        started = 0
        for kind in self._kinds.present():
            some = [doc for doc in ready if self._kinds.of(doc["task"]) == kind][: self._slots.lending().of(kind)]
            fresh = [doc["_id"] for doc in some if not doc["losses"]]
            if fresh:
                started += len(await self._claimer.claim(Wanted(fresh, self._kinds.names(kind), borrowed=True)))
            for doc in some:
                if doc["losses"]:
                    started += await self._suspect(doc, kind, borrowed=True)
        over = [job for job in ids if job not in there]
        now = asyncio.get_running_loop().time()
        self._looks.looked(now, ids, over, [doc["_id"] for doc in ready], started)

    def _may_help(self, doc: Document) -> bool:
        now = self._store.now()
        due = doc["status"] == "pending" or (doc["status"] == "scheduled" and doc.get("due_at", now) <= now)
        return due and not doc.get("cancel_requested") and doc["priority"] in self._pauses.lanes
