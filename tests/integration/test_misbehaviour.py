"""What a task may do wrong, what a payload may be, and that a worker survives it and says what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dtqkit import InvalidPayload, JobFailed, JobHandle, PayloadTooLarge, TaskQueue
from dtqkit.control import Submission
from tests import sample
from tests.conftest import Mongo
from tests.wait import wait_until
from tests.workers import Workers


def failure_of(job: JobHandle[Any]) -> JobFailed:
    with pytest.raises(JobFailed) as failure:
        job.result(timeout=30)
    return failure.value


@pytest.mark.parametrize(
    ("what", "path", "why"),
    [
        ("nan", r"$.a[1]", "nan"),
        ("big int", "$", "64"),
        ("object", "$.x", "object"),
        ("dollar", "$", "$x"),
        ("surrogate", "$", "surrogate"),
        ("large", "$", "2,000,002 bytes"),
        ("generator", "$", "generator"),
        ("deep", "", "32"),
    ],
)
def test_a_result_that_cannot_be_recorded_fails_its_attempt(
    queue: TaskQueue, worker: Workers, what: str, path: str, why: str
) -> None:
    failure = failure_of(sample.give.submit(what))
    assert failure.error_type == "InvalidResult"
    assert path in failure.error_message
    assert why in failure.error_message


@pytest.mark.parametrize("how", ["SystemExit", "KeyboardInterrupt", "BaseException", "GeneratorExit"])
def test_whatever_a_task_raises_fails_its_attempt_and_not_its_child(
    queue: TaskQueue, worker: Workers, how: str
) -> None:
    before = sample.where.submit().result(timeout=20)["pid"]
    assert failure_of(sample.misbehave.submit(how)).error_type == how
    assert sample.where.submit().result(timeout=20)["pid"] == before


@pytest.mark.parametrize("how", ["SystemExit", "BaseException", "CancelledError"])
def test_whatever_a_coroutine_raises_fails_its_attempt_and_not_its_worker(
    queue: TaskQueue, worker: Workers, how: str
) -> None:
    assert failure_of(sample.misbehave_async.submit(how)).error_type == how
    assert sample.add_async.submit(1).result(timeout=20) == 2


def test_an_exception_without_a_text_is_recorded(queue: TaskQueue, worker: Workers) -> None:
    failure = failure_of(sample.misbehave.submit("bad str"))
    assert failure.error_type == "BadStr"
    assert "cannot be shown" in failure.error_message


@pytest.mark.parametrize("how", ["chdir", "close stdout", "fork"])
def test_what_a_task_does_to_its_process_does_not_reach_the_next(queue: TaskQueue, worker: Workers, how: str) -> None:
    assert sample.misbehave.submit(how).result(timeout=20) == how
    assert sample.directory.submit().result(timeout=20) == str(Path.cwd())


def test_a_task_that_closes_its_connection_is_a_crash(queue: TaskQueue, worker: Workers) -> None:
    failure = failure_of(sample.misbehave.submit("close all"))
    assert failure.error_type == "ChildDied"
    assert sample.add.submit(1).result(timeout=20) == 2


def test_a_child_that_exits_is_a_failed_attempt_and_not_a_lost_worker(queue: TaskQueue, worker: Workers) -> None:
    job = sample.crash.submit(7)
    assert "exited with status 7" in failure_of(job).error_message
    record = job.refresh().record
    assert ([a.ending for a in record.attempts], record.losses) == (["crashed"], 0)


def test_a_job_whose_child_was_killed_runs_again(queue: TaskQueue, worker: Workers) -> None:
    job = sample.crash_once.submit()
    assert job.result(timeout=20) == 2
    first, _ = job.refresh().record.attempts
    assert first.error is not None
    assert "SIGKILL" in first.error.message


def test_a_poison_job_does_not_take_its_neighbours_with_it(queue: TaskQueue, worker: Workers) -> None:
    good = sample.add_async.map(range(50))
    bad = sample.crash.submit(1)
    more = sample.add_async.map(range(50))
    assert sum(good.results(timeout=30)) == sum(more.results(timeout=30)) == 1275
    failure_of(bad)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"a": "x"}, "$.a"),
        ({"a": 1, "c": 2}, "$.c"),
        ({}, "$.a"),
        ({"a": 2**63}, "$.a"),
        ({"a": float("nan")}, "$.a"),
        ({"a": True}, "$.a"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_before_anything_is_written(
    queue: TaskQueue, arguments: dict[str, object], path: str
) -> None:
    with pytest.raises(InvalidPayload) as refusal:
        sample.add.submit(**arguments)  # pyright: ignore[reportArgumentType]
    assert refusal.value.path == path
    with pytest.raises(InvalidPayload):
        queue.run(queue.core.control.submit(Submission(task="add", payload=arguments)))
    assert queue.jobs().items == ()


def test_a_payload_that_is_too_large_is_refused_and_says_what_to_do(queue: TaskQueue) -> None:
    with pytest.raises(PayloadTooLarge, match="keep large data in a file"):
        sample.fail.submit("x" * 10_000_000)
    assert queue.jobs().items == ()


def test_a_payload_of_a_newer_signature_fails_with_the_argument_named(
    queue: TaskQueue, worker: Workers, mongo: Mongo
) -> None:
    jobs = mongo[f"dtqkit_{queue.settings.namespace}"]["jobs"]
    with Workers(queue, lanes=("low",)):
        job = sample.sleep_async.options(delay_s=0.5).submit(0.01)
        jobs.update_one({"task": "sleep_async"}, {"$set": {"payload": {"seconds": 0.01, "later": 1}}})
        failure = failure_of(job)
    assert failure.error_type == "InvalidPayload"
    assert "later" in failure.error_message


def test_megabytes_of_output_are_bounded(queue: TaskQueue, worker: Workers) -> None:
    job = sample.chatter.submit(100_000)
    job.result(timeout=60)
    assert sum(len(line) for line in job.log()) < 70_000


def test_a_loop_that_is_blocked_keeps_its_jobs(queue: TaskQueue) -> None:
    with Workers(queue, settings=queue.settings.replace(lease_s=60.0)), Workers(queue, name="other"):
        job = sample.block.submit(2.5)  # silence would be 0.9 s
        assert job.result(timeout=30) == "blocked"
    record = wait_until(lambda: job.refresh().record)
    assert (len(record.attempts), record.losses) == (1, 0)
