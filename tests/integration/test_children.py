"""What a task finds in a child process, and what it may do there without effect on the next job."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from dtqkit import JobFailed, JobHandle, TaskQueue
from tests import child_tasks as tasks
from tests.command import state_of
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture
def queue(queue: TaskQueue) -> TaskQueue:
    queue.include("tests.child_tasks")
    return queue


def first_line(job: JobHandle[Any]) -> str:
    return wait_until(job.log)[0]


# -- surroundings


def test_what_a_task_starts_sees_the_environment_of_its_worker(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    with Workers(queue):
        assert tasks.python_path.submit().result(timeout=20) == ["/somewhere", "/somewhere"]


@pytest.mark.parametrize("what", ["environment", "umask", "directory", "locale", "signals", "stdout"])
def test_what_a_job_changes_does_not_reach_the_next(queue: TaskQueue, worker: Workers, what: str) -> None:
    child = tasks.pid.submit().result(timeout=20)
    before = tasks.surroundings.submit().result(timeout=20)
    tasks.change.submit(what).result(timeout=20)
    assert tasks.surroundings.submit().result(timeout=20) == before
    assert tasks.pid.submit().result(timeout=20) == child


# -- output


@pytest.mark.parametrize(
    "how",
    ["buffer", "encoding", "reconfigure", "attributes", "faulthandler", "handler", "redirect", "fileno"],
)
@pytest.mark.parametrize(
    "task", [tasks.use_in_child, tasks.use_in_thread, tasks.use_in_coroutine], ids=lambda t: t.name
)
def test_a_library_may_use_the_standard_streams_as_it_does_everywhere(queue: TaskQueue, task: Any, how: str) -> None:
    with Workers(queue):  # not by the fixture: pytest gives each phase of a test other streams
        job = task.submit(how)
        job.result(timeout=20)
    (line,) = job.log()
    assert f"from {how}" in line


def test_whatever_writes_in_a_child_is_in_the_log_once_and_in_order(queue: TaskQueue, worker: Workers) -> None:
    job = tasks.write_in_all_ways.submit()
    job.result(timeout=20)
    assert job.log() == (
        *("print", "context", "subprocess", "stderr", "descriptor", "dunder", "kept handler"),
        *("WARNING plain: no handler", "WARNING plain: thread", "last", "no end"),
    )


def test_a_progress_bar_is_one_line(queue: TaskQueue, worker: Workers) -> None:
    job = tasks.progress_bar.submit()
    job.result(timeout=20)
    assert job.log() == ("1999 of 2000",)


def test_more_output_than_a_pipe_holds_blocks_nobody_and_is_bounded(queue: TaskQueue, worker: Workers) -> None:
    job = tasks.pour.submit(3)
    job.result(timeout=30)
    lines = job.log()
    assert lines[-1] == "end"
    assert sum(map(len, lines)) < 70_000


def test_the_last_output_of_a_child_is_in_the_log(queue: TaskQueue, worker: Workers) -> None:
    job = tasks.last_output.submit()
    with pytest.raises(JobFailed, match="SIGKILL"):
        job.result(timeout=20)
    assert job.log() == ("last output",)


# -- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_a_child_leaves_signals_to_its_worker(queue: TaskQueue, worker: Workers, number: signal.Signals) -> None:
    job = tasks.hold.submit(0.5)
    child = int(first_line(job))
    os.kill(child, number)
    assert job.result(timeout=20) == child
    os.kill(child, number)  # while it is idle
    assert tasks.pid.submit().result(timeout=20) == child
    assert len(job.refresh().record.attempts) == 1


def test_a_task_may_handle_signals_while_it_runs(queue: TaskQueue, worker: Workers) -> None:
    assert tasks.own_handler.submit().result(timeout=20) == "SIGTERM"
    job = tasks.hold.submit(0.3)
    os.kill(int(first_line(job)), signal.SIGTERM)
    job.result(timeout=20)


def test_a_program_that_a_task_has_started_ends_by_sigterm(queue: TaskQueue, worker: Workers) -> None:
    assert tasks.terminate_program.submit().result(timeout=20) == -signal.SIGTERM


def test_a_task_may_use_a_pool_of_forked_processes(queue: TaskQueue, worker: Workers) -> None:
    assert tasks.forked_pool.submit(4).result(timeout=20) == [0, 1, 2, 3]


# -- processes


@pytest.mark.parametrize(("how", "status"), [("returns", 0), ("raises", 1)])
def test_a_fork_that_leaves_the_task_is_not_taken_for_the_job(
    queue: TaskQueue, worker: Workers, how: str, status: int
) -> None:
    job = tasks.fork.submit(how)
    assert job.result(timeout=20) == tasks.pid.submit().result(timeout=20)
    assert job.log()[-1] == f"status {status}"
    assert len(job.refresh().record.attempts) == 1


def test_a_dead_child_is_noticed_at_once_though_its_fork_still_runs(queue: TaskQueue, worker: Workers) -> None:
    started = time.monotonic()
    job = tasks.die_while_a_fork_lives.submit()
    assert job.result(timeout=20) == 2
    assert time.monotonic() - started < 4  # the fork lives for 5 s
    assert [a.ending for a in job.refresh().record.attempts] == ["crashed", "completed"]


def test_what_a_killed_child_has_started_is_killed_too(queue: TaskQueue, worker: Workers) -> None:
    job = tasks.start_and_hold.submit()
    child, program = map(int, first_line(job).split())
    os.kill(child, signal.SIGKILL)
    with pytest.raises(JobFailed, match="SIGKILL"):
        job.result(timeout=20)
    wait_until(lambda: not state_of(program))


# -- failures


@pytest.mark.parametrize(
    "task", [tasks.fail_in_child, tasks.fail_in_thread, tasks.fail_in_coroutine], ids=lambda t: t.name
)
def test_a_traceback_shows_the_users_code_and_where_it_came_from(queue: TaskQueue, worker: Workers, task: Any) -> None:
    with pytest.raises(JobFailed) as failure:
        task.submit().result(timeout=20)
    text = failure.value.traceback
    assert "dtqkit/worker" not in text
    assert text.index("KeyError: 'lost'") < text.index("direct cause") < text.index("ValueError: wrong")
    assert "in _inner" in text
