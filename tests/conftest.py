"""What every tier shares: a real redis-server and mongod for each test process, a namespace for each test."""

import secrets
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from pymongo import MongoClient

from dtqkit import Settings, TaskQueue
from dtqkit.local import LocalStores, start_local_stores
from tests import in_memory
from tests.leaks import check_no_key_leaked
from tests.workers import Workers

# A deadline measures the machine, not the code.
hypothesis.settings.register_profile("dtqkit", deadline=None)
hypothesis.settings.load_profile("dtqkit")

Mongo = MongoClient[dict[str, Any]]


@pytest.fixture(scope="session")
def stores() -> Iterator[LocalStores]:
    """Servers that the tests of this process share and never flush; who kills one uses `own_stores`."""
    with in_memory.temporary_directories():
        stores = start_local_stores()
    with stores:
        yield stores


@pytest.fixture(scope="session")
def breakable() -> Iterator[LocalStores]:
    with in_memory.temporary_directories():
        stores = start_local_stores()
    with stores:
        yield stores


@pytest.fixture
def own_stores(breakable: LocalStores) -> LocalStores:
    """Servers that a test may kill: of this process, and repaired before each test. What they hold is not cleared."""
    running = breakable.pids
    if "redis" not in running:
        breakable.restart_redis(empty=True)
    if "mongod" not in running:
        breakable.restart_mongo()
    return breakable


@pytest.fixture(scope="session")
def mongo(stores: LocalStores) -> Iterator[Mongo]:
    """For looking at what is stored, from outside."""
    with Mongo(stores.atlas_uri) as client:
        yield client


@pytest.fixture
def namespace(mongo: Mongo) -> Iterator[str]:
    """A namespace of the test's own; its databases are dropped afterwards."""
    namespace = f"t{secrets.token_hex(5)}"
    yield namespace
    for database in mongo.list_database_names():
        if database.endswith(namespace):
            mongo.drop_database(database)


@pytest.fixture
def settings(stores: LocalStores, namespace: str) -> Settings:
    """The shared servers, the test's namespace, and times that are a tenth of the real ones."""
    return Settings(
        redis_url=stores.redis_url,
        atlas_uri=stores.atlas_uri,
        namespace=namespace,
        heartbeat_s=0.2,
        lease_s=6.0,
        grace_s=2.0,
        children=1,
    )


@pytest.fixture
def queue(settings: Settings, stores: LocalStores) -> Iterator[TaskQueue]:
    """A queue with the tasks of tests/sample.py and no workers; afterwards, nothing of it may be left in Redis."""
    with TaskQueue(settings) as queue:
        queue.include("tests.sample")
        yield queue
    check_no_key_leaked(stores.redis_url, settings.namespace)


@pytest.fixture
def worker(queue: TaskQueue) -> Iterator[Workers]:
    """One worker for `queue`, in a thread of this process."""
    with Workers(queue) as workers:
        yield workers
