"""How long a submit is retried that MongoDB does not take now."""

from __future__ import annotations

import asyncio
from typing import Final

from dtqkit.model.errors import MAYBE, StoreUnavailable

#: Pause between two tries, in seconds: doubled up to the maximum.
MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 1.0


def not_sent(error: StoreUnavailable) -> StoreUnavailable:
    """What the jobs get that would have been written after a write that failed."""
    why = f"not sent, since the write before it failed: {error}".removesuffix(MAYBE)
    return StoreUnavailable("MongoDB", "", why, reason=error.reason)


class Patience:
    """The retries of one submit, for `wait_s` seconds from now."""

    def __init__(self, wait_s: float) -> None:
        self._until = asyncio.get_running_loop().time() + wait_s
        self._pause_s = MIN_PAUSE_S

    async def again(self, error: StoreUnavailable) -> bool:
        """Whether to retry; returns True after a pause. Not when a person must change something first."""
        left_s = self._until - asyncio.get_running_loop().time()
        if left_s <= 0 or not error.passes:
            return False
        await asyncio.sleep(min(left_s, self._pause_s))
        self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s)
        return True
