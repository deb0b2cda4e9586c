"""What every tier shares: a real redis-server and mongod for each test process, a namespace for each test."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from dtqkit.local import LocalStores, start_local_stores

Mongo = MongoClient[dict[str, Any]]


@pytest.fixture(scope="session")
def stores() -> Iterator[LocalStores]:
    """Servers that the tests of this process share and never flush; who kills one starts its own."""
    with start_local_stores() as stores:
        yield stores


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
