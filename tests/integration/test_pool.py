"""The pool: children are ready before their job comes, and what they cannot import costs no job anything."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dtqkit import Settings
from dtqkit.model.jobs import Job
from dtqkit.model.outcomes import Outcome, Success
from dtqkit.worker import child_messages, childprocess, source
from dtqkit.worker.attempt import RunningAttempt
from dtqkit.worker.pool import Pool
from tests import command
from tests.wait import wait_until, wait_until_async


class Trial:
    """A pool with what a worker would give it."""

    def __init__(
        self, size: int, modules: Sequence[str], app: str | None, outdated: Callable[..., bool] | None
    ) -> None:
        self.changes = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._refs = modules
        self._app = app
        self.pool = Pool(size, 100, self._setup, self.watch, changed=self._changed, outdated=outdated)
        self.begun: list[float] = []
        self.waits: list[list[str]] = []
        self.lines: list[str] = []

    def _setup(self) -> child_messages.Setup:
        settings = msgspec.to_builtins(Settings())
        return child_messages.Setup(
            app=self._app, tasks={ref: ref for ref in self._refs}, known=self._refs, settings=settings, argv=["worker"]
        )

    def watch(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _changed(self) -> None:
        self.changes += 1

    def run(self, ref: str, **payload: Any) -> asyncio.Task[Outcome]:
        order = child_messages.Run(
            ref, payload, "6b0a0000000000000000000a", ref.partition(":")[2], 1, "w", 1_000_000, 1
        )

        def waiting(ids: Sequence[str]) -> None:
            self.waits.append(list(ids))

        def report(_fraction: float | None, text: str) -> None:
            self.lines.append(text)

        return asyncio.create_task(self.pool.run(order, 30.0, report, self.begun.append, waiting))


@asynccontextmanager
async def trial(
    refs: Sequence[str], size: int = 1, *, app: str | None = None, outdated: Callable[..., bool] | None = None
) -> AsyncIterator[Trial]:
    tried = Trial(size, refs, app, outdated)
    keeping = asyncio.create_task(tried.pool.keep())
    try:
        yield tried
    finally:
        keeping.cancel()
        await tried.pool.close()


async def until(what: Callable[[], Any], timeout_s: float = 20.0) -> None:
    await wait_until_async(what, timeout_s)


PID = "tests.child_tasks:pid"
HOLD = "tests.child_tasks:hold"


def result(outcome: Outcome) -> Any:
    assert isinstance(outcome, Success), outcome
    return outcome.result


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module that children can import; returns its name."""
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(f"from dtqkit import task\n{text}\n")
        return name

    return write


PRICE = "@task\ndef price(n: int) -> int:\n    return n + {more}"


def test_a_child_is_ready_ahead_of_each_job() -> None:
    async def body() -> None:
        async with trial([PID, HOLD], size=2) as t:
            await until(lambda: t.pool.ready == 1)
            first = t.run(HOLD, seconds=3.0)
            await until(lambda: t.begun and t.pool.ready == 1)
            second = t.run(HOLD, seconds=3.0)
            await until(lambda: len(t.begun) == 2)
            assert t.pool.ready == 0
            assert result(await first) != result(await second)
            assert t.pool.ready == 2
            assert t.changes >= 4

    asyncio.run(body())


def test_more_children_run_while_they_are_lent() -> None:
    async def body() -> None:
        async with trial([PID, HOLD], size=1) as t:
            await until(lambda: t.pool.ready == 1)
            waits = t.run(HOLD, seconds=1.5)
            await until(lambda: t.begun)
            assert t.pool.ready == 0
            t.pool.lend(1)
            await until(lambda: t.pool.ready == 1)
            assert isinstance(result(await t.run(PID)), int)
            t.pool.lend(0)
            assert t.pool.ready == 0
            await waits
            assert t.pool.ready == 1

    asyncio.run(body())


