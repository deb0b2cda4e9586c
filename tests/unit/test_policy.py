"""Policies: which answer counts, and what each becomes in a decision."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from typing_extensions import override

from dtqkit.model.jobs import Job, JobError
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Change, Delayed, Dropped, Failure, Lost
from dtqkit.model.policy import POLICIES, Policies, Policy, Refusal, Retries, SupportsRandom

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(id="1", task="t", payload={}, created_at=NOW)
FAILURE = Failure(JobError("exception", "ValueError", "no"), run_ms=3.0)


class Later(Policy):
    @override
    def admit(self, job: Job, now: Callable[[], datetime]) -> Refusal | None:
        return Delayed(7.0) if now() == NOW else None


class Never(Policy):
    @override
    def admit(self, job: Job, now: Callable[[], datetime]) -> Refusal | None:
        return Dropped(JobError("wrong_use", "TooLate", "too late"))


class OnlyOnce(Policy):
    @override
    def after(self, job: Job, outcome: Failure | Lost, rng: SupportsRandom) -> Change | None:
        if isinstance(outcome, Lost):
            return None
        return Change(status="failed", ending="failed", error=outcome.error, failures=1)


def unasked() -> datetime:
    raise AssertionError("no policy wants to know the time")


def test_without_an_admit_rule_every_job_begins_and_the_clock_is_not_read() -> None:
    assert POLICIES.admit(JOB, unasked) is None


def test_the_first_refusal_counts() -> None:
    both = Policies(Later(), Never(), Retries())
    assert both.admit(JOB, lambda: NOW) == Delayed(7.0)
    assert isinstance(both.admit(JOB, lambda: NOW.replace(year=2027)), Dropped)


def test_the_first_answer_after_a_failure_counts_and_the_last_policy_answers_for_the_rest() -> None:
    policies = Policies(OnlyOnce(), Retries())
    assert policies.after(JOB, FAILURE, random.Random(1)).status == "failed"
    assert policies.after(JOB, Lost(), random.Random(1)).status == "scheduled"


def test_without_an_answer_the_job_and_what_happened_are_named() -> None:
    with pytest.raises(LookupError, match="job 1 after Lost"):
        Policies(OnlyOnce()).after(JOB, Lost(), random.Random(1))


def test_a_refusal_costs_the_job_neither_a_failure_nor_a_loss() -> None:
    for outcome in (Delayed(7.0), Dropped(JobError("wrong_use", "TooLate", "too late"))):
        change = decide(JOB, outcome, random.Random(1))
        assert (change.failures, change.losses, change.start_ms) == (0, 0, None)
    assert decide(JOB, Delayed(7.0), random.Random(1)).delay_s == 7.0
