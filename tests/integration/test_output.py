"""What a task prints and logs is in its job's log, wherever it runs; and nobody else's output is."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import pytest

from dtqkit import TaskQueue
from tests import sample
from tests.workers import Workers


@pytest.mark.parametrize("task", [sample.speak, sample.speak_in_thread, sample.speak_async], ids=lambda t: t.name)
def test_what_a_task_prints_and_logs_is_in_its_log(queue: TaskQueue, task: Any) -> None:
    with Workers(queue):  # not by the fixture: pytest gives each phase of a test other streams
        job = task.submit()
        assert job.result(timeout=20) == "spoken"
    lines = job.log()
    assert lines[:4] == ("printed", "to stderr", "WARNING shop: 3 left", "ERROR shop: not found")
    assert lines[4] == "Traceback (most recent call last):"
    assert lines[-2:] == ("KeyError: 'lost'", "without an end")


def test_coroutines_that_take_turns_keep_their_lines_apart(queue: TaskQueue) -> None:
    jobs = queue.submit_many(sample.count_aloud.bind(name, 5) for name in ("a", "b", "c"))
    with Workers(queue):
        jobs.results(timeout=20)
    assert [job.log() for job in jobs] == [tuple(f"{name} {n}" for n in range(5)) for name in ("a", "b", "c")]


def test_what_is_printed_outside_a_job_goes_where_it_went(queue: TaskQueue, capsys: pytest.CaptureFixture[str]) -> None:
    with Workers(queue):
        job = sample.speak_async.submit()
        print("a cell's own")
        job.result(timeout=20)
    assert capsys.readouterr().out == "a cell's own\n"


def test_a_console_handler_shows_a_record_once_and_the_log_has_it_once(queue: TaskQueue) -> None:
    console = io.StringIO()
    handler = logging.StreamHandler(console)
    shop = logging.getLogger("shop")
    shop.addHandler(handler)
    try:
        with Workers(queue):
            job = sample.speak_async.submit()
            job.result(timeout=20)
    finally:
        shop.removeHandler(handler)
    assert console.getvalue().count("3 left") == 1
    assert sum("3 left" in line for line in job.log()) == 1


def test_a_handler_that_writes_to_stderr_does_not_double_a_line(queue: TaskQueue) -> None:
    shop = logging.getLogger("shop")
    with Workers(queue):
        handler = logging.StreamHandler()  # it holds what stands for stderr now
        shop.addHandler(handler)
        try:
            job = sample.speak_in_thread.submit()
            job.result(timeout=20)
        finally:
            shop.removeHandler(handler)
    assert sum("3 left" in line for line in job.log()) == 1


def test_streams_and_logging_are_as_they_were_once_the_last_worker_is_gone(queue: TaskQueue) -> None:
    before = (sys.stdout, sys.stderr, logging.Logger.callHandlers)
    with Workers(queue):
        with Workers(queue, name="other"):
            assert sys.stdout is not before[0]
        assert sys.stdout is not before[0]
        assert sys.stdout.encoding == before[0].encoding
        assert sys.stdout.isatty() == before[0].isatty()
    assert (sys.stdout, sys.stderr, logging.Logger.callHandlers) == before


def test_a_stream_that_is_replaced_while_a_worker_runs_stays_replaced(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = io.StringIO()
    with Workers(queue):
        monkeypatch.setattr(sys, "stdout", theirs)
    print("hello")
    assert theirs.getvalue() == "hello\n"
