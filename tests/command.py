"""Run the command line as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from dtqkit import Settings
from dtqkit.run.supervisor import environment_of
from tests import forked

CompletedProcess = subprocess.CompletedProcess[str]

ROOT = Path(__file__).parents[1]


def environment(settings: Settings | None = None, **more: str) -> Mapping[str, str]:
    """Ours, without what would connect to the developer's own servers."""
    ours = {k: v for k, v in os.environ.items() if k not in ("REDIS_URL", "ATLAS_URI", "MONGODB_URI")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**ours, "PYTHONPATH": path, **(environment_of(settings) if settings else {}), **more}


def dtqkit(*arguments: str, settings: Settings | None = None, cwd: Path = ROOT, **env: str) -> CompletedProcess:
    """`dtqkit …` to its end, forked from a process that has imported it."""
    with (
        Path(os.devnull).open("rb") as nothing,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        streams = (nothing.fileno(), output.fileno(), errors.fileno())
        status = forked.run(arguments, environment(settings, **env), cwd, streams, timeout=100)
        output.seek(0)
        errors.seek(0)
        return CompletedProcess(["dtqkit", *arguments], status, output.read(), errors.read())


def dtqkit_alone(*arguments: str, settings: Settings | None = None, cwd: Path = ROOT, **env: str) -> CompletedProcess:
    """The same in an interpreter of its own, which finds the package by itself."""
    return subprocess.run(
        [sys.executable, "-m", "dtqkit", *arguments],
        env=environment(settings, **env),
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
    )


def answer(*arguments: str, settings: Settings, **env: str) -> Any:
    """The JSON that a command prints, which must succeed."""
    done = dtqkit(*arguments, "--json", settings=settings, cwd=ROOT, **env)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout)


@contextmanager
def running(
    *arguments: str, log: Path, settings: Settings | None = None, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`dtqkit …` under way, with both outputs in `log`; killed at the end if it still runs."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "dtqkit", *arguments],
            env=environment(settings, **env),
            cwd=ROOT,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def descendants(pid: int) -> set[int]:
    """The running processes that `pid` has started, and their descendants."""
    found: set[int] = set()
    for child in _children(pid):
        found |= {child} | descendants(child)
    return found


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def workers_under(pid: int) -> set[int]:
    """The worker processes that the supervisor `pid` keeps."""
    return children_with(pid, b"worker")


def children_with(pid: int, word: bytes) -> set[int]:
    """The children of `pid` that have such an argument, or one that ends with it."""
    return {child for child in _children(pid) if any(part.endswith(word) for part in _command_line(child))}


def _command_line(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def living(pids: set[int]) -> set[int]:
    """Those that have not ended (a zombie has)."""
    return {pid for pid in pids if state_of(pid) not in ("", "Z", "X")}


def state_of(pid: int) -> str:
    """The kernel's letter for it: R, S, T (stopped), Z; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def start_up_s() -> float:
    """Seconds that a process of the command line needs to start, on this machine, now."""
    started = time.monotonic()
    dtqkit_alone("worker", "--help")
    return time.monotonic() - started


def seconds_of(*arguments: str, **env: str) -> tuple[float, CompletedProcess]:
    """How long a command took beyond its start-up, and how it ended."""
    dtqkit("--version")  # what the commands are forked from is there
    began = time.monotonic()
    dtqkit("--version")
    started = time.monotonic()
    done = dtqkit(*arguments, settings=None, cwd=ROOT, **env)
    return time.monotonic() - started - (started - began), done
