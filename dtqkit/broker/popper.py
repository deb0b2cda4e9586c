"""The blocking pop of an idle worker."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final, cast

from dtqkit.broker.keys import member
from dtqkit.broker.link import Link
from dtqkit.model.jobs import Priority

#: The longest blocking pop.
BLOCK_S: Final = 10.0
#: The same behind Sentinels: a primary that is cut off is left within 10 s, and a pop stands for its time and a margin.
MOVING_BLOCK_S: Final = 4.0
#: How much later than its end the answer to a pop may come: what is lost later is found by the audit only.
_MARGIN_S: Final = 3.0
#: How long a wake-up is kept for a pop that comes later.
_WAKE_MS: Final = 15_000


class Popper:
    """Pops on a connection of its own; `interrupt()` ends a pop without losing an id."""

    def __init__(self, link: Link, lanes: Sequence[Priority]) -> None:
        self._link = link
        self._lanes = tuple(lanes)
        self._block_s = MOVING_BLOCK_S if link.moves else BLOCK_S
        self._redis = link.another(answer_s=self._block_s + _MARGIN_S)
        self._id = secrets.token_hex(8)

    async def pop(self, timeout_s: float = BLOCK_S) -> str | None:
        """The next member by priority; None within `timeout_s`. A pop that is lost is found by the audit."""
        block_s = min(timeout_s, self._block_s)
        async with self._link.asking("pop") as keys:
            lanes: dict[str, Priority] = {keys.lane(lane): lane for lane in self._lanes}
            # A list of our own ends the pop: CLIENT UNBLOCK would ask for a right.
            answer = cast(
                "tuple[str, str] | None",
                await cast(Any, self._redis.blpop([keys.wake(self._id), *lanes], timeout=block_s)),
            )
        if answer is None or answer[0] not in lanes:
            return None
        return member(lanes[answer[0]], answer[1])

    async def interrupt(self) -> None:
        """Make a `pop` that is under way, or the next one, return None (or the id that it has got) now."""
        async with self._link.asking() as keys:
            await self._link.run("wake", [keys.wake(self._id)], [_WAKE_MS])

    async def close(self) -> None:
        await self._link.close(self._redis)
