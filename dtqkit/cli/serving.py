"""The HTTP server as a process of `dtqkit up`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Self

from dtqkit.model.settings import Settings
from dtqkit.model.starting import StartFailed
from dtqkit.run.supervisor import environment_of

#: Where it listens.
HOST: Final = "127.0.0.1"
#: How long a stopping server may take, in seconds.
STOP_S: Final = 15.0


class ServerProcess:
    """Started at once; once `ready()` is true, its addresses are known."""

    def __init__(self, settings: Settings) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="dtqkit-up-")
        self._ready_file = Path(self._directory.name) / "ready.json"
        arguments = ["--host", HOST, "--ready-file", str(self._ready_file), "--owner", str(os.getpid())]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dtqkit", "server", *arguments],
            env={**os.environ, **environment_of(settings.replace(drain_s=0.0))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: we stop it in order
        )
        #: `http://…` and `ws://…/ws`, and the token that it made or was given.
        self.http = self.ws = self.token = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self) -> bool:
        """Whether it answers. Raises StartFailed when it has ended."""
        self.check()
        if not self._ready_file.exists():
            return False
        facts = json.loads(self._ready_file.read_text())
        self.http, self.ws, self.token = facts["http"], facts["ws"], facts["token"]
        return True

    def check(self) -> None:
        """Raises StartFailed when it has ended."""
        if (status := self._process.poll()) is not None:
            raise StartFailed(f"the server ended with exit status {status}; its message above has the reason")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()