def test_a_child_that_was_lent_is_kept_for_the_next_wait_and_gives_no_slot_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body() -> None:
        async with trial([PID, HOLD], size=1) as t:
            await until(lambda: t.pool.ready == 1)
            waits = t.run(HOLD, seconds=2.0)
            await until(lambda: t.begun)
            pids: set[Any] = set()
            for _ in range(3):  # one wait after the other
                t.pool.lend(1)
                await until(lambda: t.pool.ready == 1)
                pids.add(result(await t.run(PID)))
                t.pool.lend(0)
                assert t.pool.ready == 0
            assert len(pids) == 1
            await waits
            # Both children are idle, and one job may be claimed
            await until(lambda: len(command.descendants(os.getpid()) & pids) == 1)
            assert t.pool.ready == 1
            # And after a while, there is one
            monkeypatch.setattr(t.pool, "_warm_until", 0.0)
            await until(lambda: len(command.children_with(os.getpid(), b"")) - len(others) == 1)

    others = command.children_with(os.getpid(), b"")

    asyncio.run(body())


def test_an_idle_child_that_dies_is_replaced_at_once() -> None:
    async def body() -> None:
        async with trial([PID]) as t:
            await until(lambda: t.pool.ready == 1)
            first = result(await t.run(PID))
            os.kill(first, signal.SIGKILL)
            await until(lambda: t.pool.ready == 0)
            await until(lambda: t.pool.ready == 1)
            assert result(await t.run(PID)) != first

    asyncio.run(body())


def test_the_first_line_and_not_the_import_begins_the_run(module: Callable[[str], str]) -> None:
    name = module("import time\ntime.sleep(1.5)\n" + PRICE.format(more=1))

    async def body() -> None:
        async with trial([PID]) as t:  # it imports the module when the job comes
            await until(lambda: t.pool.ready == 1)
            sent = time.monotonic()
            outcome = await t.run(f"{name}:price", n=1)
            assert isinstance(outcome, Success)
            assert outcome.run_ms < 1000
            assert 1.4 < t.begun[0] - sent < 15

    asyncio.run(body())


