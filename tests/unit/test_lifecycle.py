"""The transitions of a job, decided without a store, a clock or a network."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dtqkit.model.jobs import STATUSES, TERMINAL, Job, JobError
from dtqkit.model.lifecycle import TRANSITIONS, decide
from dtqkit.model.outcomes import Failure, Lost, Outcome, Released, Stopped, Success
from dtqkit.model.policy import MAX_LOSS_BACKOFF_S, backoff_ceiling_s, backoff_s

ERROR = JobError("exception", "ValueError", "no")

counts = st.integers(0, 100)
jobs = st.builds(
    Job,
    id=st.just("6ca111111111111111111111"),
    task=st.just("t"),
    payload=st.just({}),
    status=st.just("running"),
    created_at=st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    max_attempts=st.integers(1, 100),
    max_losses=st.integers(1, 100),
    failures=counts,
    losses=counts,
    backoff_s=st.floats(0, 1e4),
    backoff_max_s=st.floats(0, 1e4),
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Success, st.integers(), st.floats(0, 1e6)),
    st.builds(Failure, st.just(ERROR), st.floats(0, 1e6)),
    st.builds(Released, st.floats(0, 1e6)),
    st.builds(Stopped, st.floats(0, 1e6)),
    st.just(Lost()),
)


@given(jobs, outcomes, st.integers())
def test_every_decision_is_a_legal_transition(job: Job, outcome: Outcome, seed: int) -> None:
    change = decide(job, outcome, random.Random(seed))
    assert change.status in TRANSITIONS["running"]
    assert "cancelled" in TRANSITIONS["running"]  # what the write makes of it when that was asked for
    assert change.delay_s >= 0
    assert (change.delay_s > 0) <= (change.status == "scheduled")


@given(jobs, outcomes, st.integers())
def test_only_a_failure_uses_up_an_attempt_and_only_a_loss_a_loss(job: Job, outcome: Outcome, seed: int) -> None:
    change = decide(job, outcome, random.Random(seed))
    assert change.failures == isinstance(outcome, Failure)
    assert change.losses == isinstance(outcome, Lost)


@given(jobs, st.integers())
def test_a_job_fails_for_good_with_its_last_attempt_and_not_before(job: Job, seed: int) -> None:
    change = decide(job, Failure(ERROR, 1.0), random.Random(seed))
    assert (change.status == "failed") == (job.failures + 1 >= job.max_attempts)


@given(jobs, st.integers())
def test_a_job_fails_for_good_with_its_last_allowed_loss_and_not_before(job: Job, seed: int) -> None:
    change = decide(job, Lost(), random.Random(seed))
    assert (change.status == "failed") == (job.losses + 1 >= job.max_losses)
    assert change.delay_s <= MAX_LOSS_BACKOFF_S
    assert job.losses > 0 or change.delay_s == 0


@given(st.integers(1, 10_000), st.floats(0, 1e4), st.floats(0, 1e4), st.integers())
def test_a_delay_lies_between_nothing_and_its_ceiling(n: int, base_s: float, max_s: float, seed: int) -> None:
    ceiling = backoff_ceiling_s(n, base_s=base_s, max_s=max_s)
    assert 0 <= backoff_s(n, random.Random(seed), base_s=base_s, max_s=max_s) <= ceiling <= max_s


def test_the_ceiling_doubles_up_to_its_maximum() -> None:
    assert [backoff_ceiling_s(n) for n in (1, 2, 3, 10, 11, 1000)] == [1.0, 2.0, 4.0, 512.0, 600.0, 600.0]


def test_the_table_knows_every_status_and_what_is_over_stays_over() -> None:
    assert set(TRANSITIONS) == set(STATUSES)
    assert TRANSITIONS["completed"] == TRANSITIONS["cancelled"] == frozenset()
    assert TRANSITIONS["failed"] == {"pending", "scheduled"}
    assert {s for s, to in TRANSITIONS.items() if not to or s == "failed"} == set(TERMINAL)
