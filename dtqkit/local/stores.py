"""LocalStores: the two servers of one owner process, from start to stop."""

import atexit
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dtqkit.local.private import make_private, open_private
from dtqkit.local.programs import MONGOD, REDIS, find_server
from dtqkit.local.servers import HOST, MongoServer, RedisServer, Server, log_tail
from dtqkit.local.watcher import WATCHER_GONE, Watcher
from dtqkit.model.starting import LocalStoreError

START_TIMEOUT_S = 60.0
#: A server that ends unexpectedly so often within so many seconds is not started again.
REVIVALS = 5
REVIVALS_S = 60.0
POLL_S = 0.01
UNLOCK_TIMEOUT_S = 10.0  # the watcher of a killed owner stops its servers within this time


class LocalStores:
    """A running redis-server and mongod, created by `start_local_stores`. Thread-safe.

    A forked process can use the servers, but does not stop them.
    """

    def __init__(self, servers: Sequence[Server], watcher: Watcher, directory: Path, *, temporary: bool) -> None:
        self.directory = directory  #: data and logs
        self._temporary = temporary
        self._servers = {server.name: server for server in servers}
        self._watcher = watcher
        self._log_starts: dict[str, int] = {}  # server -> where its present run begins in its log
        self._owner_pid = os.getpid()
        self._mutex = threading.RLock()
        self._closed = False
        self._revived_at: list[float] = []  # the latest
        atexit.register(self.close)
        try:
            self._launch(*self._servers, keep_ports=False)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        servers = ", ".join(f"{name} on {HOST}:{server.port}" for name, server in self._servers.items())
        return f"<LocalStores {'closed' if self._closed else servers}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def redis_url(self) -> str:
        """Contains the password: do not log it."""
        return self._server("redis").url

    @property
    def atlas_uri(self) -> str:
        return self._server("mongod").url

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of `redis` and `mongod`, of those that run."""
        return dict(self._watcher.running)

    @property
    def programs(self) -> dict[str, str]:
        """The file names of the programs that run as `redis` (redis-server or valkey-server) and as `mongod`."""
        return {name: server.program.name for name, server in self._servers.items()}

    def check(self) -> None:
        """Raise LocalStoreError, with the end of its log, if a server has ended unexpectedly."""
        with self._mutex:
            if self._closed:
                return
            self._watcher.listen(0)
            if self._watcher.gone:
                raise LocalStoreError(WATCHER_GONE)
            if self._watcher.ended:
                name, status = next(iter(self._watcher.ended.items()))
                raise self._error(name, "ended unexpectedly", _how_it_ended(status))

    def revive(self, say: Callable[[str], object]) -> None:
        """Start servers that have ended unexpectedly again, with their ports and data; `say` gets a sentence for each.

        Raises LocalStoreError when one ends again and again, or does not start.
        """
        with self._mutex:
            if self._closed:
                return
            self._watcher.listen(0)
            for name, status in list(self._watcher.ended.items()):
                now = time.monotonic()
                self._revived_at = [at for at in self._revived_at if now - at < REVIVALS_S]
                if len(self._revived_at) >= REVIVALS:
                    break  # `check` says which
                self._revived_at.append(now)
                self._launch(name, keep_ports=True)
                say(f"{name} ended unexpectedly ({_how_it_ended(status)}): started again, with its data")
            self.check()

    def kill_redis(self) -> None:
        """SIGKILL; returns when it is gone. For tests of what happens then."""
        self._kill("redis")

    def kill_mongo(self) -> None:
        """SIGKILL; returns when it is gone. For tests of what happens then."""
        self._kill("mongod")

    def restart_redis(self, *, empty: bool) -> None:
        """SIGKILL if it runs, then start it with the same port and password, with its data or `empty`."""
        with self._mutex:
            self._kill("redis")
            if empty:
                shutil.rmtree(self._server("redis").directory)
            self._launch("redis", keep_ports=True)

    def restart_mongo(self) -> None:
        """SIGKILL if it runs, then start it with the same port and data."""
        with self._mutex:
            self._kill("mongod")
            self._launch("mongod", keep_ports=True)

    def close(self) -> None:
        """Stop the servers, and remove their data if the directory is temporary; returns when that is done."""
        if os.getpid() != self._owner_pid:
            return
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._watcher.stop()
            if self._temporary:
                # The watcher has removed it already, unless it was killed.
                shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.close)

    def _server(self, name: str) -> Server:
        if name not in self._servers:
            raise LocalStoreError(f"these local stores were started without {name}")
        return self._servers[name]

    def _kill(self, name: str) -> None:
        with self._mutex:
            self._server(name)
            self._watcher.kill(name)

    def _launch(self, *names: str, keep_ports: bool) -> None:
        """Start these servers concurrently; returns when all are ready."""
        deadline = time.monotonic() + START_TIMEOUT_S
        for name in names:
            self._spawn(name)
        for name in names:
            while not self._is_ready(name):
                self._watcher.listen(POLL_S)
                if self._watcher.gone:
                    raise LocalStoreError(WATCHER_GONE)
                if time.monotonic() > deadline:
                    raise self._error(name, "did not start", f"not ready after {START_TIMEOUT_S:.0f} s")
                if name in self._watcher.ended:
                    if "Address already in use" not in self._log_tail(name):
                        raise self._error(name, "did not start", _how_it_ended(self._watcher.ended[name]))
                    if not keep_ports:
                        self._servers[name].port = _free_port()
                    self._spawn(name)

    def _spawn(self, name: str) -> None:
        server = self._servers[name]
        make_private(server.directory)
        server.prepare()
        argv, text = server.command()
        with contextlib.suppress(FileNotFoundError):
            self._log_starts[name] = server.log.lstat().st_size
        self._watcher.start(name, argv, text, server.log)

    def _is_ready(self, name: str) -> bool:
        pid = self._watcher.running.get(name)
        return pid is not None and self._servers[name].ready(pid)

    def _log_tail(self, name: str) -> str:
        return log_tail(self._servers[name].log, self._log_starts.get(name, 0))

    def _error(self, name: str, what: str, why: str) -> LocalStoreError:
        program = self._servers[name].program
        return LocalStoreError(f"{name} {what} ({why}; {program}). The end of its log:\n{self._log_tail(name)}")


def start_local_stores(data_dir: Path | str | None = None, *, redis: bool = True, mongo: bool = True) -> LocalStores:
    """Start a private redis-server and mongod, and return when both take writes.

    They bind to free ports on loopback, and stop when this process ends, for whatever reason. With `data_dir`, their
    data is stored there for the next start; without, it is in a temporary directory that is removed at the end.
    Raises LocalStoreError when a program is not found or does not start, or when the directory is in use.
    """
    redis_server = find_server(REDIS) if redis else None
    mongod = find_server(MONGOD) if mongo else None
    temporary = data_dir is None
    directory = Path(tempfile.mkdtemp(prefix="dtqkit-") if data_dir is None else data_dir)
    directory = directory.expanduser().absolute()  # not resolved: a link that was planted there is to be refused
    try:
        with _locked(directory) as lock_fd:
            servers: list[Server] = []
            if redis_server:
                password = secrets.token_urlsafe(24)
                servers.append(RedisServer(redis_server, directory, _free_port(), password))
            if mongod:
                servers.append(MongoServer(mongod, directory, _free_port()))
            watcher = Watcher(directory, lock_fd, temporary=temporary)
    except BaseException:
        if temporary:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    return LocalStores(servers, watcher, directory, temporary=temporary)


@contextlib.contextmanager
def _locked(directory: Path) -> Generator[int, None, None]:
    """The directory, created if necessary, and locked while any process has the descriptor open."""
    make_private(directory)
    lock_fd = open_private(directory / "lock", os.O_RDWR)
    try:
        _lock(lock_fd, directory)
        yield lock_fd
    finally:
        os.close(lock_fd)


def _lock(lock_fd: int, directory: Path) -> None:
    import fcntl  # not available on Windows, where `find_server` fails before

    deadline = time.monotonic() + UNLOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            owner = os.pread(lock_fd, 20, 0).decode()
            # The servers of a killed owner stop soon: wait for that.
            if _is_running(owner) or time.monotonic() > deadline:
                raise LocalStoreError(
                    f"the data directory {directory} is in use by the local stores of process {owner}: "
                    "stop it first, or name another directory"
                ) from None
            time.sleep(POLL_S)
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, str(os.getpid()).encode(), 0)


def _how_it_ended(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _free_port() -> int:
    """A free port below the range for outgoing connections.

    With a port in that range, a client that reconnects while its server is down can connect to itself, and so occupy
    the port that the server needs.
    """
    while True:
        port = random.randrange(28_100, 32_768)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
