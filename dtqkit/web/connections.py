"""How many connections a server holds: bounded by the descriptors there are, the idle ones closed first."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import resource
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream

log = logging.getLogger("dtqkit.web")

#: Connections that a process holds at most, also where there are more descriptors: each takes memory.
MAX_CONNECTIONS: Final = 4096
#: Descriptors that are left for everything else: both stores, logs, files.
RESERVED: Final = 128
#: Connections that are accepted before others are served.
_AT_ONCE: Final = 64
#: How long a connection may take to its first request, in seconds.
FIRST_S: Final = 30.0
#: Pause when there is no descriptor left, in seconds.
PAUSE_S: Final = 0.2
#: Time between two lines of the log about such floods, in seconds.
REMIND_S: Final = 1.0
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_NO_MORE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def raise_descriptor_limit() -> None:
    """Let this process have as many descriptors as it may: the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * (MAX_CONNECTIONS + RESERVED)
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connection_limit() -> int:
    """Connections that this process may hold."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MAX_CONNECTIONS, soft - RESERVED))


class Connection(IOStream):
    """One client's connection, which says when it is closed."""

    gone: Callable[[Connection], None] | None = None
    #: The owner that it counts for.
    owner: str = ""
    #: Closes it, when it sends nothing.
    timer: asyncio.TimerHandle | None = None

    def close_fd(self) -> None:
        super().close_fd()
        self.stop_waiting()
        if self.gone is not None:
            self.gone(self)

    def stop_waiting(self) -> None:
        """It has sent its first request, or is closed."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Connections:
    """All connections of a process, by owner; and of each owner the idle ones, the longest idle first.

    Idle is what waits for a request, the first one or another; a client of the stream never is. Where a proxy of ours
    speaks for all clients, one owner may have them all.
    """

    def __init__(self, most: int, *, behind_proxy: bool = False) -> None:
        self.most = most
        self.most_each = most if behind_proxy else max(1, most // 2)
        self._owned: dict[str, set[Connection]] = {}
        self._idle: dict[str, OrderedDict[Connection, None]] = {}
        self._count = 0
        self._refused = self._closed = 0
        self._reminder: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, connection: Connection, address: str) -> bool:
        """Whether there is room for it, after an idle one was closed if need be."""
        owner = owner_of(address)
        if len(self._owned.get(owner, ())) >= self.most_each and not self._make_room(owner):
            return self._refuse()
        if self._count >= self.most and not (self._make_room(self._largest()) or self.make_room()):
            return self._refuse()
        connection.owner, connection.gone = owner, self._remove
        self._owned.setdefault(owner, set()).add(connection)
        self._idle.setdefault(owner, OrderedDict())[connection] = None
        self._count += 1
        connection.timer = asyncio.get_running_loop().call_later(FIRST_S, connection.close)
        return True

    def busy(self, connection: Connection) -> None:
        """It has sent a request."""
        connection.stop_waiting()
        if (idle := self._idle.get(connection.owner)) is not None:
            idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """It waits for another request."""
        if connection in self._owned.get(connection.owner, ()):
            self._idle.setdefault(connection.owner, OrderedDict())[connection] = None

    def make_room(self, wanted: int = 1) -> int:
        """Close some idle connections of the owner that has the most; returns how many."""
        closed = 0
        for owner in sorted(self._owned, key=lambda owner: -len(self._owned[owner])):
            while closed < wanted and self._make_room(owner):
                closed += 1
        return closed

    def _make_room(self, owner: str) -> bool:
        idle = self._idle.get(owner)
        if not idle:
            return False
        connection, _ = idle.popitem(last=False)
        connection.close()
        self._closed += 1
        self._remind()
        return True

    def _largest(self) -> str:
        return max(self._owned, key=lambda owner: len(self._owned[owner]), default="")

    def _refuse(self) -> bool:
        self._refused += 1
        self._remind()
        return False

    def _remove(self, connection: Connection) -> None:
        self.busy(connection)
        owned = self._owned.get(connection.owner)
        if owned is not None and connection in owned:
            owned.remove(connection)
            self._count -= 1
            if not owned:
                del self._owned[connection.owner]
                self._idle.pop(connection.owner, None)

    def note_full(self) -> None:
        """There is no descriptor left for another connection."""
        self._refuse()

    def _remind(self) -> None:
        """At most a line a second, with what has happened since the last."""
        if self._reminder is None:
            self._reminder = asyncio.get_running_loop().call_later(REMIND_S, self._log_floods)

    def _log_floods(self) -> None:
        self._reminder = None
        log.warning(
            "many connections: %d open, at most %d (%d from one address); in the last second %d idle ones were "
            "closed and %d refused",
            self._count,
            self.most,
            self.most_each,
            self._closed,
            self._refused,
        )
        self._refused = self._closed = 0


def owner_of(address: str) -> str:
    """The owner of an address: for IPv6, where a client has many, the network of it."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return address


