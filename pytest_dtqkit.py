"""The plugin for pytest: the fixtures `dtq` and `dtq_local`, for tests of code that uses a queue.

pytest imports it in each project that has dtqkit installed. So nothing of dtqkit is imported before a test asks for a
fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dtqkit.local import LocalStores
    from dtqkit.testing import LocalQueue, TestQueue


@pytest.fixture
def dtq() -> Iterator[TestQueue]:
    """A TestQueue: in memory, under a virtual clock. `dtq.replace(shop.queue)` has the jobs of that queue go there."""
    from dtqkit.testing import TestQueue

    with TestQueue() as queue:
        yield queue


@pytest.fixture(scope="session")
def dtq_stores() -> Iterator[LocalStores]:
    """The redis-server and the mongod of `dtq_local`, which end with the session."""
    from dtqkit.local import start_local_stores

    with start_local_stores() as stores:
        yield stores


@pytest.fixture
def dtq_local(dtq_stores: LocalStores) -> Iterator[LocalQueue]:
    """A queue on real stores, in a namespace of the test's own, with a worker in this process."""
    from dtqkit.testing import LocalQueue

    with LocalQueue(dtq_stores.redis_url, dtq_stores.atlas_uri) as queue:
        yield queue
