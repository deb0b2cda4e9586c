"""The schedules that a worker's code declares: put into the record at its start, and again now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from dtqkit.broker import Broker
from dtqkit.control.schedules import Applied
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.schedule_changes import VISIT_S
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.support.cancel import end
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.transitions.enqueue import Enqueuer
from dtqkit.transitions.scheduling import Scheduling
from dtqkit.transitions.tick import Ticker

log = logging.getLogger("dtqkit.worker")

#: Pause after a store did not answer, in seconds.
AGAIN_S: Final = 2.0


@asynccontextmanager
async def declared(settings: Settings, registry: TaskRegistry, broker: Broker, store: Store) -> AsyncGenerator[None]:
    """Keep the schedules that `registry` has by then in the record, meanwhile."""
    if not len(registry.scheduled):
        yield
        return
    keeping = asyncio.create_task(_keep(settings, registry, broker, store), name="declared schedules")
    try:
        yield
    finally:
        await end(keeping)


async def _keep(settings: Settings, registry: TaskRegistry, broker: Broker, store: Store) -> None:
    enqueuer = Enqueuer(settings, broker, store, registry)
    scheduling = Scheduling(broker, store, Ticker(settings, broker, store, enqueuer))
    known = Applied()
    try:
        while True:
            pause_s = VISIT_S
            try:
                found = await scheduling.apply(tuple(registry.scheduled), registry.declarer)
                _report(found, known)
                known = found
            except StoreUnavailable:
                pause_s = AGAIN_S
            except Exception:  # whatever it is: nothing else would log it
                log.exception("declared schedules could not be put into the record")
            await asyncio.sleep(pause_s)
    finally:
        await enqueuer.close()


def _report(found: Applied, known: Applied) -> None:
    """What is new since the last visit."""
    for what, names in (("made", found.made), ("changed", found.changed)):
        if names:
            log.info("%s schedules that the code declares: %s", what, ", ".join(names))
    if found.older and found.older != known.older:
        log.warning(
            "a newer definition than this worker's is in force for the schedules %s: put this one back with "
            "`dtqkit schedules apply APP --force`, or wait until no worker has the newer one",
            ", ".join(found.older),
        )
    if found.refused != known.refused:
        for reason in found.refused.values():
            log.error("%s", reason)
