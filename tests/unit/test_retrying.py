"""Retry rules as decisions: which exceptions are tried again, after how long, and what a rule may be."""

from __future__ import annotations

import pickle
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from dtqkit import GiveUp, InvalidOption, Job, JobError, RetryAfter, Snooze, TaskDefinitionError, TaskOptions, task
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Failure
from dtqkit.tasks.options import options_of
from dtqkit.tasks.retrying import names_of, why_final
from dtqkit.worker.report import error_of

JOB = Job(id="1", task="t", payload={}, created_at=datetime(2026, 1, 1, tzinfo=UTC), max_attempts=9, backoff_s=2.0)
RNG = random.Random(1)


def act() -> None: ...


class Reset(ConnectionResetError):
    """Of a user's own."""


def why(error: BaseException, retry_on: Any = (), give_up_on: Any = ()) -> str:
    rules = [names_of("rule", kinds) if kinds else () for kinds in (retry_on, give_up_on)]
    return why_final(error, *rules)


def test_the_nearest_class_decides_as_the_more_special_except_clause_would() -> None:
    assert why(Reset(), ConnectionError, OSError) == ""
    assert why(FileNotFoundError(), ConnectionError, OSError) == "FileNotFoundError is in give_up_on (OSError)"
    assert why(Reset(), OSError, ConnectionError) == "Reset is in give_up_on (ConnectionError)"
    assert why(FileNotFoundError(), OSError, ConnectionError) == ""
    assert why(KeyError(), (), ValueError) == ""
    assert why(KeyError(), ValueError) == "KeyError is not in retry_on"
    assert why(KeyError()) == ""
    assert why(KeyboardInterrupt(), Exception) == "KeyboardInterrupt is not in retry_on"


def test_a_class_of_a_cell_that_ran_again_is_the_same_class() -> None:
    def cell() -> type[Exception]:
        class Mine(Exception):
            pass

        return Mine

    before, after = cell(), cell()
    assert before is not after
    assert why(after(), before) == ""


def test_a_group_is_tried_again_when_all_that_is_in_it_is() -> None:
    both = ExceptionGroup("g", [ConnectionError(), ExceptionGroup("h", [TimeoutError()])])
    assert why(both, (ConnectionError, TimeoutError)) == ""
    assert why(both, ConnectionError) == "TimeoutError is not in retry_on"
    assert why(both, ExceptionGroup) == ""
    assert why(ExceptionGroup("g", [ConnectionError(), GiveUp()])) == "the task raised GiveUp"
    assert why(ExceptionGroup("g", [ConnectionError()])) == ""


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        ("fixed", [2, 2, 2, 2]),
        ("linear", [2, 4, 6, 7]),
        ((1, 5.5, 60), [1, 5.5, 60, 60]),
        ((0,), [0, 0, 0, 0]),
    ],
)
def test_a_backoff_has_the_delays_that_it_says(backoff: Any, delays: list[float]) -> None:
    failure = Failure(JobError("exception", "ValueError", "no"), 1.0)
    found = [
        decide(msgspec.structs.replace(JOB, failures=n, backoff=backoff, backoff_max_s=7.0), failure, RNG).delay_s
        for n in range(4)
    ]
    assert found == delays


def test_an_exponential_backoff_is_drawn_below_its_ceiling() -> None:
    failure = Failure(JobError("exception", "ValueError", "no"), 1.0)
    drawn = [decide(msgspec.structs.replace(JOB, failures=2), failure, RNG).delay_s for _ in range(300)]
    assert 0 <= min(drawn) < 1 < 7 < max(drawn) <= 8


def test_retry_after_counts_a_failure_and_comes_before_the_backoff_and_the_rules() -> None:
    error = error_of(RetryAfter(30), options_of("t", {"retry_on": ConnectionError, "give_up_on": Exception}))
    change = decide(JOB, Failure(error, 1.0), RNG)
    assert (change.status, change.failures, change.delay_s) == ("scheduled", 1, 30.0)
    assert str(change.error) == "RetryAfter: to be tried again after 30 s"
    last = decide(msgspec.structs.replace(JOB, failures=8), Failure(error, 1.0), RNG)
    assert (last.status, last.delay_s) == ("failed", 0.0)


