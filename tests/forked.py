"""Commands forked from a process that has imported the command line: a start costs a tenth of an interpreter's.

What runs is `dtqkit.__main__.main`, in a process of its own with its own arguments, environment, folder and streams. It
reads an order at a time (JSON: arguments, environ, cwd; and three descriptors), and answers with the exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
_LONGEST_ORDER: Final = 1 << 20
_lock = threading.Lock()
_nursery: tuple[subprocess.Popen[bytes], socket.socket] | None = None


def run(
    arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, streams: tuple[int, int, int], timeout: float
) -> int:
    """`dtqkit …` with these streams as its input and both outputs, to its end: its exit status."""
    order = {"arguments": [*arguments], "environ": {**environ}, "cwd": str(cwd)}
    with _lock:
        line = _started()
        try:
            line.settimeout(timeout)
            socket.send_fds(line, [json.dumps(order).encode()], [*streams])
            return int(line.recv(16))
        except BaseException:  # its answer is still to come, for which nobody waits
            _end()
            raise


def _started() -> socket.socket:
    global _nursery
    if _nursery is None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.forked", str(theirs.fileno())]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()
        _nursery = process, ours
    return _nursery[1]


@atexit.register
def _end() -> None:
    global _nursery
    if _nursery is not None:
        process, line = _nursery
        _nursery = None
        line.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # with the command that it may wait for
        process.wait()


def _become(order: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """What the interpreter does for `python -m dtqkit`."""
    for place, descriptor in enumerate(descriptors):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["cwd"])
    sys.argv = [str(ROOT / "dtqkit" / "__main__.py"), *order["arguments"]]
    sys.path[:1] = [order["cwd"], *filter(None, order["environ"].get("PYTHONPATH", "").split(os.pathsep))]


def nursery(line: socket.socket) -> None:
    from dtqkit import cli
    from dtqkit.__main__ import main

    here = dict(vars(cli))
    for name in cli.MODULES.values():
        if name not in ("plan", "simulate"):  # numpy has threads
            import_module(f"dtqkit.cli.{name}")
    for name, value in here.items():  # a module that was imported may have the name of something else
        setattr(cli, name, value)
    while True:
        text, descriptors, _, _ = socket.recv_fds(line, _LONGEST_ORDER, 3)
        if not text:
            return
        if not (pid := os.fork()):
            line.close()
            _become(json.loads(text), descriptors)
            main()
            return
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        line.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    nursery(socket.socket(fileno=int(sys.argv[1])))
