"""A world on the stores that may be killed, and the process from which its workers are forked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dtqkit.local import LocalStores
from tests.faults.work import Nursery
from tests.faults.world import World


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def world(own_stores: LocalStores, nursery: Nursery, tmp_path: Path) -> Iterator[World]:
    with World(own_stores, nursery, tmp_path) as world:
        yield world
