"""The blocking pop of an idle worker."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final, cast

from dtqkit.broker.keys import member
from dtqkit.broker.link import RedisLink
from dtqkit.model.jobs import Priority

#: Maximum time of a blocking pop, in seconds.
BLOCK_S: Final = 10.0
#: The same behind Sentinels: a primary that is cut off must be noticed within 10 s, pop and margin included.
MOVING_BLOCK_S: Final = 4.0
#: Time after the end of a pop within which its answer must arrive: the audit finds an id that is lost later.
_MARGIN_S: Final = 3.0
#: How long a wake-up is kept for a pop that begins later.
_WAKE_MS: Final = 15_000


class Popper:
    """Pops on a connection of its own; `interrupt()` ends a pop without losing an id."""

    def __init__(self, link: RedisLink, lanes: Sequence[Priority]) -> None:
        self._link = link
        self._lanes = tuple(lanes)
        self._block_s = MOVING_BLOCK_S if link.moves else BLOCK_S
        self._redis = link.another(answer_s=self._block_s + _MARGIN_S)
        self._id = secrets.token_hex(8)

    async def pop(self, timeout_s: float = BLOCK_S, lanes: Sequence[Priority] | None = None) -> str | None:
        """The next member by priority, of its lanes or of these; None after `timeout_s`.

        If the answer is lost, the audit finds the id.
        """
        block_s = min(timeout_s, self._block_s)
        async with self._link.asking("pop") as keys:
            by_key: dict[str, Priority] = {keys.lane(lane): lane for lane in (self._lanes if lanes is None else lanes)}
            # A list of our own ends the pop: CLIENT UNBLOCK would need another right.
            answer = cast(
                "tuple[str, str] | None",
                await cast(Any, self._redis.blpop([keys.wake(self._id), *by_key], timeout=block_s)),
            )
        if answer is None or answer[0] not in by_key:
            return None
        return member(by_key[answer[0]], answer[1])

    async def interrupt(self) -> None:
        """Make the current `pop`, or the next one, return at once: None, or the id that it has already."""
        async with self._link.asking() as keys:
            await self._link.run("wake", [keys.wake(self._id)], [_WAKE_MS])

    async def close(self) -> None:
        await self._link.close(self._redis)
