"""Opening both stores for a client: MongoDB must answer, Redis may be away, and both must belong together."""

from __future__ import annotations

import asyncio
from typing import Final

from dtqkit.broker import Broker
from dtqkit.errors import NamespaceTaken, StoreUnavailable
from dtqkit.store import Store

#: How long Redis may take to say whose jobs it lists, in seconds; a push asks again.
REDIS_S: Final = 3.0


async def open_stores(store: Store, broker: Broker) -> None:
    """Raises NamespaceTaken where Redis lists another record's jobs."""
    await store.open()
    record = await store.identity()
    try:
        async with asyncio.timeout(REDIS_S):
            await broker.open(record)
    except (StoreUnavailable, TimeoutError) as error:
        if isinstance(error, NamespaceTaken):
            raise
