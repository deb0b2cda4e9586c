"""A server as a program: its loop, its signals, and several processes that share the sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final, NoReturn

from dtqkit.model.errors import NamespaceTaken, SettingsError
from dtqkit.model.settings import Settings
from dtqkit.model.starting import StartFailed
from dtqkit.run.loop import run_process
from dtqkit.web import logs, sentry
from dtqkit.web.access import Origins
from dtqkit.web.connections import raise_descriptor_limit
from dtqkit.web.drain import Drain
from dtqkit.web.listening import ServerAddress, Sockets, bind
from dtqkit.web.received import Share
from dtqkit.web.server import serve, with_token

log = logging.getLogger("dtqkit.web")

#: Pause before a process that crashed is started again, in seconds.
RESTART_S: Final = 0.5
#: The exit status of a process whose stores do not belong together: another try would not help.
REFUSED: Final = 78
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


def run(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    processes: int = 1,
    dev: bool = False,
    ready_file: Path | None = None,
    lines: bool = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises SettingsError when it would serve everybody, OSError when a port is taken.

    It logs a JSON object a line, or, to a terminal or with `lines`, as workers do. A token that is made here is shown
    on a terminal, or written to `ready_file` (mode 0600), and nowhere else.
    """
    settings, made = with_token(settings, host)
    logs.configure(lines=lines, secrets=settings.secrets())
    # No line shows them, and every request has a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if made and ready_file is None and not sys.stdout.isatty():
        raise SettingsError(
            "DTQ_TOKEN is not set, and a new one could not be shown: there is neither a terminal nor a ready file"
        )
    if not settings.token and not settings.read_token:
        raise SettingsError(f"DTQ_TOKEN is not set: without one, a server that listens on {host} would serve everybody")
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)  # of a server that was killed
    Origins(settings, host)  # what is wrong with the settings is said here, and not by each process
    raise_descriptor_limit()
    sockets = bind(settings, host)
    pid = os.getpid()  # of the supervisor, where there is one

    def ready(address: ServerAddress) -> None:
        if ready_file is not None:
            write_ready(ready_file, address, settings.token, pid)
        if sys.stdout.isatty():
            print(f"{address.http}/{f'#token={settings.token}' if made else ''}", flush=True)  # noqa: T201

    def one(ready: Callable[[ServerAddress], None] | None, share: Share | None = None) -> None:
        sentry.start(settings)
        run_process(_serve(settings, host, sockets, ready, dev=dev, share=share))

    try:
        if processes == 1:
            one(ready)
        else:
            with TemporaryDirectory(prefix="dtqkit-metrics-", ignore_cleanup_errors=True) as folder:

                def work(number: int, ended: mmap.mmap) -> None:
                    one(None if number else ready, Share(Path(folder), number, processes, ended))

                _supervise(processes, work, sockets.close)
    finally:
        sockets.close()
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


def write_ready(path: Path, address: ServerAddress, token: str, pid: int) -> None:
    """For scripts: appears whole, and only its owner can read it."""
    facts = {"http": address.http, "ws": address.ws, "token": token, "pids": {"server": pid}}
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(facts, file)
    new.replace(path)


async def _serve(
    settings: Settings,
    host: str,
    sockets: Sockets,
    ready: Callable[[ServerAddress], None] | None,
    *,
    dev: bool,
    share: Share | None,
) -> None:
    drain = Drain(0.0 if dev else settings.drain_s)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, drain.ask)
    loop.add_signal_handler(signal.SIGINT, lambda: drain.ask(at_once=True))  # Ctrl-C: a person waits for it
    await serve(settings, host=host, sockets=sockets, drain=drain, ready=ready, dev=dev, share=share)


# -- several processes


def _supervise(processes: int, work: Callable[[int, mmap.mmap], None], leave: Callable[[], None]) -> None:
    """Fork `processes` children that run `work(number, ended)`, start again those that end, and stop them with us.

    Forked before any loop, thread or connection is made; the children inherit the sockets. `leave` closes ours when we
    stop: a socket that is open here is connected to, though nobody accepts. `ended` is that of Share.
    """
    children: dict[int, int] = {}
    stopping = refused = False
    ended = mmap.mmap(-1, processes + 1)
    read_end, write_end = os.pipe()  # closed with us, however we end: the children see it

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        ended[processes] = 1
        leave()
        for pid in list(children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def start(number: int) -> None:
        # Blocked during the fork: a child must not handle a signal as its parent does, and none must be missed.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        ended[number] = 0
        pid = os.fork()
        if pid == 0:
            _run_child(lambda: work(number, ended), read_end, write_end)
        children[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

    for one in _STOPS:
        signal.signal(one, stop)
    for number in range(processes):
        if not stopping:
            start(number)
    while children:
        pid, status = os.wait()
        if pid not in children:
            continue  # an orphan: we are process 1 of a container
        number = children.pop(pid)
        ended[number] = 1
        exit_status = os.waitstatus_to_exitcode(status)
        if exit_status == REFUSED:
            refused = True
            stop(signal.SIGTERM, None)
        if not stopping:
            log.error("process %d ended (%d) and is started again", pid, exit_status)
            time.sleep(RESTART_S)
        if not stopping:
            start(number)
    os.close(read_end)
    os.close(write_end)
    if refused:
        raise StartFailed("the server has not started: its processes say why")


def _run_child(work: Callable[[], None], read_end: int, write_end: int) -> NoReturn:
    """Run `work()` in a process that was forked a moment ago, and exit."""
    status = 1
    try:
        for one in _STOPS:
            signal.signal(one, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        os.close(write_end)
        _stop_with(read_end)
        work()
        status = 0
    except NamespaceTaken as error:
        log.error("%s", error)  # noqa: TRY400 - no traceback: it is the set-up
        status = REFUSED
    except BaseException:
        log.exception("process %d broke", os.getpid())
    finally:
        logging.shutdown()
        os._exit(status)


def _stop_with(read_end: int) -> None:
    """SIGTERM to ourselves when the parent is gone."""
    import threading

    def watch() -> None:
        os.read(read_end, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="dtqkit-parent", daemon=True).start()
