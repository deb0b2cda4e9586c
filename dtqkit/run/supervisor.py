"""Worker processes: started in the default layout, started again when they die, stopped together."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

from dtqkit.model.errors import AppError
from dtqkit.model.jobs import Priority
from dtqkit.model.settings import Settings, variables
from dtqkit.model.starting import NoWorkerCanStart
from dtqkit.run.process import default_lanes

log = logging.getLogger("dtqkit.supervisor")

#: Pause before a worker is started again, in seconds: doubled with each early death, up to the maximum.
MIN_PAUSE_S: Final = 0.2
MAX_PAUSE_S: Final = 30.0
#: A worker that lived for so long has worked: its next death counts as its first.
WELL_S: Final = 30.0
#: Early deaths in a row of every worker after which nothing can work.
HOPELESS: Final = 5
#: Exit status of a worker that was used wrongly (an APP that cannot be loaded): it is not started again.
WRONG_USE: Final = 2
#: How a worker ends that somebody else has asked to stop: the host, say, which is about to ask us too.
STOPPED: Final = frozenset({0, -signal.SIGTERM, -signal.SIGINT})
#: How long we wait to be asked too before such a worker is started again, in seconds.
STOPPED_PAUSE_S: Final = 1.0


#: What a worker is sent that shall give back its jobs and end at once, and how long it may take, in seconds.
AT_ONCE: Final = signal.SIGUSR1
AT_ONCE_S: Final = 2.5
#: How long a check of an APP may take, in seconds: an import that takes longer is left to the workers.
CHECK_S: Final = 120.0
#: Begins the line in which the checking process says what is wrong.
APP_ERROR: Final = "dtqkit-app-error: "


class _Slot:
    """One worker's place: its process, and how it has fared."""

    def __init__(self, number: int, lanes: tuple[Priority, ...]) -> None:
        self.number = number
        self.lanes = lanes
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.early_deaths = 0
        self.start_at = 0.0


