"""From a lane to a held claim. What a claim's outcome was is never guessed: the record is asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec
from bson import ObjectId
from bson.errors import InvalidId

from dtqkit.broker import Broker
from dtqkit.broker.broker import BLOCK_S, Popper
from dtqkit.broker.keys import member
from dtqkit.errors import StoreUnavailable
from dtqkit.jobs import Job, Priority
from dtqkit.lifecycle import Released, SupportsRandom, decide
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job
from dtqkit.store.jobs import Settlement, claim_max_s
from dtqkit.worker.slots import Slots

log = logging.getLogger("dtqkit.worker")

#: Longest pause in seconds between two tries when a store is away.
MAX_PAUSE_S: Final = 1.0
#: How long a full worker leaves what it has claimed listed as in flight, where it hides a missing id from a count.
FORGET_S: Final = 1.0


class Claimed(msgspec.Struct, frozen=True):
    """A job that is ours, since `sent` on the monotonic clock at the earliest."""

    id: ObjectId
    claim: ObjectId
    job: Job
    sent: float


class Unresolved(msgspec.Struct, frozen=True):
    """A claim whose outcome is not known yet."""

    ids: list[ObjectId]
    claim: ObjectId
    sent: float
    #: Whether it was for a job that had lost a worker, and whether that one must have this worker to itself.
    suspect: bool = False
    alone: bool = False


def _ids(members: Sequence[str]) -> list[ObjectId]:
    """The ids of members, each once; what is none is dropped, since Redis may hold anything."""
    ids: list[ObjectId] = []
    for text in dict.fromkeys(name.partition(":")[2] for name in members):
        try:
            ids.append(ObjectId(text))
        except InvalidId:
            log.warning("%r is no job id: dropped", text[:80])
    return ids


class Fetcher:
    """Fills the free slots of one worker: `start` is called with each job that is held."""

    def __init__(
        self,
        broker: Broker,
        store: Store,
        slots: Slots,
        *,
        worker: str,
        lanes: Sequence[Priority],
        lease_s: float,
        start: Callable[[Claimed], None],
        holds: Callable[[ObjectId, ObjectId], bool],
        rng: SupportsRandom,
    ) -> None:
        self._broker = broker
        self._store = store
        self._slots = slots
        self._worker = worker
        self._lanes = tuple(lanes)
        self._lease_s = lease_s
        self._start = start
        self._holds = holds
        self._rng = rng
        self._popper: Popper = broker.popper(lanes)
        self._claimed: list[str] = []
        self._unresolved: Unresolved | None = None
        #: Until when a claim of unknown outcome may still turn up, and when to look next.
        self._doubtful_until = 0.0
        self._look_at = 0.0
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`. A store that is away is waited for."""
        pause_s = 0.0
        try:
            while not self._stopping.is_set():
                try:
                    await self._round()
                    pause_s = 0.0
                except StoreUnavailable as error:
                    if not pause_s:
                        log.warning("cannot fetch: %s", error)
                    pause_s = min(MAX_PAUSE_S, pause_s * 2 or 0.05)
                    await self._pause(pause_s)
            if self._unresolved is not None:
                await self._resolve(self._unresolved)
        except StoreUnavailable as error:
            log.warning("a claim is left to its lease: %s", error)
        finally:
            await self._popper.close()

    async def stop(self, done: asyncio.Task[None]) -> None:
        """End `run`, which is the task `done`, without losing an id that a blocking pop is about to bring."""
        self._stopping.set()
        while not done.done():
            # Again and again: the first may come just before the pop, or the wait for a slot, begins.
            self._slots.wake()
            try:
                await self._popper.interrupt()
            except StoreUnavailable:
                pass  # then the pop fails by itself
            await asyncio.wait([done], timeout=0.1)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _round(self) -> None:
        if self._unresolved is not None:
            await self._resolve(self._unresolved)
            return
        now = asyncio.get_running_loop().time()
        if self._look_at <= now < self._doubtful_until:
            self._look_at = now + self._lease_s / 3
            await self._release_strays()
        free = await self._slots.free(self._patience_s(now))
        if self._stopping.is_set() or not (free or self._claimed):
            return
        claimed, self._claimed = self._claimed, []
        members = await self._broker.fetch(self._lanes, free, claimed)
        if not free:
            return  # to pop now would take a job beyond the slots
        if not members:
            popped = await self._popper.pop(BLOCK_S if now >= self._doubtful_until else min(BLOCK_S, self._lease_s / 6))
            if popped is None:
                return
            await self._claim([popped])
        else:
            put_back = await self._claim(members)
            # What was put back is in flight still: forgotten, it would be listed nowhere until the next audit.
            self._claimed = [name for name in members if name not in put_back]

    def _patience_s(self, now: float) -> float | None:
        """How long to wait for a slot: what was claimed is to be forgotten soon, and strays are to be looked for."""
        if self._claimed:
            return FORGET_S
        return self._lease_s / 6 if now < self._doubtful_until else None

    async def _claim(self, members: Sequence[str]) -> Collection[str]:
        """Claim what these stand for; returns those that were put back, to be popped again soon."""
        ids = _ids(members)
        if not ids:
            return ()
        claim = ObjectId()
        sent = asyncio.get_running_loop().time()
        try:
            if len(ids) == 1:
                doc = await self._store.jobs.claim_one(ids[0], claim, self._worker, self._lease_s)
                docs = [doc] if doc else []
            else:
                docs = await self._store.jobs.claim_many(ids, claim, self._worker, self._lease_s)
            held, since = await self._still_held(docs, claim, sent)
        except StoreUnavailable:
            self._doubt(Unresolved(ids, claim, sent))
            raise
        if len(held) > 1:  # in the order in which they stood in their lanes
            place = {job: i for i, job in enumerate(ids)}
            held.sort(key=lambda doc: place[doc["_id"]])
        self._take(held, claim, since)
        if len(docs) < len(ids):
            taken = {doc["_id"] for doc in docs}
            return await self._leftovers([job for job in ids if job not in taken])
        return ()

    def _take(self, docs: Sequence[Document], claim: ObjectId, sent: float) -> None:
        for doc in docs:
            self._start(Claimed(doc["_id"], claim, to_job(doc), sent))

    async def _still_held(self, docs: list[Document], claim: ObjectId, sent: float) -> tuple[list[Document], float]:
        """What was claimed, and since when at the earliest. A late reply is no proof: the job may have been taken."""
        now = asyncio.get_running_loop().time()
        if not docs or now - sent <= self._lease_s / 3:
            return docs, sent
        still = await self._store.jobs.renew([doc["_id"] for doc in docs], [claim], self._lease_s)
        return [doc for doc in docs if doc["_id"] in still], now

    def _doubt(self, claim: Unresolved) -> None:
        self._unresolved = claim
        self._look_at = claim.sent + self._lease_s / 3
        self._doubtful_until = claim.sent + 2 * self._lease_s

    async def _resolve(self, claim: Unresolved) -> None:
        """Find out what a claim took, once the server cannot carry it out any more."""
        wait_s = claim.sent + 1.2 * claim_max_s(self._lease_s) - asyncio.get_running_loop().time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        found = await self._store.jobs.held(claim.ids, claim.claim)
        docs, sent = await self._still_held(found, claim.claim, claim.sent)
        self._unresolved = None
        if docs and claim.suspect:
            self._slots.suspect, self._slots.alone = claim.claim, claim.alone
        self._take(docs, claim.claim, sent)

    async def _release_strays(self) -> None:
        """Give back what the record says runs here and does not: a claim that arrived after its outcome was asked for.

        No claim is under way while this runs.
        """
        docs = [
            doc for doc in await self._store.jobs.running_of(self._worker) if not self._holds(doc["_id"], doc["claim"])
        ]
        if not docs:
            return
        log.warning("%d claims came late and are given back", len(docs))
        jobs = [to_job(doc) for doc in docs]
        await self._store.jobs.settle(
            [
                Settlement(doc["_id"], doc["claim"], job.token, decide(job, Released(0.0), self._rng))
                for doc, job in zip(docs, jobs, strict=True)
            ]
        )
        await self._broker.put_back({member(job.priority, job.id): 0.0 for job in jobs})

    # -- what a claim did not take

    async def _leftovers(self, ids: list[ObjectId]) -> Collection[str]:
        """Not yet due: back to the schedule. Lost before: by itself. Anything else: not ours to run, dropped.

        Returns the members that are put back in flight, to be popped again soon.
        """
        again: dict[str, float] = {}
        soon: dict[str, float] = {}
        now_ms = self._store.now().timestamp() * 1000
        for doc in await self._store.jobs.status_of(ids):
            if doc["status"] not in ("pending", "scheduled") or doc.get("cancel_requested"):
                continue
            name = member(doc["priority"], str(doc["_id"]))
            due = doc.get("due_at") if doc["status"] == "scheduled" else None
            if due is not None and due.timestamp() * 1000 > now_ms:
                again[name] = due.timestamp() * 1000
            elif not doc["losses"] or not await self._suspect(doc):
                # Seen as not due by the claim and as due now, or another suspect runs here: soon again.
                soon[name] = 1000.0
        if again:
            await self._broker.push({}, again)
        if soon:
            await self._broker.put_back(soon)
        return soon

    async def _suspect(self, doc: Document) -> bool:
        """Claim a job that has lost a worker: one at a time, and alone if one more loss would be its last.

        Returns False when it cannot be taken here now.
        """
        last_chance = doc.get("max_losses", 3) - 1
        alone = doc["losses"] >= last_chance >= 1
        if not self._slots.may_take_suspect():
            return False
        if alone and not await self._slots.empty(self._stopping):
            return False
        claim = ObjectId()
        sent = asyncio.get_running_loop().time()
        try:
            found = await self._store.jobs.claim_one(
                doc["_id"], claim, self._worker, self._lease_s, max_losses=doc["losses"]
            )
            held, sent = await self._still_held([found] if found else [], claim, sent)
        except StoreUnavailable:
            self._doubt(Unresolved([doc["_id"]], claim, sent, suspect=True, alone=alone))
            raise
        if held:
            self._slots.suspect, self._slots.alone = claim, alone
            self._take(held, claim, sent)
        return True
