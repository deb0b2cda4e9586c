"""The leases of what a worker holds: renewed in time, and jobs stopped whose claim is lost or that are cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from dtqkit.model.errors import StoreUnavailable
from dtqkit.store import Store
from dtqkit.support.formatting import few
from dtqkit.worker.held import Held

log = logging.getLogger("dtqkit.worker")

#: Starts a background task with a name.
Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Leases:
    """Of the jobs in `held`, by id as text."""

    def __init__(self, store: Store, held: Mapping[str, Held], lease_s: float, watch: Spawn) -> None:
        self._store = store
        self._held = held
        self._lease_s = lease_s
        self._watch = watch

    async def keep(self) -> None:
        """Each third of a lease: renew leases older than that; give back jobs not renewed for a whole lease."""
        renewing: asyncio.Task[None] | None = None
        while True:
            await asyncio.sleep(self._lease_s / 6)
            if renewing is None or renewing.done():
                renewing = self._watch(self.renew(self._lease_s / 3), "renew leases")
            # Without waiting for it: it may hang.
            self._give_back_late()

    def _give_back_late(self) -> None:
        """Give back jobs whose lease could not be renewed for its whole length, by an error or without an answer."""
        lease_s, now = self._lease_s, asyncio.get_running_loop().time()
        late = [h for h in self._held.values() if h.attempt.reason is None and now - h.lease_from >= lease_s]
        if late:
            ids = few([held.claimed.job.id for held in late])
            log.warning("leases lost: not renewed for %.0f s; giving back %d jobs: %s", lease_s, len(late), ids)
        for held in late:
            held.attempt.stop("release")

    async def renew(self, older_than_s: float) -> None:
        """Renew the leases that are at least so old, in seconds; stop jobs whose claims are lost."""
        now = asyncio.get_running_loop().time()
        due = [h for h in self._held.values() if now - h.lease_from >= older_than_s]
        if not due:
            return
        try:
            still = await self._store.jobs.renew(
                [h.claimed.id for h in due], [h.claimed.claim for h in due], self._lease_s
            )
        except StoreUnavailable as error:
            log.warning("cannot renew %d leases: %s", len(due), error)
            return
        lost: list[Held] = []
        for held in due:
            if held.claimed.id in still:
                held.lease_from = now
            elif self._held.get(held.claimed.job.id) is held:
                lost.append(held)
        if lost:
            names = few([held.claimed.job.id for held in lost])
            log.warning("stopping %d jobs: their claims are lost, since others recovered them: %s", len(lost), names)
        for held in lost:
            held.attempt.stop("gone")

    async def cancel(self, asked: Sequence[Held]) -> None:
        """Stop jobs that are cancelled in the record: the list in Redis is only a hint, repeated with each beat."""
        try:
            meant = await self._store.jobs.to_cancel([(h.claimed.id, h.claimed.claim) for h in asked])
        except StoreUnavailable as error:
            log.warning("cannot check whether %d jobs are cancelled: %s", len(asked), error)
            return
        for held in asked:
            if (held.claimed.id, held.claimed.claim) in meant:
                held.attempt.stop("cancel")