def test_a_snooze_counts_nothing_however_often() -> None:
    error = error_of(Snooze(60, "no file yet"))
    change = decide(msgspec.structs.replace(JOB, failures=8, snoozes=10**6), Failure(error, 1.0), RNG)
    assert (change.status, change.ending, change.delay_s) == ("scheduled", "snoozed", 60.0)
    assert (change.failures, change.losses, change.snoozes, change.run_ms) == (0, 0, 1, 1.0)


def test_give_up_fails_at_once() -> None:
    change = decide(JOB, Failure(error_of(GiveUp("no such customer")), 1.0), RNG)
    assert (change.status, change.failures) == ("failed", 1)
    assert change.error is not None
    assert (change.error.message, change.error.final) == ("no such customer", "the task raised GiveUp")


@pytest.mark.parametrize("kind", [RetryAfter, Snooze])
@pytest.mark.parametrize("wrong", [float("nan"), -1, -0.001, float("inf"), 10**400, 31_622_401, "30", None, True])
def test_a_time_that_cannot_be_is_named_with_its_bounds(kind: type[RetryAfter | Snooze], wrong: Any) -> None:
    with pytest.raises(InvalidOption, match=rf"^{kind.__name__}: seconds is .*; it is a number of seconds, from 0 to "):
        kind(wrong)


@pytest.mark.parametrize("verdict", [RetryAfter(30, "busy"), Snooze(60), GiveUp("no")])
def test_a_verdict_can_be_sent_by_a_process_pool(verdict: RetryAfter | Snooze | GiveUp) -> None:
    again = pickle.loads(pickle.dumps(verdict))  # noqa: S301
    assert (type(again), str(again), vars(again)) == (type(verdict), str(verdict), vars(verdict))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retry_on": "ConnectionError"}, r"retry_on takes exception classes, and 'ConnectionError' is none; .*quotes"),
        ({"retry_on": ("requests.Timeout",)}, r"'requests.Timeout' is none; .*without quotes"),
        ({"retry_on": (5,)}, r"retry_on takes exception classes, and 5 is none; write retry_on=\(ConnectionError, "),
        ({"give_up_on": (ValueError("no"),)}, r"give_up_on takes .*; write give_up_on=\(ValueError,\)"),
        ({"give_up_on": int}, "the class int is none"),
        ({"retry_on": ()}, "retry_on is empty: leave it out"),
        ({"retry_on": OSError, "give_up_on": (OSError,)}, "builtins.OSError stands in both"),
        ({"backoff": ()}, "backoff has 0 delays; it takes 1 to 100"),
        ({"backoff": [1.0] * 101}, "backoff has 101 delays; it takes 1 to 100"),
        ({"backoff": (1, -1)}, r"backoff\[1\] is -1; each delay is a number of seconds, from 0 to 86,400"),
        ({"backoff": (float("nan"),)}, r"backoff\[0\] is nan; each"),
        ({"backoff": (10**400,)}, r"backoff\[0\] is an integer of 1329 bits"),
        ({"backoff": (True,)}, r"backoff\[0\] is True; each"),
        ({"backoff": 5}, "backoff is 5; it is one of exponential, linear, fixed, or .*backoff='fixed', backoff_s="),
        ({"backoff": "quadratic"}, "backoff is 'quadratic'; it is one of exponential, linear, fixed"),
        ({"backoff": (1, 2), "backoff_s": 3}, "backoff_s has no effect beside a tuple of delays"),
    ],
)
def test_a_rule_that_cannot_be_is_named_with_its_cure(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskDefinitionError, match=rf"^act: .*{says}"):
        task(**options)(act)


def test_the_rules_are_published_by_name_and_read_again() -> None:
    made = task(retry_on=(Reset, ConnectionError), give_up_on=ValueError, backoff=[1, 5, 60])(act)
    assert made.defaults.retry_on == (f"{__name__}.Reset", "builtins.ConnectionError")
    assert msgspec.convert(msgspec.to_builtins(made.defaults), TaskOptions) == made.defaults
    assert msgspec.json.decode(msgspec.json.encode(made.info), type=type(made.info)).defaults == made.defaults
