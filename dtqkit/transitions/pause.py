"""Pause and resume: a change of the pauses in the record, and of what Redis lists because of them.

No job changes. Ids of paused jobs are parked apart from their lanes by the workers that pop them, and listed again when
their pause ends: by the process that ends it, by the leader, and by the audit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from dtqkit.broker import Broker
from dtqkit.broker.keys import split_member
from dtqkit.broker.members import ids_of
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.jobs import is_job_id
from dtqkit.model.pauses import Pause, Pauses
from dtqkit.store import Store
from dtqkit.store.documents import Document
from dtqkit.transitions.places import member_of

log = logging.getLogger("dtqkit.queue")

#: Parked ids that are looked at together.
PIECE: Final = 1000
#: How soon a popped id that cannot be parked now is tried again, in ms.
AGAIN_MS: Final = 500.0


async def pause(broker: Broker, store: Store, wanted: Pause) -> Pauses:
    """Begin a pause. If Redis is unreachable, workers learn of it when they next read the record."""
    pauses = await store.pauses.put(wanted)
    with suppress(StoreUnavailable):
        await announce_version(broker, pauses.version)
        await list_released(broker, store, pauses)  # its end may be another than before
    return pauses


async def resume(broker: Broker, store: Store, pause_id: str) -> Pauses:
    """End a pause. If Redis is unreachable, the leader lists its jobs again."""
    pauses = await store.pauses.remove(pause_id)
    with suppress(StoreUnavailable):
        # First the version: nobody parks any more by the pauses before it, so nothing is parked behind this.
        await announce_version(broker, pauses.version)
        await list_released(broker, store, pauses)
    return pauses


async def announce_version(broker: Broker, version: int) -> None:
    """Of the record, which Redis does not have. Raises StoreUnavailable."""
    await broker.parking.announce(version)


async def list_released(broker: Broker, store: Store, pauses: Pauses) -> int:
    """List parked jobs again that are not paused any more; returns how many. Raises StoreUnavailable."""
    start = listed = 0
    pauses = pauses.at(store.now())
    while members := await broker.parking.parked(start, PIECE):
        known = [name for name in members if _is_member(name)]
        held = await store.pauses.held(pauses, ids_of(known)) if pauses else {}
        by_id = {str(job): until_ms for job, until_ms in held.items()}
        free = [name for name in known if name.partition(":")[2] not in by_id]
        await broker.parking.park(
            pauses.version, {n: by_id[job] for n in known if (job := n.partition(":")[2]) in by_id}
        )
        released = await broker.parking.unpark(free)
        listed += released
        start += len(members) - len(free)
    if listed:
        log.info("%d jobs are listed again: they are not paused any more", listed)
    return listed


async def park(
    broker: Broker, version: int | None, docs: Sequence[Document], until_ms: Sequence[float]
) -> set[str] | None:
    """Park popped jobs, each until then; returns their members. None when the pauses are not of that version any more.

    Without a version, they are not parked but popped again in a moment. Raises StoreUnavailable.
    """
    members = [member_of(doc) for doc in docs]
    if version is None:
        await broker.put_back(dict.fromkeys(members, AGAIN_MS))
    elif not await broker.parking.park(version, dict(zip(members, until_ms, strict=True))):
        return None
    return set(members)


async def list_changed(broker: Broker, store: Store, pauses: Pauses, docs: Sequence[Document]) -> None:
    """List those of these parked jobs again that a change of their payload has released just before they were parked.

    Who changes one writes the record, and then lists what is parked: either that comes after the parking, or this
    look after the write. Only a pause of certain values needs it. Raises StoreUnavailable.
    """
    if not any(pause.where for pause in pauses.pauses):
        return
    held = await store.pauses.held(pauses, [doc["_id"] for doc in docs])
    if free := [member_of(doc) for doc in docs if doc["_id"] not in held]:
        await broker.parking.unpark(free)


def _is_member(name: str) -> bool:
    try:
        return is_job_id(split_member(name)[1])
    except ValueError:
        return False
