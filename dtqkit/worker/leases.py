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
Watch = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Leases:
    """Of the jobs in `held`, by id as text."""

    def __init__(self, store: Store, held: Mapping[str, Held], lease_s: float, watch: Watch) -> None:
        self._store = store
        self._held = held
        self._lease_s = lease_s
        self._watch = watch

    async def keep(self) -> None:
        """Each third of a lease: renew what is older than that; give back what could not be renewed for a whole one."""
        renewing: asyncio.Task[None] | None = None
        while True:
            await asyncio.sleep(self._lease_s / 6)
            if renewing is None or renewing.done():
                renewing = self._watch(self.renew(self._lease_s / 3), "renew leases")
            # Whatever becomes of that: it may hang.
            self._give_back_late()

    def _give_back_late(self) -> None:
        """Give back what could not be renewed for a whole lease, by an error or for want of an answer."""
        lease_s, now = self._lease_s, asyncio.get_running_loop().time()
        late = [h for h in self._held.values() if h.attempt.reason is None and now - h.lease_from >= lease_s]
        if late:
            ids = few([held.claimed.job.id for held in late])
            log.warning("giving back %d jobs: their leases were not renewed for %.0f s: %s", len(late), lease_s, ids)
        for held in late:
            held.attempt.stop("release")

    async def renew(self, older_than_s: float) -> None:
        """Renew the leases that are at least so old, in seconds; stop what the record says runs here no longer."""
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
            log.warning("stopping %d jobs: the record says that this worker holds them no longer: %s", len(lost), names)
        for held in lost:
            held.attempt.stop("gone")

    async def cancel(self, asked: Sequence[Held]) -> None:
        """Stop what the record says is to be cancelled: what Redis lists is a hint, and comes again with each beat."""
        try:
            meant = await self._store.jobs.to_cancel([(h.claimed.id, h.claimed.claim) for h in asked])
        except StoreUnavailable as error:
            log.warning("cannot ask whether %d jobs are cancelled: %s", len(asked), error)
            return
        for held in asked:
            if (held.claimed.id, held.claimed.claim) in meant:
                held.attempt.stop("cancel")
