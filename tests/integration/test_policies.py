"""A policy that does not let a job begin: it waits, or is over, as if it had not been claimed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from typing_extensions import override

from dtqkit import JobFailed, TaskQueue
from dtqkit.model.jobs import Job, JobError
from dtqkit.model.outcomes import Delayed, Dropped
from dtqkit.model.policy import POLICIES, Policy, Refusal
from tests import sample
from tests.workers import Workers


class Three(Policy):
    """Each job waits twice before it begins."""

    @override
    def admit(self, job: Job, now: Callable[[], datetime]) -> Refusal | None:
        return Delayed(0.05) if job.claim_number < 3 else None


class Closed(Policy):
    @override
    def admit(self, job: Job, now: Callable[[], datetime]) -> Refusal | None:
        return Dropped(JobError("wrong_use", "Closed", f"closed at {now():%Y}"))


def test_what_a_policy_delays_runs_later_and_has_one_attempt(
    queue: TaskQueue, worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(POLICIES, "_gates", (Three(),))
    jobs = sample.add.map(range(20), range(20))
    assert jobs.results(timeout=20) == [2 * n for n in range(20)]
    for job in jobs:
        record = job.refresh().record
        assert (record.attempt, len(record.attempts), record.failures, record.declined) == (1, 1, 0, 0)


def test_what_a_policy_drops_never_runs_and_says_why(
    queue: TaskQueue, worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(POLICIES, "_gates", (Closed(),))
    job = sample.add.submit(1, 2)
    with pytest.raises(JobFailed, match="closed at 2"):
        job.result(timeout=20)
    record = job.refresh().record
    assert (record.status, record.failures, record.run_ms) == ("failed", 0, None)