def test_an_import_may_take_longer_than_is_usual(
    module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(childprocess, "SLOW_IMPORT_S", 0.3)
    name = module("import time\ntime.sleep(2)\n" + PRICE.format(more=1))

    async def body() -> None:
        async with trial([f"{name}:price"]) as t:
            assert result(await t.run(f"{name}:price", n=1)) == 2

    asyncio.run(body())
    assert "still imports the tasks' modules" in caplog.text


def test_a_module_that_cannot_be_imported_is_logged_and_tried_again(
    module: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    name = module("@task\ndef price(n: int) -> i")
    ref = f"{name}:price"

    async def body() -> None:
        async with trial([PID, ref]) as t:
            await until(lambda: t.pool.ready == 1)
            assert "SyntaxError: expected ':'" in t.pool.unusable[ref]
            assert isinstance(result(await t.run(PID)), int)  # others are not concerned
            module(PRICE.format(more=1))
            await until(lambda: not t.pool.unusable)
            assert result(await t.run(ref, n=1)) == 2

    asyncio.run(body())
    (logged,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert "SyntaxError" in logged


@pytest.mark.parametrize("how", ["import os; os._exit(7)", "import sys; sys.exit(7)", "raise RuntimeError('no')"])
def test_an_app_that_breaks_its_children_is_logged_once_and_its_jobs_wait(
    module: Callable[[str], str], caplog: pytest.LogCaptureFixture, tmp_path: Path, how: str
) -> None:
    tries = tmp_path / "tries"
    tries.write_text("")
    name = module(f"print('so far')\nopen({str(tries)!r}, 'a').write('x')\n{how}")
    ref = f"{name}:price"

    async def body() -> list[str]:
        async with trial([ref], app=f"{name}:queue") as t:
            waiting = t.run(ref, n=1)
            await until(lambda: caplog.records)
            await until(lambda: len(tries.read_text()) >= 3)
            assert t.pool.ready == 0
            assert not waiting.done()
            # Before the module changes: a child that is importing it then shows its new lines under the old error.
            logged = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
            module(f"{PRICE.format(more=1)}\nfrom dtqkit import TaskQueue\nqueue = TaskQueue()")
            assert result(await waiting) == 2
            return logged

    logged = asyncio.run(body())
    assert len(logged) == 1
    assert "7" in logged[0] or "RuntimeError: no" in logged[0]


def test_one_worker_never_runs_two_versions_of_the_code(module: Callable[[str], str]) -> None:
    name = module(PRICE.format(more=1))
    ref = f"{name}:price"
    __import__(name)
    seen: list[Sequence[str]] = []
    others = command.children_with(os.getpid(), b"")

    def outdated(files: Sequence[str]) -> bool:
        seen.append(files)
        return False

    async def body() -> None:
        async with trial([ref, PID], outdated=outdated) as t:
            first = result(await t.run(PID))
            module(PRICE.format(more=10))
            os.kill(first, signal.SIGKILL)
            await until(lambda: seen)
            # Its worker is to start again: no more children
            await until(lambda: command.children_with(os.getpid(), b"") == others)
            assert t.pool.ready == 0

    try:
        asyncio.run(body())
        ((file,),) = seen
        assert file.endswith(f"{name}.py")
    finally:
        del sys.modules[name]


def test_where_nobody_starts_the_worker_again_new_code_runs_with_a_warning(
    module: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    name = module(PRICE.format(more=1))
    ref = f"{name}:price"
    __import__(name)

    async def body() -> None:
        async with trial([ref, PID]) as t:
            first = result(await t.run(PID))
            module(PRICE.format(more=10))
            os.kill(first, signal.SIGKILL)
            await until(lambda: not t.pool.ready)
            assert result(await t.run(ref, n=1)) == 11

    try:
        asyncio.run(body())
        assert "source files have changed" in caplog.text
    finally:
        del sys.modules[name]


def test_a_helper_that_was_edited_counts_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / f"store_{tmp_path.name}".replace("-", "_")
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text("from . import prices\n")
    (package / "prices.py").write_text("PRICE = 1\n")
    name = f"{package.name}.tasks"
    __import__(name)
    try:
        before = source.hashes([name])
        assert {Path(file).name for file in before} == {"__init__.py", "tasks.py", "prices.py"}
        (package / "prices.py").write_text("PRICE = 2\n")
        assert source.changed(before, source.hashes([name])) == [str(package / "prices.py")]
    finally:
        for loaded in [m for m in sys.modules if m.startswith(package.name)]:
            del sys.modules[loaded]


def test_a_job_that_waits_says_so_from_any_of_its_threads() -> None:
    ref = "tests.child_tasks:lend"

    async def body() -> None:
        async with trial([ref]) as t:
            await t.run(ref)
            assert t.waits == [["a", "b"], []]

    asyncio.run(body())


def test_a_job_of_this_process_that_waits_says_so_on_the_loop() -> None:
    seen: list[tuple[Sequence[str], bool]] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        attempt = RunningAttempt(
            msgspec.convert(
                {"id": "a", "task": "t", "payload": {}, "created_at": "2026-01-01T00:00:00Z"},
                Job,
            ),
            waiting=lambda _, ids: seen.append((ids, asyncio.get_running_loop() is loop)),
        )
        attempt.attach(asyncio.current_task())  # pyright: ignore[reportArgumentType]
        await asyncio.to_thread(attempt.context.lends, ["b"])
        attempt.context.lends(())
        await until(lambda: len(seen) == 2)

    asyncio.run(body())
    assert seen == [(["b"], True), ((), True)]


def test_a_child_ends_with_its_worker() -> None:
    async def body() -> int:
        async with trial([PID]) as t:
            return int(result(await t.run(PID)))

    pid = asyncio.run(body())
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_broken_module_is_imported_once_for_all_of_its_tasks(
    module: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = tmp_path / "count"
    name = module(f"open({str(count)!r}, 'a').write('x')\nraise RuntimeError('no')")
    refs = [f"{name}:{task}" for task in ("a", "b", "c")]

    async def body() -> None:
        async with trial([PID, *refs]) as t:
            await until(lambda: t.pool.ready == 1)
            assert set(t.pool.unusable) == set(refs)
            assert count.read_text() == "x"

    asyncio.run(body())
    (logged,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert logged.count("RuntimeError: no") == 1


def test_a_job_may_run_longer_than_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(childprocess, "IMPORT_S", 5.0)

    async def body() -> None:
        async with trial(["tests.sample:sleep"]) as t:
            await until(lambda: t.pool.ready)
            monkeypatch.setattr(childprocess, "IMPORT_S", 0.3)
            assert result(await t.run("tests.sample:sleep", seconds=0.8)) == "slept"

    asyncio.run(body())
