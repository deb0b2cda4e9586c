"""Stores that may be killed: their own for each test process, repaired before each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dtqkit.local import LocalStores, start_local_stores
from tests.faults.work import Nursery
from tests.faults.world import World


@pytest.fixture(scope="session")
def breakable() -> Iterator[LocalStores]:
    with start_local_stores() as stores:
        yield stores


@pytest.fixture
def own_stores(breakable: LocalStores) -> LocalStores:
    running = breakable.pids
    if "redis" not in running:
        breakable.restart_redis(empty=True)
    if "mongod" not in running:
        breakable.restart_mongo()
    return breakable


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def world(own_stores: LocalStores, nursery: Nursery, tmp_path: Path) -> Iterator[World]:
    with World(own_stores, nursery, tmp_path) as world:
        yield world
