"""What a task may do wrong, what a payload may be, and that a worker survives it and says what it was."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from dtqkit import (
    InvalidPayload,
    JobFailed,
    JobHandle,
    PayloadTooLarge,
    Settings,
    TaskAlreadyRegistered,
    TaskDefinitionError,
    TaskQueue,
    task,
)
from dtqkit.control import Submission
from dtqkit.control.operations import SUBMIT
from dtqkit.local import start_local_stores
from dtqkit.store import clock
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
        ("big int", "$", "64"),
        ("object", "$.x", "object"),
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
def test_any_exception_of_a_task_fails_its_attempt_and_not_its_child(
    queue: TaskQueue, worker: Workers, how: str
) -> None:
    before = sample.where.submit().result(timeout=20)["pid"]
    assert failure_of(sample.misbehave.submit(how)).error_type == how
    assert sample.where.submit().result(timeout=20)["pid"] == before


@pytest.mark.parametrize("how", ["SystemExit", "BaseException", "CancelledError"])
def test_any_exception_of_a_coroutine_fails_its_attempt_and_not_its_worker(
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
        queue.run(queue.core.control.ask(SUBMIT, Submission(task="add", payload=arguments)))
    assert queue.jobs().items == ()


def test_a_payload_that_is_too_large_is_refused_and_says_what_to_do(queue: TaskQueue) -> None:
    with pytest.raises(PayloadTooLarge, match="keep large data in a file"):
        sample.fail.submit("x" * 10_000_000)
    assert queue.jobs().items == ()


def test_a_payload_of_a_newer_signature_is_given_back_with_the_argument_named(
    queue: TaskQueue, worker: Workers, mongo: Mongo
) -> None:
    jobs = mongo[f"dtqkit_{queue.settings.namespace}"]["jobs"]
    with Workers(queue, lanes=("low",)):
        job = sample.sleep_async.options(delay_s=0.5).submit(0.01)
        jobs.update_one({"task": "sleep_async"}, {"$set": {"payload": {"seconds": 0.01, "later": 1}}})
        wait_until(lambda: job.refresh().record.declined > 1, timeout_s=20)
    record = job.refresh().record
    assert (record.status, record.failures) == ("pending", 0)
    assert record.error is not None
    assert "later" in record.error.message


def test_megabytes_of_output_are_bounded(queue: TaskQueue, worker: Workers) -> None:
    job = sample.chatter.submit(100_000)
    job.result(timeout=60)
    assert sum(len(line) for line in job.log()) < 70_000


def test_a_loop_that_is_blocked_keeps_its_jobs(queue: TaskQueue) -> None:
    with Workers(queue, settings=queue.settings.replace(lease_s=60.0)), Workers(queue, name="other"):
        job = sample.block.submit(2.5)  # heartbeats are missed after 0.9 s
        assert job.result(timeout=30) == "blocked"
    record = wait_until(lambda: job.refresh().record)
    assert (len(record.attempts), record.losses) == (1, 0)


# -- names, signatures, clocks and servers


@pytest.mark.parametrize("name", ["", "2pages", "a b", "$where", "page\0", "seite_ü", "x" * 129, "<lambda>", ".hidden"])
def test_a_name_that_no_task_may_have_is_refused_and_says_what_one_is(name: str) -> None:
    with pytest.raises(TaskDefinitionError, match="cannot be a task's name"):
        task(name=name)(lambda: None)


def test_a_parameter_with_two_underscores_is_reserved() -> None:
    def f(__page: int) -> None: ...

    with pytest.raises(TaskDefinitionError, match="reserved"):
        task(f)


def test_a_task_that_is_registered_twice_from_two_places_is_refused_and_both_are_named(queue: TaskQueue) -> None:
    def add(page: int, colour: str) -> str:
        return colour * page

    with pytest.raises(TaskAlreadyRegistered, match=r"tests\.sample:add is already registered as 'add'"):
        queue.task(add)
    assert queue.registry.get("add") is sample.add


def test_a_cell_that_is_run_again_with_another_signature_replaces_the_first() -> None:
    source = "def paint(page: int{more}) -> str:\n    return f'{{page}} {{locals()}}'"

    with TaskQueue.local(workers=1) as queue:

        def run_cell(more: str) -> Any:
            cell: dict[str, Any] = {"__name__": "__main__"}
            exec(source.format(more=more), cell)  # noqa: S102 - a cell is run again
            return queue.task(cell["paint"])

        run_cell("")
        again = run_cell(", colour: str = 'red'")
        assert again.submit(3, colour="blue").result(timeout=20) == "3 {'page': 3, 'colour': 'blue'}"


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_wrong_delays_and_hastens_nothing(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    wrong = dt.timedelta(hours=hours)

    class WrongClock(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return dt.datetime.now(tz) + wrong

    monkeypatch.setattr(clock, "datetime", WrongClock)
    with Workers(queue):
        before = time.monotonic()
        job = sample.add_async.options(delay_s=0.5).submit(1)
        assert job.result(timeout=20) == 2
        assert time.monotonic() - before >= 0.5
        record = job.refresh().record
    assert abs((record.created_at - dt.datetime.now(dt.UTC)).total_seconds()) < 60
    (attempt,) = record.attempts
    assert attempt.wait_s is not None
    assert attempt.wait_s < 60


def test_a_worker_warns_of_a_redis_that_may_evict_keys(caplog: pytest.LogCaptureFixture) -> None:
    with (
        start_local_stores() as stores,
        Redis.from_url(stores.redis_url) as redis,
        TaskQueue(Settings(redis_url=stores.redis_url, atlas_uri=stores.atlas_uri)) as queue,
    ):
        queue.add(sample.add_async)
        redis.config_set("maxmemory-policy", "allkeys-lru")
        with Workers(queue):
            assert sample.add_async.submit(1).result(timeout=20) == 2
        assert "maxmemory-policy is allkeys-lru" in caplog.text
        assert "noeviction" in caplog.text

        caplog.clear()
        redis.config_set("maxmemory-policy", "noeviction")
        with Workers(queue):
            sample.add_async.submit(1).result(timeout=20)
        assert "maxmemory-policy" not in caplog.text
