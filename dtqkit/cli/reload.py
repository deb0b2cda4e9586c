"""A worker whose code on disk has changed: it finishes what runs and starts again, once that code can be imported."""

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
#: Pause before code that cannot be imported is tried again though nothing has changed, in seconds.
AGAIN_S: Final = 5.0
#: Where nobody edits: the standard library, and what is installed.
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
        """Files that are new, gone or written since the last look."""
        now, before = self._scan(), self._seen
        # What is only loaded now is no edit, unless it was written since.
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
        """What is of APP's package and not loaded, for want of a module that can be imported, say."""
        here = Path.cwd()
        if (here / self._top).is_dir():
            return [str(file) for file in (here / self._top).rglob("*.py")]
        return [str(here / f"{self._top}.py")]


class Restarter:
    """Decides when this process becomes a new one of the same command. On the worker's loop."""

    def __init__(self, app: str, stop: asyncio.Event, busy: Callable[[], int]) -> None:
        """`busy` says how many jobs run."""
        self._app = app
        self._busy = busy
        #: The files that have changed, for the log.
        self.changed = ""
        self._stop = stop
        self._waiting: asyncio.Task[None] | None = None
        #: Whether this process becomes a new one when it has stopped.
        self.due = False

    def outdated(self, files: Sequence[str]) -> bool:
        """These files are not what this worker has loaded. False: nothing shall run the new code here."""
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
        """Half-written files and syntax errors are no reason to stop: what runs runs on until they are mended."""
        self.changed = few([_shown(file) for file in files])
        told = ""
        while True:
            try:
                await check_app_meanwhile(self._app)
                break
            except AppError as error:
                if str(error) != told:
                    told = str(error)
                    log.error("%s changed, but cannot be loaded: the old code runs on: %s", self.changed, error)  # noqa: TRY400
                await asyncio.sleep(AGAIN_S)
        if busy := self._busy():
            jobs = counted(busy, "running job is", "running jobs are")
            log.info("%s changed: reloading once %s done", self.changed, jobs)
        self.due = True
        self._stop.set()

    def close(self) -> None:
        """This process is to end, and not to become a new one."""
        self.due = False
        if self._waiting is not None:
            self._waiting.cancel()


def _shown(file: str) -> str:
    """Relative to the current directory where it stands below that."""
    relative = os.path.relpath(file)
    return file if relative.startswith(os.pardir) else relative


def wait_for_change(app: str, owner: int) -> None:
    """Until a source file changes, for a supervised worker that cannot load APP any more; ends when `owner` does."""
    sources = Sources(app)
    while not sources.changed():
        time.sleep(LOOK_S)
        if os.getppid() != owner:
            sys.exit(0)


def start_again(directory: str) -> NoReturn:
    """Become a new process of the same command, with the same pid."""
    guardian.end()
    os.chdir(directory)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves again
