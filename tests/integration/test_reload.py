"""Workers whose code changes on disk, and an APP that cannot be imported."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtqkit import AppError, JobHandle, Settings, TaskQueue
from tests.command import ROOT, living, running
from tests.wait import wait_until

CODE = """
import asyncio
from dtqkit import TaskQueue
queue = TaskQueue()
@queue.task
async def version(seconds: float = 0.0) -> int:
    await asyncio.sleep(seconds)
    return {version}
@queue.task
def version_in_child() -> int:
    return {version}
"""
START_S = 60.0


class Shop:
    """An app that is edited."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "reloaded_shop.py"
        self.path = os.pathsep.join((str(directory), str(ROOT)))
        self.edit(1)

    def edit(self, version: int | str) -> None:
        self.file.write_text(CODE.format(version=version))


def answers(queue: TaskQueue, task: str, wanted: int) -> Callable[[], bool]:
    return lambda: submit(queue, task).result(timeout=START_S) == wanted


def submit(queue: TaskQueue, task: str, seconds: float | None = None) -> JobHandle[Any]:
    if task not in queue.registry:  # a client knows a task by its name and signature

        @queue.task
        async def version(seconds: float = 0.0) -> int: ...

        @queue.task
        def version_in_child() -> int: ...

    arguments = {} if seconds is None else {"seconds": seconds}
    return queue.submit_call(queue.registry.get(task).bind(**arguments))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_finishes_what_runs_and_starts_again_with_the_new_code(
    queue: TaskQueue, settings: Settings, tmp_path: Path, workers: int
) -> None:
    shop, log = Shop(tmp_path), tmp_path / "log"
    command = ("worker", "reloaded_shop:queue", "--reload", "--workers", str(workers))
    settings = settings.replace(grace_s=20)
    with running(*command, log=log, settings=settings, PYTHONPATH=shop.path) as process:
        wait_until(lambda: len(queue.workers()) == workers, timeout_s=START_S)
        assert submit(queue, "version").result(timeout=START_S) == 1
        long = submit(queue, "version", 3.0)
        wait_until(lambda: long.refresh().status == "running")
        shop.edit("(1")  # half a file
        wait_until(lambda: f"{shop.file} changed, but cannot be loaded" in log.read_text(), timeout_s=START_S)
        assert submit(queue, "version").result(timeout=START_S) == 1
        shop.edit(2)
        wait_until(lambda: log.read_text().count(f"reloaded: {shop.file} changed\n") == workers, timeout_s=START_S)
        wait_until(answers(queue, "version", 2), timeout_s=START_S)
        assert submit(queue, "version_in_child").result(timeout=START_S) == 2
        assert (long.result(timeout=START_S), long.refresh().record.claim_number) == (1, 1)
        process.terminate()
        assert process.wait(30) == 0
    assert "died" not in log.read_text()
    warnings = [line for line in log.read_text().splitlines() if "WARNING" in line]
    # A leader that begins may look for a job between its insert and its push.
    assert [line for line in warnings if "lane audit" not in line] == []


@pytest.mark.parametrize(
    ("app", "why"),
    [
        ("no_such_module:queue", "there is no module 'no_such_module'"),
        ("tests.sample:nothing", "did you mean tests.sample:queue"),
        ("broken_shop:queue", "SyntaxError"),
        ("ending_shop:queue", "status 3"),
    ],
)
def test_start_workers_refuses_an_app_that_cannot_be_imported(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str, why: str
) -> None:
    (tmp_path / "broken_shop.py").write_text("queue = (")
    (tmp_path / "ending_shop.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(ROOT))))
    with TaskQueue(settings) as queue, pytest.raises(AppError, match=why):
        queue.start_workers(1, app=app)


def test_a_stop_does_not_wait_for_changed_code_to_be_imported(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    monkeypatch.setenv("PYTHONPATH", shop.path)
    log = tmp_path / "log"
    with (
        TaskQueue(settings) as queue,
        running("worker", "reloaded_shop:queue", "--reload", settings=settings, log=log) as worker,
    ):
        wait_until(answers(queue, "version", 1), timeout_s=START_S)
        began = tmp_path / "began"
        slow = f"import os, pathlib, time\npathlib.Path({str(began)!r}).write_text(str(os.getpid()))\ntime.sleep(60)\n"
        shop.file.write_text(slow + CODE.format(version=2))
        wait_until(began.exists, timeout_s=START_S)
        worker.terminate()
        assert worker.wait(timeout=15) == 0
        # And nothing of it is left
        checking = int(wait_until(began.read_text))
        wait_until(lambda: not living({checking}))
