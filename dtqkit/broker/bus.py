"""A subscription to the channel of events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, cast

import redis.asyncio

from dtqkit.model.events import Batch, decode_batch

#: A subscription is tested after this many seconds without a message.
ANSWER_POLL_S: Final = 20.0


async def listen(client: redis.asyncio.Redis, channel: str) -> AsyncIterator[Batch | None]:
    """None after subscribing, then every batch, until the connection is lost."""
    async with client.pubsub() as pubsub:  # pyright: ignore[reportUnknownMemberType]
        await pubsub.subscribe(channel)
        while True:
            message = cast("dict[str, Any] | None", await pubsub.get_message(timeout=ANSWER_POLL_S))
            if message is None:
                # Test an idle connection, so that a lost one is noticed.
                await cast(Any, pubsub).ping()
            elif message["type"] == "subscribe":
                yield None
            elif message["type"] == "message":
                yield decode_batch(message["data"].encode())
