"""Mistakes by which other queues lost jobs, as mutations of the code: with one, a test must fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from dtqkit.broker.client import Script
from dtqkit.broker.found import Tick
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import Depths
from dtqkit.model.jobs import Job, JobError
from dtqkit.model.outcomes import Change, Failure
from dtqkit.model.policy import SupportsRandom
from dtqkit.recovery import leader
from dtqkit.recovery.heartbeats import MissedHeartbeats
from dtqkit.recovery.leader import Leader
from dtqkit.store import documents, jobs
from dtqkit.store.documents import Document
from dtqkit.store.settlements import Settlement
from dtqkit.worker.beat import Beat
from dtqkit.worker.claim import Claimer, Wanted
from dtqkit.worker.fetch import Fetcher
from dtqkit.worker.worker import Worker

# Everything here reaches into private parts: that is what a mutation is.
# pyright: reportPrivateUsage=false


def absent_is_dead() -> None:
    """Trap 1: a worker that Redis does not list is dead."""
    recover = Leader._recover_from_dead

    async def naive(self: Leader, tick: Tick) -> None:
        async def yes() -> bool:
            return True

        collection = self._store.jobs._jobs
        docs = await collection.find({"status": "running", "worker": {"$nin": list(tick.scores)}}).to_list()
        if docs:
            await self._lost.mark_on_missed_heartbeats(docs, yes)
        await recover(self, tick)

    def always(self: Leader, tick: Tick) -> bool:
        return True

    leader: Any = Leader
    leader._some_missing = always
    leader._recover_from_dead = naive


def age_of_the_score_decides() -> None:
    """Trap 2: a worker is dead by the age of its score, even if Redis was away."""

    def missing(self: MissedHeartbeats, now: float) -> dict[str, str]:
        import time

        limit_ms = (time.time() - self._silence_s) * 1000
        return {worker: seen.score for worker, seen in self._seen.items() if float(seen.score) < limit_ms}

    MissedHeartbeats.missing = missing


def lost_reply_is_not_mine() -> None:
    """Trap 3: a claim whose reply did not come took nothing."""
    claim = Claimer.claim

    async def naive(self: Claimer, wanted: Wanted) -> list[Document]:
        try:
            return await claim(self, wanted)
        except StoreUnavailable:
            self._unresolved = None
            raise

    Claimer.claim = naive

    async def nothing(self: Claimer) -> None:
        pass

    Claimer._release_strays = nothing


def find_by_claim_alone() -> None:
    """Trap 4: what carries my claim is mine, whatever its status."""

    def held(ids: list[Any], claim: Any) -> Document:
        return {"_id": {"$in": ids}, "claim": claim}

    async def renew(_: object, ids: Any, *__: object) -> set[Any]:
        return set(ids)

    documents.held = held
    cast(Any, jobs.Jobs).renew = renew


def completion_without_a_fence() -> None:
    """Trap 5: every result is recorded, also if another claim holds the job by now."""

    def held(ids: list[Any], claim: Any) -> Document:
        return {"_id": {"$in": ids}}

    commands = jobs.commands

    def naive(ends: Sequence[Settlement]) -> Any:
        before, documents.held = documents.held, held
        try:
            return list(commands(ends))
        finally:
            documents.held = before

    jobs.commands = naive
    settle = jobs.Jobs.settle

    async def each(self: jobs.Jobs, settlements: Sequence[Settlement]) -> Any:
        # A single end is never fenced at all.
        if len(settlements) == 1:
            update = documents.ending(settlements[0].change)
            if settlements[0].change.status == "completed":
                update = cast(Any, documents.completing(settlements[0].change, 1))
            await self._jobs.update_one({"_id": settlements[0].id}, update)
            return set[Any]()
        return await settle(self, settlements)

    jobs.Jobs.settle = each


def cancel_read_before() -> None:
    """Trap 6: whether the cancel was asked for is read at the claim, not in the write."""
    cast(dict[str, Any], documents.CANCELLED).update({"$eq": ["$cancel_requested", "when it was claimed"]})


def beat_from_the_loop() -> None:
    """Trap 9: the beat needs the loop that tasks may block."""
    once = Beat._once

    def naive(self: Beat, beat: Script, depths: Depths | None, *, with_tasks: bool) -> Any:
        async def turn() -> None:
            pass

        asyncio.run_coroutine_threadsafe(turn(), _loop[0]).result()
        return once(self, beat, depths, with_tasks=with_tasks)

    run = Worker.run

    async def remembering(self: Worker) -> None:
        _loop.append(asyncio.get_running_loop())
        await run(self)

    Beat._once = naive
    Worker.run = remembering
    no_guardian()


_loop: list[asyncio.AbstractEventLoop] = []


def no_guardian() -> None:
    """Trap 9: no heartbeats for a worker whose heartbeat thread cannot run."""
    from dtqkit.worker.guardian import guardian

    guardian._refused = True


def a_loss_is_a_failure() -> None:
    """Trap 10: a job whose worker died has had one of its attempts."""
    from dtqkit.model import policy

    def lost(job: Job, rng: SupportsRandom) -> Change:
        return policy._failed(job, Failure(JobError("worker_lost", "WorkerLost", "lost"), None), rng)

    policy._lost = lost


def counts_are_enough() -> None:
    """Trap 11: when as many are listed as wait, they are the same."""
    cast(Any, leader)._AUDIT_ROUNDS = 1_000_000


def no_reconnect() -> None:
    """Trap 13: a process that has lost Redis once never reconnects."""
    round_ = Fetcher._round

    async def naive(self: Fetcher) -> None:
        try:
            await round_(self)
        except StoreUnavailable:
            await self._stopping.wait()

    Fetcher._round = naive


def renewals_hang() -> None:
    """Not naive, but what a driver may do."""

    async def hang(self: jobs.Jobs, *arguments: object) -> Any:
        await asyncio.Event().wait()

    jobs.Jobs.renew = cast(Any, hang)


NAIVE: Final[Mapping[str, Callable[[], None]]] = {
    function.__name__: function
    for function in (
        absent_is_dead,
        age_of_the_score_decides,
        lost_reply_is_not_mine,
        find_by_claim_alone,
        completion_without_a_fence,
        cancel_read_before,
        beat_from_the_loop,
        no_guardian,
        a_loss_is_a_failure,
        counts_are_enough,
        no_reconnect,
        renewals_hang,
    )
}
