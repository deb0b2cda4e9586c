"""`dtqkit demo`: thousands of real jobs on private stores."""

from __future__ import annotations

import os
import signal
import sysconfig
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, NoReturn

import typer

from dtqkit import demo as tasks
from dtqkit.cli.progress import LaneProgress
from dtqkit.cli.report import BatchReport, print_report
from dtqkit.client.handles import JobList
from dtqkit.client.queue import TaskQueue
from dtqkit.control import AttemptRow
from dtqkit.local import start_local_stores
from dtqkit.model.settings import Settings
from dtqkit.run.supervisor import Supervisor
from dtqkit.support.sanitize import log_safely
from dtqkit.tasks.task import Call

WORKERS: Final = 3
#: Longest that the whole batch may take, in seconds.
BATCH_S: Final = 600.0
#: The worker is killed after this many jobs of its lane.
CRASH_AT: Final = 100

BAD_FILE: Final = "planted_bad_file.py"


def demo(
    files: Annotated[int | None, typer.Option(min=1, metavar="N", help="Read at most N files.  [default: all]")] = None,
) -> None:
    """Run several thousand jobs on private stores and print a report.

    The jobs parse, index and lint the Python standard library. One file is not Python, and one job kills its worker. A
    redis-server, a mongod and three worker processes are started for the demo and stopped at the end.
    """
    log_safely("%(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.perf_counter()
    with ExitStack() as owned:
        directory = Path(owned.enter_context(tempfile.TemporaryDirectory(prefix="dtqkit-demo-")))
        paths = standard_library()[:files]
        print(f"{len(paths):,} files of the standard library, three jobs each", flush=True)
        stores = owned.enter_context(start_local_stores())
        settings = _settings(stores.redis_url, stores.atlas_uri)
        os.environ["DTQ_LOG_LEVEL"] = "error"  # for the workers: their log lines would break the progress bars
        supervisor = owned.enter_context(Supervisor(settings, "dtqkit.demo:queue", WORKERS))
        queue = owned.enter_context(TaskQueue(settings))
        supervisor.start_watching()
        print(f"redis-server, mongod and {WORKERS} worker processes started", flush=True)
        first = set(supervisor.pids)
        calls = batch(paths, directory / BAD_FILE)
        submitted = time.perf_counter()
        jobs = queue.submit_many(calls)
        print(f"{len(jobs):,} jobs submitted in {time.perf_counter() - submitted:.2f} s", flush=True)
        _follow(jobs, supervisor, first, settings.silence_s)
        batch_s = time.perf_counter() - submitted
        rows = queue.run(_history(queue))
        report = BatchReport([handle.asynchronous.known for handle in jobs], rows, batch_s, settings.child_count)
    print_report(report)
    print(f"\nall of it took {time.perf_counter() - started:.1f} s")


def standard_library() -> list[str]:
    """Its .py files on this machine, without its test suites and what was installed beside it."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    return sorted(str(p) for p in root.rglob("*.py") if not skipped & set(p.relative_to(root).parts))


def batch(paths: list[str], bad_file: Path) -> list[Call[Any]]:
    """The calls, in the order of submission: the bad file is written, and the crash planted."""
    bad_file.write_text("def planted(:\n", encoding="utf-8")
    calls: list[Call[Any]] = [tasks.parse.bind(path) for path in [*paths, str(bad_file)]]
    calls.insert(min(CRASH_AT, len(calls)), tasks.lose_worker.bind())
    calls += [tasks.index.bind(path) for path in paths]
    calls += [tasks.lint.bind(path) for path in paths]
    return calls


def _settings(redis_url: str, atlas_uri: str) -> Settings:
    """One child per worker and one claimed job in reserve: enough for three workers on a small machine."""
    return Settings.from_env().replace(redis_url=redis_url, atlas_uri=atlas_uri, children=1, concurrency=4)


def _follow(jobs: JobList[Any], supervisor: Supervisor, first: set[int], silence_s: float) -> None:
    """Show progress until every job is over. `first` are the worker processes at the start."""

    def idle() -> str:
        lost = not first <= set(supervisor.pids)
        return (
            f"waiting for the leader to notice the lost worker ({silence_s:.0f} s after its last heartbeat) …"
            if lost
            else ""
        )

    with LaneProgress((handle.asynchronous.known.priority for handle in jobs), idle) as progress:
        for handle in jobs.as_completed(timeout=BATCH_S):
            if supervisor.failure is not None:
                raise supervisor.failure
            progress.advance(handle.asynchronous.known.priority)


async def _history(queue: TaskQueue) -> list[AttemptRow]:
    return [row async for row in queue.core.history()]


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends it as Ctrl-C does: everything is stopped on the way out."""
    raise KeyboardInterrupt
