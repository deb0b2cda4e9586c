"""The guardian: beats for its owner's workers while a task there holds the GIL and the owner's beat thread cannot run.

Run as a script, `python -I -S guardian_process.py OWNER_PID`, so that it stays small: it imports nothing but the
standard library until it has to beat. It runs in a session of its own and leaves signals to its owner.

It beats only while its owner runs and is not stopped: a killed or suspended worker stops beating as it would without.
The pipe on standard input ends with the owner. One JSON object a line:

    {"worker", "url", "interval_s", "path", "script", "keys", "args"}   this worker has just beaten, in this way
    {"worker"}                                                          it beats no more

All but `worker`, `keys` and `args` are left out where they are as before.
"""

import json
import os
import select
import subprocess
import sys
import time
from typing import Any

#: Intervals without a beat of the owner's own after which we beat: two are missing by then.
MISSED = 2.25
#: Longest wait for Redis, in seconds.
ANSWER_S = 2.0
#: The states of a process that is stopped (by a signal, a debugger) or dead.
NOT_RUNNING = frozenset("TtZXx")


class WatchedWorker:
    """A worker that we look after."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.url: str = first["url"]
        self.interval_s: float = first["interval_s"]
        self.script: str = first["script"]
        self.due = 0.0
        self.client: Any = None

    def has_beaten(self, beat: dict[str, Any]) -> None:
        self.keys: list[str] = beat["keys"]
        self.args: list[Any] = beat["args"]
        self.due = time.monotonic() + MISSED * self.interval_s
        self.disconnect()

    def beat(self, owner_runs: Any) -> None:
        """Send its last beat again."""
        self.due = time.monotonic() + self.interval_s
        try:
            if self.client is None:
                self.client = connect(self.url, self.keys[0], max(0.2, min(ANSWER_S, self.interval_s)))
            self.client.ping()
            if owner_runs():  # connecting takes time
                self.client.eval(self.script, len(self.keys), *self.keys, *self.args)
        except Exception:  # of whatever kind: the next one tries again
            self.disconnect()

    def disconnect(self) -> None:
        if self.client is not None:
            client, self.client = self.client, None
            client.close()


def connect(url: str, key: str, answer_s: float) -> Any:
    from dtqkit.broker.client import connect_blocking  # only now: it takes memory and time

    return connect_blocking(url, key, answer_s=answer_s)


class Guardian:
    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.workers: dict[str, WatchedWorker] = {}
        self.received = b""

    def run(self) -> None:
        """Run until the owner has ended."""
        while os.getppid() == self.owner:
            now = time.monotonic()
            due = min((worker.due for worker in self.workers.values()), default=now + 60.0)
            if select.select([0], [], [], max(0.0, due - now))[0]:
                data = os.read(0, 65536)
                if not data:
                    return
                self.take_in(data)
                continue  # all messages are read before we beat
            for worker in self.workers.values():
                if worker.due <= time.monotonic() and self.owner_runs():
                    worker.beat(self.owner_runs)

    def take_in(self, data: bytes) -> None:
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "path" in message:
                sys.path[:] = message["path"]
            if "keys" not in message:
                if (worker := self.workers.pop(message["worker"], None)) is not None:
                    worker.disconnect()
                continue
            if "url" in message:
                self.workers[message["worker"]] = WatchedWorker(message)
            self.workers[message["worker"]].has_beaten(message)

    def owner_runs(self) -> bool:
        return os.getppid() == self.owner and state_of(self.owner) not in NOT_RUNNING


def state_of(pid: int) -> str:
    """The letter of the process's state; X when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs memory and time
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        pass
    if os.path.exists("/proc/self/stat"):  # noqa: PTH110
        return "X"
    answer = subprocess.run(["/bin/ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip()[:1] or "X"


if __name__ == "__main__":
    Guardian(int(sys.argv[1])).run()
