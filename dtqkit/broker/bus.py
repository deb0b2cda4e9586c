"""The channel of events, as one subscriber hears it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, cast

import redis.asyncio

from dtqkit.model.events import Batch, decode_batch

#: Quiet seconds after which a subscription is tested.
ANSWER_POLL_S: Final = 20.0


async def listen(client: redis.asyncio.Redis, channel: str) -> AsyncIterator[Batch | None]:
    """None once it has subscribed, then every batch; until the connection is lost."""
    async with client.pubsub() as pubsub:  # pyright: ignore[reportUnknownMemberType]
        await pubsub.subscribe(channel)
        while True:
            message = cast("dict[str, Any] | None", await pubsub.get_message(timeout=ANSWER_POLL_S))
            if message is None:
                # A quiet line is tested, so that a dead one is noticed.
                await cast(Any, pubsub).ping()
            elif message["type"] == "subscribe":
                yield None
            elif message["type"] == "message":
                yield decode_batch(message["data"].encode())