class Supervisor:
    """Owns `workers` processes that serve the tasks of `app`. Starts them at once; `close()` stops them.

    `watch()` must be called again and again, by whoever has the loop or the thread for it; or `start_watching()`
    gives it a thread.
    """

    def __init__(
        self,
        settings: Settings,
        app: str,
        workers: int,
        *,
        name: str = "worker",
        strict: bool = False,
        reload: bool = False,
        log_to: Path | None = None,
    ) -> None:
        self._settings = settings
        #: Workers are called by it and their number.
        self._name = name
        #: The file that gets what the workers write; None: where this process writes.
        self._log_to = log_to
        self._app = app
        self._reload = reload
        self._slots = [_Slot(n, default_lanes(n, strict=strict)) for n in range(1, workers + 1)]
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        #: Why nothing can work, once that is so.
        self.failure: NoWorkerCanStart | None = None
        for slot in self._slots:
            self._start(slot)

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that live."""
        with self._lock:
            return [s.process.pid for s in self._slots if s.process is not None and s.process.poll() is None]

    def watch(self) -> None:
        """Start again what has died. Raises NoWorkerCanStart when that cannot help."""
        with self._lock:
            if self._closing.is_set():
                return
            now = time.monotonic()
            for slot in self._slots:
                if slot.process is not None and (status := slot.process.poll()) is not None:
                    self._died(slot, status, now)
                if slot.process is None and now >= slot.start_at:
                    self._start(slot)

    def _died(self, slot: _Slot, status: int, now: float) -> None:
        slot.process = None
        if status in STOPPED:
            slot.start_at = now + STOPPED_PAUSE_S
            log.warning("%s was stopped by somebody else and is started again", self._called(slot))
            return
        early = now - slot.started_at < WELL_S
        slot.early_deaths = slot.early_deaths + 1 if early else 0
        why = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if status == WRONG_USE:
            self.failure = NoWorkerCanStart(
                f"worker {slot.number} cannot be started with {self._app!r} (see its message)"
            )
        elif all(s.early_deaths >= HOPELESS for s in self._slots):
            self.failure = NoWorkerCanStart(f"every worker has died {HOPELESS} times in a row, the last with {why}")
        if self.failure is not None:
            log.error("giving up: %s", self.failure)
            raise self.failure
        pause_s = min(MAX_PAUSE_S, MIN_PAUSE_S * 2 ** max(0, slot.early_deaths - 1)) if early else 0.0
        slot.start_at = now + pause_s
        log.warning("%s died (%s) and is started again in %.1f s", self._called(slot), why, pause_s)

    def _called(self, slot: _Slot) -> str:
        return f"{self._name}-{slot.number}"

    def _start(self, slot: _Slot) -> None:
        arguments = ["--name", self._called(slot), "--lanes", ",".join(slot.lanes)]
        # It stops by itself when we are gone.
        arguments += ["--owner", str(os.getpid()), *(["--reload"] if self._reload else [])]
        with nullcontext() if self._log_to is None else self._log_to.open("ab") as output:
            slot.process = subprocess.Popen(
                [sys.executable, "-m", "dtqkit", "worker", self._app, *arguments],
                env={**os.environ, **environment_of(self._settings.without_tokens())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us: we stop them in order
            )
        slot.started_at = time.monotonic()

    def start_watching(self) -> None:
        """Watch from a thread of its own until `close()`, or until nothing can work (`failure`)."""

        def run() -> None:
            while not self._closing.wait(MIN_PAUSE_S):
                try:
                    self.watch()
                except NoWorkerCanStart:
                    return

        self._thread = threading.Thread(target=run, name="dtqkit-supervisor", daemon=True)
        self._thread.start()

    def stop_at_once(self) -> tuple[int, int]:
        """Have all workers give back their jobs and end, and kill those that do not within AT_ONCE_S: how many did, and
        how many did not.

        For a signal handler, which must not wait for a lock.
        """
        started = [s.process.pid for s in self._slots if s.process is not None and s.process.returncode is None]
        pids = [pid for pid in started if not _ended(pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, AT_ONCE)
        deadline = time.monotonic() + AT_ONCE_S
        while (left := [pid for pid in pids if not _ended(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids) - len(left), len(left)

    def ask_to_stop(self) -> None:
        """Have all workers stop, and start none again; once. `close` waits for them."""
        with self._lock:
            if not self._closing.is_set():
                self._closing.set()
                for slot in self._slots:
                    if slot.process is not None:
                        slot.process.terminate()

    def close(self) -> None:
        """Ask all workers to stop, wait for their grace, and kill those that do not."""
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            processes = [s.process for s in self._slots if s.process is not None]
            deadline = time.monotonic() + self._settings.grace_s + 15.0
            for process in processes:
                try:
                    process.wait(timeout=max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.warning("worker %d did not stop in time and is killed", process.pid)
                    process.kill()
                    process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ended(pid: int) -> bool:
    """Whether our child `pid` has ended; it is left to be waited for."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def environment_of(settings: Settings) -> Mapping[str, str]:
    """The environment variables that give another process the same settings."""
    values: dict[str, str] = {}
    for field in settings.__struct_fields__:
        value = getattr(settings, field)
        text = ",".join(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else str(value)
        # An empty one too: it hides what our own environment says.
        values[variables(field)[0]] = text
    return values


def check_app(app: str, environment: Mapping[str, str] | None = None) -> None:
    """Import `app` as a worker does, in a process of its own. Raises AppError, which says what is wrong."""
    try:
        done = subprocess.run(
            _checking(app),
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=CHECK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return  # slow is not wrong
    _judge(app, done.returncode, done.stderr)


async def check_app_meanwhile(app: str) -> None:
    """The same beside other work of this loop. Cancelled, it ends at once, and the process too."""
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *_checking(app), stdin=none, stdout=none, stderr=pipe, start_new_session=True
    )
    try:
        async with asyncio.timeout(CHECK_S):
            _, said = await process.communicate()
    except TimeoutError:
        return
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    _judge(app, cast(int, process.returncode), said)


def _checking(app: str) -> list[str]:
    return [sys.executable, "-m", "dtqkit.cli.app", app]


def _judge(app: str, status: int, said: bytes) -> None:
    if status == 0:
        return
    *_, last = [b"", *said.splitlines()]
    text = last.decode(errors="replace")
    if not text.startswith(APP_ERROR):
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise AppError(f"{app}: importing it ended the process with {how}: {text[:500]}")
    raise AppError(json.loads(text.removeprefix(APP_ERROR)))
