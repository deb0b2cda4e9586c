"""Claims. The outcome of a claim is never guessed: it is read from the record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from bson import ObjectId

from dtqkit.broker import Broker
from dtqkit.model.errors import DocumentRefused, OutcomeUnknown, StoreUnavailable
from dtqkit.model.jobs import Job
from dtqkit.model.policy import SupportsRandom
from dtqkit.store import Store
from dtqkit.store.documents import Document, to_job
from dtqkit.store.fields import job_of
from dtqkit.store.jobs import claim_max_s
from dtqkit.transitions.release import release_claims

log = logging.getLogger("dtqkit.worker")

#: Jobs that MongoDB refused of late which are remembered; and how many in a row are not about one.
MAX_REFUSED: Final = 1000
MAX_IN_A_ROW: Final = 5


class Claimed(msgspec.Struct, frozen=True):
    """A job that this worker holds: claimed at `sent` at the earliest, known since `known`, by the monotonic clock."""

    id: ObjectId
    claim: ObjectId
    job: Job
    sent: float
    known: float
    #: Whether it runs in a slot that a waiting job lends.
    borrowed: bool = False
    #: Whether it must have this worker to itself.
    alone: bool = False


class Wanted(msgspec.Struct, frozen=True):
    """What a claim is to bring."""

    ids: list[ObjectId]
    #: The tasks that this worker can begin now: no other job is claimed.
    tasks: list[str]
    #: Losses that a job may have; more than none only for one job at a time.
    losses: int = 0
    #: Whether it must have this worker to itself.
    alone: bool = False
    borrowed: bool = False


class Unresolved(msgspec.Struct, frozen=True):
    """A claim whose outcome is not known yet."""

    wanted: Wanted
    claim: ObjectId
    sent: float
    #: Whether the server refused it or never got it: then it cannot take effect any more.
    answered: bool


class Claimer:
    """Claims jobs for one worker: `start` is called with those that it holds by a claim."""

    def __init__(
        self,
        broker: Broker,
        store: Store,
        *,
        worker: str,
        lease_s: float,
        start: Callable[[list[Claimed]], None],
        holds: Callable[[ObjectId, ObjectId], bool],
        refused: Callable[[ObjectId, int], None],
        rng: SupportsRandom,
    ) -> None:
        """`refused` gets a job that MongoDB does not take as a claimed one, and how often it did so before."""
        self._broker = broker
        self._store = store
        self._worker = worker
        self._lease_s = lease_s
        self._start = start
        self._holds = holds
        self._rng = rng
        self._refused = refused
        #: Jobs that MongoDB did not take as claimed ones, each with how often; and those since it last took one.
        self._refusals: dict[ObjectId, int] = {}
        self._refused_in_a_row: set[ObjectId] = set()
        self._unresolved: Unresolved | None = None
        #: A claim is under way. It stays true for a cancelled one: then this worker ends.
        self._claiming = False
        #: Until when a claim of unknown outcome may still turn up, and when to look next.
        self._doubtful_until = 0.0
        self._look_at = 0.0

    @property
    def unresolved(self) -> bool:
        return self._unresolved is not None

    def doubtful(self, now: float) -> bool:
        """Whether a claim of unknown outcome may still turn up."""
        return self._claiming or now < self._doubtful_until

    async def look_for_strays(self, now: float) -> None:
        """Each third of a lease while it is doubtful."""
        if self.doubtful(now) and now >= self._look_at:
            self._look_at = now + self._lease_s / 3
            await self._release_strays()

    async def claim(self, wanted: Wanted) -> list[Document]:
        """Claim what fits; returns what was held. Raises StoreUnavailable: then `resolve` comes first."""
        claim = ObjectId()
        sent = asyncio.get_running_loop().time()
        self._claiming = True
        try:
            if len(wanted.ids) == 1:
                doc = await self._store.jobs.claim_one(
                    wanted.ids[0], claim, self._worker, self._lease_s, tasks=wanted.tasks, max_losses=wanted.losses
                )
                docs = [doc] if doc else []
            else:
                docs = await self._store.jobs.claim_many(
                    wanted.ids, claim, self._worker, self._lease_s, tasks=wanted.tasks
                )
            held, since = await self._still_held(docs, claim, sent)
        except StoreUnavailable as error:
            answered = error.reason != "away" or not isinstance(error, OutcomeUnknown)
            self._doubt(Unresolved(wanted, claim, sent, answered))
            raise
        except DocumentRefused as error:
            if len(wanted.ids) == 1:
                self._claiming = False
                self._left(wanted.ids[0], error)
                return []
            self._doubt(Unresolved(wanted, claim, sent, answered=True))
            return await self._one_by_one(wanted)
        self._claiming = False
        if docs and self._refused_in_a_row:
            self._refused_in_a_row = set()
        if len(held) > 1:  # in the order in which they stood in their lanes
            place = {job: i for i, job in enumerate(wanted.ids)}
            held.sort(key=lambda doc: place[doc["_id"]])
        self._start(_claimed(held, claim, since, wanted))
        return docs

    def _doubt(self, unresolved: Unresolved) -> None:
        """It is not known what this claim took."""
        self._unresolved = unresolved
        self._look_at = unresolved.sent + self._lease_s / 3
        self._doubtful_until = unresolved.sent + 2 * self._lease_s
        self._claiming = False

    async def _one_by_one(self, wanted: Wanted) -> list[Document]:
        """After a claim of many that MongoDB refused for one of them: the others are not held up by it."""
        docs = await self._resolved()
        taken = {doc["_id"] for doc in docs}
        for job in wanted.ids:
            if job not in taken:
                docs += await self.claim(msgspec.structs.replace(wanted, ids=[job]))
        return docs

    def _left(self, job: ObjectId, error: DocumentRefused) -> None:
        """Raises StoreUnavailable when MongoDB refuses one job after the other: then it is not about one of them."""
        before = self._refusals.pop(job, 0)
        if len(self._refusals) >= MAX_REFUSED:
            del self._refusals[next(iter(self._refusals))]
        self._refusals[job] = before + 1
        if not before:
            log.warning(
                "job %s cannot be claimed; leaving it to other workers for some seconds, then longer: %s", job, error
            )
        self._refused(job, before)
        self._refused_in_a_row.add(job)
        if len(self._refused_in_a_row) > MAX_IN_A_ROW:
            raise StoreUnavailable("MongoDB", "", f"refuses one claim after the other ({error})", reason="refused")

    async def _still_held(self, docs: list[Document], claim: ObjectId, sent: float) -> tuple[list[Document], float]:
        """What was claimed, and since when at the earliest. A late reply is no proof: the job may have been taken."""
        now = asyncio.get_running_loop().time()
        if not docs or now - sent <= self._lease_s / 3:
            return docs, sent
        still = await self._store.jobs.renew([doc["_id"] for doc in docs], [claim], self._lease_s)
        return [doc for doc in docs if doc["_id"] in still], now

    async def resolve(self) -> set[ObjectId]:
        """Find out what a claim took, once the server cannot carry it out any more: those jobs begin."""
        return {doc["_id"] for doc in await self._resolved()}

    async def _resolved(self) -> list[Document]:
        unresolved = self._unresolved
        if unresolved is None:
            return []
        wait_s = unresolved.sent + 1.2 * claim_max_s(self._lease_s) - asyncio.get_running_loop().time()
        if wait_s > 0 and not unresolved.answered:
            await asyncio.sleep(wait_s)
        # By a write: around an election, a majority read may be older than what the primary has already got. Once a
        # write is acknowledged, even one that matched nothing, all that came before it can be read.
        sent = asyncio.get_running_loop().time()
        still = await self._store.jobs.renew(unresolved.wanted.ids, [unresolved.claim], self._lease_s)
        docs = await self._store.jobs.held(list(still), unresolved.claim) if still else []
        self._unresolved = None
        self._start(_claimed(docs, unresolved.claim, sent, unresolved.wanted))
        return docs

    async def _release_strays(self) -> None:
        """Give back jobs that by the record run here and do not: of claims that arrived after their outcome was read.

        No claim is under way while this runs.
        """
        docs = [
            doc for doc in await self._store.jobs.running_of(self._worker) if not self._holds(doc["_id"], doc["claim"])
        ]
        if not docs:
            return
        log.warning("giving back %d jobs: their claims took effect late", len(docs))
        await release_claims(self._broker, self._store, docs, self._rng)


def _claimed(docs: Sequence[Document], claim: ObjectId, sent: float, wanted: Wanted) -> list[Claimed]:
    known = asyncio.get_running_loop().time()
    return [Claimed(doc["_id"], claim, _job(doc), sent, known, wanted.borrowed, wanted.alone) for doc in docs]


def _job(doc: Document) -> Job:
    """Another program may have written it without what each job has."""
    if type(doc.get("token")) is int and type(doc.get("rev")) is int and "created_at" in doc:
        return to_job(doc)
    return job_of(doc)
