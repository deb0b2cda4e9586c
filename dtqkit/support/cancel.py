"""Cancel background tasks reliably."""

from __future__ import annotations

import asyncio
from typing import Any, Final

#: Pause between two cancellations, in seconds. Long enough for the first to take effect: a second one that comes while
#: MongoDB's driver reacquires its lock leaves that lock held forever.
_AGAIN_S: Final = 2.0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel `tasks` and wait until they are over, however they end; their exceptions stay in them.

    A cancellation can be lost: asyncio.wait_for of Python 3.11, which our clients use, returns a result that arrives in
    the same turn of the loop and loses the cancellation. So the tasks are cancelled again.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_S)
