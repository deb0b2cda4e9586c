"""Worker processes: started with the default lanes, restarted when they die, stopped together."""

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

#: Pause before a worker is restarted, in seconds: doubled with each early death, up to the maximum.
MIN_PAUSE_S: Final = 0.2
MAX_PAUSE_S: Final = 30.0
#: A worker that ran for this long is considered healthy: its next death counts as its first.
WELL_S: Final = 30.0
#: When every worker has died early this many times in a row, the supervisor stops restarting them.
MAX_EARLY_DEATHS: Final = 5
#: Exit status for wrong use (an APP that cannot be loaded): such a worker is not restarted.
WRONG_USE: Final = 2
#: Exit statuses of a worker that another process stopped: perhaps the host, which will then stop us too.
STOPPED: Final = frozenset({0, -signal.SIGTERM, -signal.SIGINT})
#: How long to wait for that before such a worker is restarted, in seconds.
STOPPED_PAUSE_S: Final = 1.0


#: The signal that makes a worker return its jobs to the queue and end at once; how long it may take, in seconds.
AT_ONCE: Final = signal.SIGUSR1
AT_ONCE_S: Final = 2.5
#: How long a check of an APP may take, in seconds: a slower import counts as valid.
CHECK_S: Final = 120.0
#: Begins the line in which the checking process reports its error.
APP_ERROR: Final = "dtqkit-app-error: "


class _Slot:
    """One of the workers: its present process and its restarts."""

    def __init__(self, number: int, lanes: tuple[Priority, ...]) -> None:
        self.number = number
        self.lanes = lanes
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.early_deaths = 0
        self.start_at = 0.0


class Supervisor:
    """Owns `workers` processes that serve the tasks of `app`. Starts them at once; `close()` stops them.

    Its owner must call `watch()` regularly, or `start_watching()` once, which does so in a thread.
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
        #: The workers' names are this and their number.
        self._name = name
        #: The file for the workers' output; None: the output of this process.
        self._log_to = log_to
        self._app = app
        self._reload = reload
        self._slots = [_Slot(n, default_lanes(n, strict=strict)) for n in range(1, workers + 1)]
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        #: Why it has stopped restarting workers; None while it restarts them.
        self.failure: NoWorkerCanStart | None = None
        for slot in self._slots:
            self._start(slot)

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that run."""
        with self._lock:
            return [s.process.pid for s in self._slots if s.process is not None and s.process.poll() is None]

    def watch(self) -> None:
        """Restart workers that died. Raises NoWorkerCanStart when that cannot help."""
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
            log.warning("%s was stopped by another process; restarting it", self._called(slot))
            return
        early = now - slot.started_at < WELL_S
        slot.early_deaths = slot.early_deaths + 1 if early else 0
        why = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if status == WRONG_USE:
            self.failure = NoWorkerCanStart(
                f"worker {slot.number} cannot be started with {self._app!r}; see its message above"
            )
        elif all(s.early_deaths >= MAX_EARLY_DEATHS for s in self._slots):
            self.failure = NoWorkerCanStart(f"every worker died {MAX_EARLY_DEATHS} times in a row, the last with {why}")
        if self.failure is not None:
            log.error("no longer restarting workers: %s", self.failure)
            raise self.failure
        pause_s = min(MAX_PAUSE_S, MIN_PAUSE_S * 2 ** max(0, slot.early_deaths - 1)) if early else 0.0
        slot.start_at = now + pause_s
        when = f"in {pause_s:.1f} s" if pause_s else "now"
        log.warning("%s died (%s); restarting it %s", self._called(slot), why, when)

    def _called(self, slot: _Slot) -> str:
        return f"{self._name}-{slot.number}"

    def _start(self, slot: _Slot) -> None:
        arguments = ["--name", self._called(slot), "--lanes", ",".join(slot.lanes)]
        # With --owner, it stops by itself when we have ended.
        arguments += ["--owner", str(os.getpid()), *(["--reload"] if self._reload else [])]
        with nullcontext() if self._log_to is None else self._log_to.open("ab") as output:
            slot.process = subprocess.Popen(
                [sys.executable, "-m", "dtqkit", "worker", self._app, *arguments],
                env={**os.environ, **environment_of(self._settings.without_tokens())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that Ctrl-C reaches only us: we stop the workers
            )
        slot.started_at = time.monotonic()

    def start_watching(self) -> None:
        """Watch in a thread until `close()`, or until restarting cannot help (`failure`)."""

        def run() -> None:
            while not self._closing.wait(MIN_PAUSE_S):
                try:
                    self.watch()
                except NoWorkerCanStart:
                    return

        self._thread = threading.Thread(target=run, name="dtqkit-supervisor", daemon=True)
        self._thread.start()

    def stop_at_once(self) -> tuple[int, int]:
        """Have all workers return their jobs and end; kill those that take longer than AT_ONCE_S. Returns both numbers.

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
        """Ask all workers to stop, and restart none. `close` waits for them."""
        with self._lock:
            if not self._closing.is_set():
                self._closing.set()
                for slot in self._slots:
                    if slot.process is not None:
                        slot.process.terminate()

    def close(self) -> None:
        """Ask all workers to stop, wait for their grace, and kill those that still run."""
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
                    log.warning("worker process %d did not stop in time; killing it", process.pid)
                    process.kill()
                    process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ended(pid: int) -> bool:
    """Whether our child `pid` has ended; does not reap it."""
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
        # An empty one too: it overrides the variable of our own environment.
        values[variables(field)[0]] = text
    return values


def check_app(app: str, environment: Mapping[str, str] | None = None) -> None:
    """Import `app` as a worker does, in a process of its own. Raises AppError with the reason."""
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
        return  # a slow import is not an error
    _judge(app, done.returncode, done.stderr)


async def check_app_meanwhile(app: str) -> None:
    """The same without blocking this loop. When cancelled, it kills the process."""
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *_checking(app), stdin=none, stdout=none, stderr=pipe, start_new_session=True
    )
    try:
        async with asyncio.timeout(CHECK_S):
            _, errors = await process.communicate()
    except TimeoutError:
        return
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    _judge(app, cast(int, process.returncode), errors)


def _checking(app: str) -> list[str]:
    return [sys.executable, "-m", "dtqkit.cli.app", app]


def _judge(app: str, status: int, errors: bytes) -> None:
    if status == 0:
        return
    *_, last = [b"", *errors.splitlines()]
    text = last.decode(errors="replace")
    if not text.startswith(APP_ERROR):
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise AppError(f"{app}: importing it ended the process with {how}: {text[:500]}")
    raise AppError(json.loads(text.removeprefix(APP_ERROR)))
