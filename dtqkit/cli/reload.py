"""Restart a worker whose code on disk has changed: after its running jobs, and once that code can be imported."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from dtqkit.model.errors import AppError
from dtqkit.run.supervisor import check_app_meanwhile
from dtqkit.support.formatting import counted, few
from dtqkit.worker.guardian import guardian

log = logging.getLogger("dtqkit.process")

#: How often the sources are looked at, in seconds.
LOOK_S: Final = 1.0
#: Pause before unchanged code that cannot be imported is tried again, in seconds.
AGAIN_S: Final = 5.0
#: Not watched: the standard library and installed packages.
_INSTALLED: Final = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(__file__).parents[1])}
)


class Sources:
    """The source files of the user's modules that this process has loaded, and of the package that APP is in."""

    def __init__(self, app: str) -> None:
        self._top = app.partition(":")[0].partition(".")[0]
        self._looked_ns = time.time_ns()
        self._seen = self._scan()

    def changed(self) -> list[str]:
        """Files that were added, deleted or written since the last call."""
        now, before = self._scan(), self._seen
        # A file that was only loaded since then counts only if it was written too.
        fresh = {file for file in now.keys() - before.keys() if now[file] > self._looked_ns}
        self._looked_ns = time.time_ns()
        self._seen = now
        same = before.keys() & now.keys()
        return sorted(fresh | (before.keys() - now.keys()) | {file for file in same if before[file] != now[file]})

    def _scan(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for file in {*self._loaded(), *self._beside()}:
            try:
                found[file] = os.stat(file).st_mtime_ns  # noqa: PTH116 - hundreds of files, each second
            except OSError:
                continue
        return found

    def _loaded(self) -> Iterable[str]:
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file.endswith(".py") and not file.startswith(_INSTALLED):
                yield os.path.abspath(file)  # noqa: PTH100

    def _beside(self) -> Iterable[str]:
        """All files of APP's package: also those not loaded, such as modules that cannot be imported."""
        here = Path.cwd()
        if (here / self._top).is_dir():
            return [str(file) for file in (here / self._top).rglob("*.py")]
        return [str(here / f"{self._top}.py")]


class Restarter:
    """Decides when this process executes its command again. Runs on the worker's loop."""

    def __init__(self, app: str, stop: asyncio.Event, busy: Callable[[], int]) -> None:
        """`busy` returns how many jobs run."""
        self._app = app
        self._busy = busy
        #: The files that have changed, for the log.
        self.changed = ""
        self._stop = stop
        self._waiting: asyncio.Task[None] | None = None
        #: Whether this process executes its command again after its stop.
        self.due = False

    def outdated(self, files: Sequence[str]) -> bool:
        """These files differ from what this worker has loaded. Returns False: no child may run the new code here."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._when_importable(files), name="restart")
        return False

    async def watch(self) -> None:
        """For --reload: look at the sources each second."""
        sources = Sources(self._app)
        while True:
            await asyncio.sleep(LOOK_S)
            if files := sources.changed():
                if self._waiting is not None:
                    self._waiting.cancel()  # what it waits for has changed again
                    self._waiting = None
                self.outdated(files)

    async def _when_importable(self, files: Sequence[str]) -> None:
        """Half-written files and syntax errors don't stop the worker: it runs the old code until the new loads."""
        self.changed = few([_shown(file) for file in files])
        reported = ""
        while True:
            try:
                await check_app_meanwhile(self._app)
                break
            except AppError as error:
                if str(error) != reported:
                    reported = str(error)
                    log.error("%s changed, but cannot be loaded; old code runs on: %s", self.changed, error)  # noqa: TRY400
                await asyncio.sleep(AGAIN_S)
        if busy := self._busy():
            jobs = counted(busy, "running job is", "running jobs are")
            log.info("%s changed: reloading once %s done", self.changed, jobs)
        self.due = True
        self._stop.set()

    def close(self) -> None:
        """The process is to end, and not to execute its command again."""
        self.due = False
        if self._waiting is not None:
            self._waiting.cancel()


def _shown(file: str) -> str:
    """Relative to the current directory, for a file below it."""
    relative = os.path.relpath(file)
    return file if relative.startswith(os.pardir) else relative


def wait_for_change(app: str, owner: int) -> None:
    """Wait until a source file changes, for a supervised worker that can no longer load APP; exit when `owner` does."""
    sources = Sources(app)
    while not sources.changed():
        time.sleep(LOOK_S)
        if os.getppid() != owner:
            sys.exit(0)


def start_again(directory: str) -> NoReturn:
    """Execute this process's command again, with the same pid."""
    guardian.end()
    os.chdir(directory)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves again
