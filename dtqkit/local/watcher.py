"""The owner's side of the watcher process: start it, send it commands, receive its events."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dtqkit.local.private import open_private
from dtqkit.model.starting import LocalStoreError

REPLY_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 15.0  # the watcher itself gives the servers 5 s
WATCHER_GONE = "the process that watches the local redis-server and mongod has ended unexpectedly"


#: Variables that the watcher and the servers need; others may contain tokens and passwords.
_NEEDED = ("PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "GLIBC_TUNABLES")


def _environment() -> dict[str, str]:
    ours = {name: os.environ[name] for name in _NEEDED if name in os.environ}
    return {**ours, "LC_ALL": "C"}  # mongod does not start in a locale that it does not know


class Watcher:
    """Not thread-safe: LocalStores holds a lock."""

    def __init__(self, directory: Path, lock_fd: int, *, temporary: bool) -> None:
        self.running: dict[str, int] = {}  #: server -> its process id
        self.ended: dict[str, int] = {}  #: server -> its exit status, negative for a signal
        self.gone = False
        self._failed: dict[str, str] = {}
        self._received = b""
        script = str(Path(__file__).with_name("watch.py"))
        temporary_dir = str(directory) if temporary else ""  # the watcher removes it
        with os.fdopen(open_private(directory / "watcher.log", os.O_WRONLY | os.O_APPEND), "ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", script, str(os.getpid()), str(lock_fd), temporary_dir],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd="/",
                env=_environment(),
                pass_fds=[lock_fd],
                start_new_session=True,
                bufsize=0,
            )

    def start(self, name: str, argv: Sequence[str], text: str, log: Path) -> int:
        """Start a server with `text` on its standard input; returns its process id."""
        self.ended.pop(name, None)
        self._send({"op": "start", "name": name, "argv": list(argv), "input": text, "log": str(log)})
        self._wait(lambda: name in self.running or name in self.ended or name in self._failed)
        if name in self._failed:
            raise LocalStoreError(f"{argv[0]} cannot be run: {self._failed.pop(name)}")
        return self.running.get(name, 0)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it has ended. That end is not reported as unexpected."""
        if name in self.running:
            self._send({"op": "kill", "name": name})
            self._wait(lambda: name not in self.running)
        self.ended.pop(name, None)

    def listen(self, timeout_s: float) -> None:
        """Receive events of the watcher; waits at most `timeout_s` for the first."""
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        while not self.gone and select.select([self._process.stdout], [], [], timeout_s)[0]:
            data = os.read(self._process.stdout.fileno(), 65536)
            self.gone = not data
            *lines, self._received = (self._received + data).split(b"\n")
            for line in lines:
                self._note(json.loads(line))
            timeout_s = 0.0

    def stop(self) -> None:
        """Stop the servers and the watcher, and wait for it."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(LocalStoreError):  # it has ended already
            self._send({"op": "stop"})
        self._process.stdin.close()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not self.gone and time.monotonic() < deadline:
            self.listen(0.1)
        # If the watcher was killed, its servers still run in its process group. Its id cannot have been reused: it has
        # not been waited for yet.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self.gone = True

    def _send(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
        except BrokenPipeError as error:
            raise LocalStoreError(WATCHER_GONE) from error

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        while not done():
            if self.gone:
                raise LocalStoreError(WATCHER_GONE)
            if time.monotonic() > deadline:
                raise LocalStoreError(f"the watcher of the local stores did not answer within {REPLY_TIMEOUT_S:.0f} s")
            self.listen(0.1)

    def _note(self, event: dict[str, Any]) -> None:
        if "started" in event:
            self.running[event["started"]] = event["pid"]
        elif "ended" in event:
            self.running.pop(event["ended"], None)
            self.ended[event["ended"]] = event["status"]
        else:
            self._failed[event["failed"]] = event["error"]
