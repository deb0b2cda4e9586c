"""Log which jobs the worker leaves in their lanes because it cannot run their task."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from dtqkit.tasks.registry import TaskRegistry
from dtqkit.worker.kinds import Kinds

log = logging.getLogger("dtqkit.worker")

#: Pause between the first two lines about the same task, in seconds; how much longer each one is than the one before,
#: up to the longest; and how much a pause is varied, so that several processes do not log the same at the same moment.
AGAIN_S: Final = 60.0
GROWTH: Final = 4.0
MAX_AGAIN_S: Final = 3600.0
JITTER: Final = 0.2
#: After this time without such a job, in seconds, the next one counts as the first.
OVER_S: Final = 300.0
#: Tasks that are named at all.
MAX_TASKS: Final = 100


class _Logged(NamedTuple):
    """When jobs of a task were last seen, and when to log that next."""

    seen_at: float
    next_at: float
    pause_s: float


#: By the tasks that a worker knows: workers of one process with the same tasks log it once together.
_by_registry: WeakKeyDictionary[TaskRegistry, dict[str, _Logged]] = WeakKeyDictionary()


class UnknownTasks:
    """One worker's. A job of such a task is seen again and again for as long as it waits."""

    def __init__(self, kinds: Kinds, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kinds = kinds
        self._clock = clock
        self._logged = _by_registry.setdefault(kinds.registry, {})

    def left(self, task: str) -> None:
        """A job of `task` was left in its lane."""
        now = self._clock()
        known = self._logged.get(task)
        if known is None and len(self._logged) >= MAX_TASKS:
            return
        if known is None or now - known.seen_at > OVER_S:
            pause_s = AGAIN_S
        elif now < known.next_at:
            self._logged[task] = known._replace(seen_at=now)
            return
        else:
            pause_s = min(MAX_AGAIN_S, GROWTH * known.pause_s)
        self._logged[task] = _Logged(now, now + pause_s * random.uniform(1 - JITTER, 1 + JITTER), pause_s)
        log.warning("jobs of task %r stay in their lane: %s", task[:200], self._kinds.why_not(task))
