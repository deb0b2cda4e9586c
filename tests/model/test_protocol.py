"""The protocol holds in every scenario, and each of its guards does what the table says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.model.explore import explore
from tests.model.guards import CONTROLS, TABLE, Row, check, verdict
from tests.model.lock import TAKEN
from tests.model.one_job.state import Rules, World, WorldStep
from tests.model.one_job.world import FAULTS, model
from tests.model.scenarios import EVERY_RUN, Build, Scenario


@pytest.mark.timeout(600)  # exhaustive: 20 s of one core, and not less on a machine that has none to spare
@pytest.mark.parametrize("scenario", EVERY_RUN, ids=lambda scenario: scenario.name)
def test_the_protocol_is_safe_and_always_recoverable(scenario: Scenario) -> None:
    result = explore(scenario.build(frozenset()))
    assert result.problem is None, str(result.problem)
    assert result.complete
    assert result.good_states > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_guard_taken_away_is_caught_or_heals_as_the_table_says(row: Row) -> None:
    result = check(row)
    assert verdict(result) == row.verdict, str(result.problem)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("build", CONTROLS)
def test_what_is_caught_without_a_guard_does_not_happen_with_it(build: Build) -> None:
    assert explore(build(frozenset())).problem is None


def test_every_guard_of_the_models_stands_in_the_table() -> None:
    here = Path(__file__).parent
    source = "".join(path.read_text() for path in here.rglob("*.py") if not path.name.startswith("test_"))
    in_the_models = set(re.findall(r'(?:without\(|may\(world, \w+,)\s*"([^"]+)"', source)) | {
        guard for _, guard in TAKEN
    }
    assert {guard for row in TABLE for guard in row.guards} == in_the_models


def test_no_guard_stands_in_the_table_twice() -> None:
    assert Counter(row.name for row in TABLE).most_common(1)[0][1] == 1


def test_each_fault_of_one_job_can_happen() -> None:
    """A fault that is never reached proves nothing."""
    one_job = model(Rules(faults=FAULTS), faults=2)
    missing = {step.label for step in one_job.steps if step.fault}

    def note(_before: World, step: WorldStep, _after: World) -> str | None:
        missing.discard(step.label)
        return None if missing else "all of them have happened"

    explore(one_job._replace(broken=note))
    assert not missing


def test_a_fault_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown faults: \\['sunspots'\\]"):
        model(Rules(faults=frozenset({"sunspots"})))
