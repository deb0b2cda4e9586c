"""A script whose own functions are tasks: it is said once where they run, and how a wait that is too long stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import CompletedProcess, environment

SCRIPT = """
import time
{log}
from dtqkit import TaskQueue

queue = TaskQueue.local(workers=2)

@queue.task
def add(a: int, b: int = 1) -> int:
    return a + b

@queue.task
def slow() -> None:
    time.sleep(1.0)

@queue.task(isolation="thread")
def asked(a: int) -> int:
    return a

@queue.task
async def on_the_loop(a: int) -> int:
    return a

for n in range(3):
    assert add.submit(n).result(timeout=30) == n + 1
assert asked.submit(1).result(timeout=30) == 1
assert on_the_loop.submit(1).result(timeout=30) == 1
job = slow.submit()
while job.refresh().status != "running":
    time.sleep(0.01)
try:
    job.result(timeout=0.1)
except TimeoutError as error:
    print(error)
job.result(timeout=30)
queue.close()
"""


def run(path: Path, log: str) -> CompletedProcess:
    path.write_text(SCRIPT.format(log=log))
    return subprocess.run([sys.executable, str(path)], env=environment(), capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("log", ["", "import logging; logging.basicConfig()"], ids=["no log", "a log"])
def test_a_script_is_warned_once_that_its_functions_run_in_threads_and_how_to_change_that(
    tmp_path: Path, log: str
) -> None:
    done = run(tmp_path / "shop.py", log)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "run in threads" in line]
    assert "tasks add, slow run in threads of this process" in line
    assert "put the function in a module" in line
    assert ("WARNING:dtqkit.queue:" in line) if log else ("shop.py:" in line and "UserWarning" in line)
    assert " (slow) is not over after 0.1 s: it is running since " in done.stdout
    # The second worker's first heartbeat may not have come yet.
    assert re.search(
        r", attempt 1 · 0 of 3 failures; (1 live worker serves|2 live workers serve) its task", done.stdout
    )
