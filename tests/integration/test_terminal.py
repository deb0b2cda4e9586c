"""What a job says never drives the terminal of who looks at it."""

from __future__ import annotations

import os
import pty
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dtqkit import Settings, TaskQueue
from tests import forked, sample
from tests.command import ROOT, dtqkit, environment, running
from tests.wait import wait_until
from tests.workers import Workers

#: Title, clear, clipboard, C1's CSI, backspace, a mark that turns text around, rich's markup.
EVIL = "\x1b]0;owned\x07\x1b[2J\x1b]52;c;eA==\x07\x9b2J\x08\u202e[bold red]text[/]"
FORBIDDEN = ("\x1b]0;", "\x1b[2J", "\x1b]52;", "\x9b", "\x08", "\u202e")


def on_terminal(*arguments: str, settings: Settings, columns: int = 300) -> str:
    """`dtqkit …` on a terminal of its own, to its end: all that it wrote there."""
    ours, theirs = pty.openpty()
    environ = environment(settings, TERM="xterm-256color", COLUMNS=str(columns))
    written = b""
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(forked.run, arguments, environ, ROOT, (theirs, theirs, theirs), timeout=60)
        ended.add_done_callback(lambda _: os.close(theirs))
        try:
            while data := os.read(ours, 65536):
                written += data
        except OSError:  # no process has it open any more
            ended.result()
        finally:
            os.close(ours)
    return written.decode()


@pytest.fixture
def job_ids(queue: TaskQueue, worker: Workers) -> tuple[str, str]:
    """A failed job, and one that has printed and completed; both with hostile texts."""
    failed = sample.fail.options(max_attempts=1, tags=(EVIL,)).submit(f"first {EVIL}\nsecond {EVIL}")
    printed = sample.count_aloud.submit(EVIL, 1)
    wait_until(lambda: failed.status == "failed" and printed.status == "completed", 30)
    return failed.id, printed.id


def test_no_text_of_a_job_drives_a_terminal(job_ids: tuple[str, str], settings: Settings) -> None:
    failed, printed = job_ids
    for arguments in (
        ["job", failed],
        ["job", printed, "--log"],
        ["jobs"],
        ["jobs", "--json"],
        ["job", failed, "--json"],
        ["jobs", "--q", EVIL],
        ["job", EVIL],
        ["requeue", EVIL],
        ["submit", "tests.sample:queue", EVIL],
        ["submit", "tests.sample:queue", "fail", f"{EVIL}=1"],
    ):
        shown = on_terminal(*arguments, settings=settings)
        assert [wrong for wrong in FORBIDDEN if wrong in shown] == [], (arguments, shown)
        if arguments in (["job", failed], ["job", printed, "--log"], ["jobs"]):
            assert r"\x1b]0;owned\x07" in shown, (arguments, shown)
            assert "[bold red]text[/]" in shown, (arguments, shown)


def test_no_text_of_a_pause_drives_a_terminal(queue: TaskQueue, settings: Settings) -> None:
    of_some = ("--task", "fail", "--where", f"message={EVIL}")
    for arguments in (
        ("pause", *of_some, "--reason", EVIL, "--allow-unknown"),
        ("pauses",),
        ("resume", *of_some),
    ):
        shown = on_terminal(*arguments, settings=settings)
        assert "task 'fail'" in shown
        assert [wrong for wrong in FORBIDDEN if wrong in shown] == [], (arguments, shown)


def test_a_log_is_raw_on_demand_and_in_a_pipe(job_ids: tuple[str, str], settings: Settings) -> None:
    _, printed = job_ids
    assert "\x1b]0;owned" in on_terminal("job", printed, "--log", "--raw", settings=settings)
    assert EVIL in dtqkit("job", printed, "--log", settings=settings).stdout
    wrong = dtqkit("job", printed, "--raw", settings=settings)
    assert (wrong.returncode, "--raw goes with --log" in wrong.stderr) == (2, True)


def test_a_workers_log_is_harmless(queue: TaskQueue, settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    job = sample.fail.options(max_attempts=1).submit(EVIL)
    with running("worker", "tests.sample:queue", log=log, settings=settings):
        wait_until(lambda: job.status == "failed", 40)
        wait_until(lambda: "ValueError" in log.read_text(), 10)
    assert [wrong for wrong in FORBIDDEN if wrong in log.read_text()] == []