class _Watched(HTTPMessageDelegate):
    """A request that is on its way in: with its headers, its connection is busy."""

    def __init__(self, inner: HTTPMessageDelegate, connections: Connections, connection: Connection) -> None:
        self._inner = inner
        self._connections = connections
        self._connection = connection

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> Any:
        self._connections.busy(self._connection)
        if headers.get("Content-Type", "").startswith(_FORMS):
            # No handler takes a form, and Tornado would parse it before one is asked.
            headers["Content-Type"] = "application/octet-stream"
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        self._inner.finish()

    def on_connection_close(self) -> None:
        self._inner.on_connection_close()


class BoundedServer(HTTPServer):
    """An HTTPServer that holds as many connections as `connections` has room for."""

    connections: Connections
    #: Of those that waited when the sockets were closed.
    _last: list[tuple[socket.socket, Any]]

    def initialize(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        self.connections = connections
        self._last = []
        super().initialize(*args, **kwargs)

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        for one in sockets:
            acceptor = _Acceptor(one, self._accepted, self.connections)
            self._sockets[one.fileno()] = one
            # Tornado calls it and closes the socket.
            self._handlers[one.fileno()] = lambda acceptor=acceptor: self._last.extend(acceptor.stop())

    def stop(self) -> None:
        """Close the sockets, and serve every connection that waited to be accepted."""
        super().stop()
        for accepted, address in self._last:
            self._accepted(accepted, address)
        self._last.clear()

    def _accepted(self, accepted: socket.socket, address: Any) -> None:
        connection = Connection(
            accepted, max_buffer_size=self.max_buffer_size, read_chunk_size=cast("int", self.read_chunk_size)
        )
        host = str(cast("tuple[object, ...]", address)[0]) if isinstance(address, tuple) and address else ""
        if not self.connections.add(connection, host):
            try:
                accepted.send(_BUSY)
            except OSError:
                pass
            connection.close()
            return
        self.handle_stream(connection, address)  # pyright: ignore[reportUnknownMemberType] - any address

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        inner = super().start_request(server_conn, request_conn)
        stream = cast("HTTP1ServerConnection", server_conn).stream
        if not isinstance(stream, Connection):
            return inner
        self.connections.idle(stream)
        return _Watched(inner, self.connections, stream)


class _Acceptor:
    """Accepts from one listening socket; without a descriptor left, it waits instead of trying without a pause."""

    def __init__(
        self, listening: socket.socket, accepted: Callable[[socket.socket, Any], None], connections: Connections
    ) -> None:
        self._listening = listening
        self._accepted = accepted
        self._connections = connections
        self._loop = IOLoop.current()
        self._paused: asyncio.TimerHandle | None = None
        self._stopped = False
        self._loop.add_handler(listening, self._accept, IOLoop.READ)

    def stop(self) -> list[tuple[socket.socket, Any]]:
        """Accept for the last time: the connections that wait.

        They are not served yet: a connection that is made between the last try here and the socket's end is reset.
        """
        self._stopped = True
        if self._paused is not None:
            self._paused.cancel()
        else:
            self._loop.remove_handler(self._listening)
        last: list[tuple[socket.socket, Any]] = []
        while True:
            try:
                last.append(self._listening.accept())
            except ConnectionError:
                continue
            except OSError:
                return last

    def _accept(self, *_: object) -> None:
        for _once in range(_AT_ONCE):
            if self._stopped:
                return
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError as error:
                if error.errno not in _NO_MORE:
                    raise
                self._pause()
                return
            self._accepted(connection, address)

    def _pause(self) -> None:
        self._connections.make_room(_AT_ONCE)
        self._connections.note_full()
        self._loop.remove_handler(self._listening)
        self._paused = asyncio.get_running_loop().call_later(PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._paused = None
        self._loop.add_handler(self._listening, self._accept, IOLoop.READ)
