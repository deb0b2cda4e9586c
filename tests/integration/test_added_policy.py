"""docs/internals/add-a-policy.md, worked through: the code of the page does what the page says."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from dtqkit import JobFailed, TaskQueue, task
from dtqkit.model.jobs import Job, JobError
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Failure, Lost
from dtqkit.model.policy import POLICIES
from tests import sample
from tests.workers import Workers

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "add-a-policy.md"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The code of the page as a module; its policies are those of this process."""
    module = ModuleType("added")
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), vars(module))  # noqa: S102 - it is ours
    for name in ("_policies", "_gates"):
        monkeypatch.setattr(POLICIES, name, getattr(module.POLICIES, name))
    return module


def job(*tags: str) -> Job:
    return Job(id="1", task="t", payload={}, created_at=datetime(2026, 1, 1, tzinfo=UTC), tags=tags)


@pytest.mark.parametrize(
    ("hour", "minute", "delay_s"), [(12, 0, 36_000.0), (21, 59, 60.0), (22, 0, None), (3, 0, None), (6, 0, 57_600.0)]
)
def test_a_job_of_the_night_waits_for_it(page: ModuleType, hour: int, minute: int, delay_s: float | None) -> None:
    time = datetime(2026, 1, 1, hour, minute, tzinfo=UTC)
    refusal = POLICIES.admit(job("night"), lambda: time)
    assert (refusal.delay_s if refusal is not None else None) == delay_s  # type: ignore[union-attr]
    assert POLICIES.admit(job(), lambda: time) is None


def test_a_missing_permission_fails_at_once_and_all_else_is_as_before(page: ModuleType) -> None:
    rng = random.Random(1)
    for kind, status in (("PermissionError", "failed"), ("ValueError", "scheduled")):
        change = decide(job(), Failure(JobError("exception", kind, "no"), 3.0), rng)
        assert (change.status, change.failures, change.run_ms) == (status, 1, 3.0)
    assert decide(job(), Lost(), rng).losses == 1


@task(max_attempts=3, backoff_s=0.01)
async def forbidden() -> None:
    raise PermissionError("not yours")


def test_a_worker_asks_the_policies_of_the_page(
    page: ModuleType, queue: TaskQueue, worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.add(forbidden)
    with pytest.raises(JobFailed, match="PermissionError: not yours"):
        forbidden.submit().result(timeout=20)
    monkeypatch.setattr(page, "FROM_HOUR", 0)  # it is always night
    night = sample.add_async.options(tags=["night"]).submit(1)
    assert night.result(timeout=20) == 2
    assert night.refresh().record.attempt == 1
