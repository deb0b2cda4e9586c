"""Lifespans and middlewares that fail, hang or are written wrongly, in a real worker process and its children."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from dtqkit import JobFailed, LifespanFailed, Settings, TaskQueue
from dtqkit.tasks import lifespan
from dtqkit.tasks.hooks import Life
from tests import hooks_trouble as tasks
from tests.command import dtqkit, running
from tests.wait import wait_until

APP = "tests.hooks_trouble:queue"


@pytest.fixture
def queue(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> TaskQueue:
    for task in tasks.queue.registry:
        monkeypatch.setattr(task, "_queue", queue, raising=False)  # the app's own names no servers here
    return queue


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def worker(settings: Settings, tmp_path: Path, notes: Path) -> Callable[[str], AbstractContextManager[Any]]:
    """A worker with this trouble; what it logs is in the file `log`."""

    def start(trouble: str, **changes: Any) -> AbstractContextManager[Any]:
        settings_of = settings.replace(**changes)
        env = {"HOOKS_TROUBLE": trouble, "HOOKS_FILE": str(notes)}
        return running("worker", APP, log=tmp_path / "log", settings=settings_of, **env)

    return start


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("raises", "lifespan tests.hooks_trouble:connect raised ConnectionError: mongodb://***@db/ does not answer ("),
        ("never yields", "lifespan tests.hooks_trouble:connect never yields: it must yield once"),
    ],
)
def test_a_worker_whose_lifespan_fails_does_not_start_and_says_so_in_one_line(
    settings: Settings, trouble: str, said: str
) -> None:
    done = dtqkit("worker", APP, settings=settings, HOOKS_TROUBLE=trouble)
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last.startswith(f"dtqkit: {said}")
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert " serves " not in done.stderr


def test_a_lifespan_that_yields_twice_is_named_when_its_worker_stops(
    queue: TaskQueue, worker: Callable[..., AbstractContextManager[Any]], tmp_path: Path
) -> None:
    with worker("yields twice") as process:
        assert tasks.on_the_loop.submit().result(timeout=60) == "ran"
        process.terminate()
        assert process.wait(30) == 1
    assert "lifespan tests.hooks_trouble:connect yields more than once" in (tmp_path / "log").read_text()


def test_a_child_whose_lifespan_fails_runs_nothing_and_its_worker_says_why(
    queue: TaskQueue, worker: Callable[..., AbstractContextManager[Any]], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with worker("raises in a child") as process:
        waits = tasks.state.submit()
        assert tasks.on_the_loop.submit().result(timeout=60) == "ran"
        said = "a child process does not start: lifespan tests.hooks_trouble:connect raised ConnectionError: too many"
        wait_until(lambda: said in log.read_text())
        assert waits.refresh().status == "pending"  # it costs no job an attempt
        process.terminate()
        assert process.wait(30) == 0
    assert log.read_text().count(said) == 1


def test_a_plain_lifespan_is_in_the_main_thread_and_left_by_each_child_that_ends(
    queue: TaskQueue, worker: Callable[..., AbstractContextManager[Any]], notes: Path
) -> None:
    with worker("plain", child_jobs=1) as process:
        for _ in range(3):
            assert tasks.state.submit().result(timeout=60) == "plain"
        process.terminate()
        assert process.wait(30) == 0
    noted = notes.read_text().splitlines()
    entered = {line.split()[1] for line in noted if line.startswith("enter")}
    assert len(entered) >= 4  # the worker, and a child for each job
    assert sorted(line.split()[1] for line in noted if line.startswith("leave")) == sorted(entered)


def test_a_stop_ends_a_worker_whose_lifespan_hangs_at_its_start(
    worker: Callable[..., AbstractContextManager[Any]], notes: Path
) -> None:
    with worker("hangs") as process:
        wait_until(notes.exists, timeout_s=60)
        process.terminate()
        assert process.wait(20) == 0


def test_a_lifespan_that_does_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifespan, "LEAVE_S", 0.1)

    async def hangs() -> Any:
        yield
        await asyncio.sleep(600)  # longer than the test

    async def story() -> None:
        life = Life()
        life.hooks.set_lifespan(hangs)
        await life.begin()
        await life.end()

    with pytest.raises(LifespanFailed, match=r"hangs did not end within 0\.1 s and was cancelled"):
        asyncio.run(story())


def test_errors_and_slowness_of_a_middleware_are_those_of_the_attempt_wherever_it_runs(
    queue: TaskQueue, worker: Callable[..., AbstractContextManager[Any]]
) -> None:
    said = {
        "enter_fails": "middleware ByName raised ConnectionError: no tracer before the task",
        "slow_enter": "ran longer than timeout_s=0.5",
        "slow_leave": "ran longer than timeout_s=0.5",
        "swallowed": "middleware ByName ended ValueError: no",
    }
    with worker("") as process:
        for kind in ("_async", "_in_thread", ""):
            jobs = {name: tasks.queue.registry.get(f"{name}{kind}").submit() for name in said}  # type: ignore[attr-defined]
            for name, job in jobs.items():
                with pytest.raises(JobFailed) as failed:
                    job.result(timeout=60)
                assert said[name] in str(failed.value), f"{name}{kind}"
        assert tasks.state.submit().result(timeout=30) is None
        process.terminate()
        assert process.wait(30) == 0


def test_a_timeout_of_a_middleware_interrupts_a_task_in_a_child_which_then_runs_others(
    queue: TaskQueue, worker: Callable[..., AbstractContextManager[Any]], notes: Path
) -> None:
    with worker("") as process:
        with pytest.raises(JobFailed, match="middleware ByName raised TimeoutError"):
            tasks.hasty.submit().result(timeout=40)
        assert notes.read_text() == "interrupted\n"
        assert tasks.state.submit().result(timeout=30) is None
        process.terminate()
        assert process.wait(30) == 0
