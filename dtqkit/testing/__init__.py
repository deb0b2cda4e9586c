"""Tests of code that uses a queue: TestQueue, in memory and under a virtual clock, and a plugin for pytest.

from dtqkit.testing import replaced

def test_a_welcome_is_sent_a_day_later() -> None:
    with replaced(shop.queue) as queue:
        shop.sign_up("ada")
        queue.advance(days=1)
    assert queue.submitted(shop.welcome)[0].status == "completed"
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime

from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.client.queue import TaskQueue
from dtqkit.testing.local import LocalQueue
from dtqkit.testing.queue import TestQueue

__all__ = ["LocalQueue", "TestQueue", "replaced"]


@contextmanager
def replaced(
    queue: TaskQueue | AsyncTaskQueue, *, clock: datetime | None = None, inline: bool = False
) -> Generator[TestQueue]:
    """A TestQueue that stands in for `queue` while the block lasts."""
    with TestQueue(clock, inline=inline) as test:
        yield test.replace(queue)
