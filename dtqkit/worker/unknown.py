"""Say in the worker's log which jobs it leaves in their lanes, since it cannot run their task."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from dtqkit.worker.kinds import Kinds

log = logging.getLogger("dtqkit.worker")

#: Pause between two lines about the same task, in seconds; and tasks that are named at all.
AGAIN_S: Final = 60.0
MAX_TASKS: Final = 100


class UnknownTasks:
    """One worker's. A job of such a task is seen again and again for as long as it waits."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._said_at: dict[str, float] = {}

    def left(self, task: str) -> None:
        """A job of `task` was left in its lane."""
        now = asyncio.get_running_loop().time()
        last = self._said_at.get(task)
        if (last is None and len(self._said_at) >= MAX_TASKS) or (last is not None and now - last < AGAIN_S):
            return
        self._said_at[task] = now
        log.warning("jobs of task %r stay in their lane: %s", task[:200], self._kinds.why_not(task))
