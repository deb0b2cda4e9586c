"""Random runs: another seed each time, which is printed; DTQ_TEST_SEED repeats one."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.chaos import Chaos
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
