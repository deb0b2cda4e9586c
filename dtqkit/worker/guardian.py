"""The owner's side of the guardian: one small process for all workers of this one; it receives each of their beats."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("dtqkit.worker")

#: What the guardian gets of our environment: no passwords or tokens.
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR")
_HELD_BACK: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: How long it may take to end, in seconds: an answer of Redis.
_END_S: Final = 3.0


class Guardian:
    """Started with the first worker's first beat, ended with the last worker. For several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        #: The pid of the process that started it: a fork of that process has no guardian.
        self._owner = 0
        self._introduced: set[str] = set()
        self._refused = False
        #: What the pipe did not take yet.
        self._unsent = b""

    def has_beaten(self, worker: str, constant: Mapping[str, Any], keys: Sequence[str], args: Sequence[Any]) -> None:
        """`worker` beats now, with these keys and arguments of the script; `constant` are those that never change."""
        with self._lock:
            if self._refused or not self._alive():
                return
            message: dict[str, Any] = {"worker": worker, "keys": keys, "args": args}
            if worker not in self._introduced:
                message |= constant
                message["path"] = _path()
            if self._send(message):
                self._introduced.add(worker)

    def forget(self, worker: str) -> None:
        """`worker` has stopped beating."""
        with self._lock:
            if worker not in self._introduced or self._owner != os.getpid():
                return
            self._introduced.discard(worker)
            self._send({"worker": worker})
            if not self._introduced:
                self._end()

    def end(self) -> None:
        """Before this process becomes another program."""
        with self._lock:
            if self._owner == os.getpid():
                self._end()

    def _alive(self) -> bool:
        """Whether there is one; starts it when there is none."""
        if self._owner != os.getpid():
            self._process = None  # it is our parent's
        elif self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._start()
        return self._process is not None

    def _start(self) -> None:
        self._introduced.clear()
        self._unsent = b""
        script = str(Path(__file__).with_name("guardian_process.py"))
        # It inherits the blocked signals: a signal to all processes of the group or the host is meant for us.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", script, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except (OSError, TypeError, ValueError) as error:  # there may be no sys.executable
            log.warning(
                "no guardian process: a task that holds the GIL for long will make this worker seem dead (%s)", error
            )
            self._refused = True
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._owner = os.getpid()
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        os.set_blocking(self._process.stdin.fileno(), False)

    def _send(self, message: Mapping[str, Any]) -> bool:
        """Whether it was sent, or will be: a guardian that does not read must not hold up the beat."""
        if self._process is None or self._process.stdin is None:
            return False
        # A beat may be dropped, but not the message that a worker has stopped: the guardian would beat for it forever.
        fresh = b"" if self._unsent and "args" in message else json.dumps(message).encode() + b"\n"
        self._unsent += fresh
        try:
            while self._unsent:
                sent = os.write(self._process.stdin.fileno(), self._unsent)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:  # it has ended: the next beat starts another one
            return False
        return bool(fresh)

    def _end(self) -> None:
        process, self._process = self._process, None
        self._introduced.clear()
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _path() -> list[str]:
    """Where the guardian finds us and Redis's client, without what site and its hooks would do."""
    roots = [module.__file__ for module in (sys.modules["dtqkit"], sys.modules["redis"]) if module.__file__]
    found = [str(Path(root).absolute().parents[1]) for root in roots]
    return list(dict.fromkeys([*found, *(os.path.abspath(path) for path in sys.path)]))  # noqa: PTH100 - may be ""


#: One for the process.
guardian: Final = Guardian()
