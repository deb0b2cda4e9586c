"""Random runs: another seed each time, which is printed; DTQ_TEST_SEED repeats one."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults.chaos import Chaos
from tests.faults.hosted import HostedChaos, HostedStores, HostedWorld
from tests.faults.work import Nursery
from tests.faults.world import World


@pytest.mark.parametrize("run", range(2))
def test_no_job_is_lost_in_a_random_run(world: World, run: int) -> None:
    seed = int(os.environ.get("DTQ_TEST_SEED") or random.randrange(10**9))
    print(f"DTQ_TEST_SEED={seed}")
    report = Chaos(world, seed).run()
    print(report)
    assert report.violations == [], f"seed {seed}"
    assert report.jobs >= 250
    assert report.hits >= 5


def test_no_job_is_lost_in_elections_failovers_and_without_rights(nursery: Nursery, tmp_path: Path) -> None:
    order = ["the primary steps down", "a right is lost", "a failover of Redis", "kill -9 of the primary"]
    with HostedStores(tmp_path / "stores") as stores, HostedWorld(stores, nursery, tmp_path) as world:
        report = HostedChaos(world, 14, count=120, faults=len(order), order=order).run()
    print(report)
    assert report.violations == []
    assert report.jobs >= 100
    assert [fault.name for fault in report.faults if fault.hit] == order
