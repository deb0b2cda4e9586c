"""Opening both stores for a client: MongoDB must answer, Redis may be away, and both must belong together."""

from __future__ import annotations

import asyncio
from typing import Final

from dtqkit.broker import Broker
from dtqkit.broker.background import BackgroundCalls
from dtqkit.model.errors import NamespaceTaken, StoreUnavailable
from dtqkit.store import Store

#: How long Redis may take to say whose jobs it lists, in seconds; and again, if it has not answered yet.
REDIS_S: Final = 3.0
AGAIN_S: Final = 0.5
#: Between two looks at that, in seconds.
LOOK_S: Final = 1.0


class Opening:
    """The stores of one queue."""

    def __init__(self, store: Store, broker: Broker) -> None:
        self._store = store
        self._broker = broker
        self._calls = BackgroundCalls()

    async def open(self) -> None:
        """Raises NamespaceTaken where Redis lists another record's jobs."""
        await self._store.open()
        record = await self._store.identity()
        try:
            await self._calls.within(REDIS_S, self._broker.open(record))
        except (StoreUnavailable, TimeoutError) as error:
            if isinstance(error, NamespaceTaken):
                raise

    async def check(self) -> None:
        """Raises NamespaceTaken where Redis lists another record's jobs by now: after it was away, or was emptied."""
        if self._broker.owned:
            return
        if not self._calls.late:
            try:
                await self._calls.within(AGAIN_S, self._broker.ask_owner())
            except (StoreUnavailable, TimeoutError):
                pass
        self._broker.check_owner()

    async def until_taken(self) -> None:
        """Raises NamespaceTaken once that is so; never returns."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.check()

    async def close(self) -> None:
        await self._calls.close()
