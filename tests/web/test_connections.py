"""Floods of connections: others still get answers, and the log stays short."""

import asyncio
import contextlib
import http.client
import json
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest
from tornado.web import Application, RequestHandler

from dtqkit.local import LocalStores
from dtqkit.web import connections as module
from dtqkit.web.connections import BoundedServer, Connection, Connections, owner_of
from tests.serving import COMMAND, TOKEN, Server, settings_for

StartServer = Callable[..., Server]


@contextmanager
def descriptors(soft: int) -> Iterator[None]:
    """The soft limit that a process which is started now inherits."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def silent(server: Server, count: int, owned: ExitStack) -> list[socket.socket]:
    """Connections that send nothing."""
    address = urlsplit(server.http)
    found: list[socket.socket] = []
    for _ in range(count):
        one = owned.enter_context(socket.socket())
        one.settimeout(5)
        one.connect((address.hostname or "", address.port or 0))
        found.append(one)
    return found


def test_a_server_raises_its_limit_of_descriptors(start_server: StartServer) -> None:
    with descriptors(256):
        server = start_server()
    assert server.process is not None
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 8448)


def test_silent_connections_beyond_the_limit_do_not_block_other_clients(start_server: StartServer) -> None:
    server = start_server()
    assert server.process is not None
    # As where the hard limit is low too; the server has read its own at its start, so that it runs out for real.
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (200, hard))
    with ExitStack() as owned:
        silent(server, 400, owned)
        for _ in range(5):
            assert server.get("/jobs?limit=1").status == 200
    lines = server.output().splitlines()
    assert len([line for line in lines if "many connections" in line]) <= 15
    assert len(lines) < 60
    assert "Too many open files" not in server.output()


def kept(server: Server) -> http.client.HTTPConnection:
    address = urlsplit(server.http)
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 0, timeout=20)
    connection.request("GET", "/jobs?limit=1", headers={"Authorization": f"Bearer {TOKEN}"})
    assert connection.getresponse().read()
    return connection


class Pair(Connection):
    """One end of a socket pair."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        super().__init__(ours)


async def added(connections: Connections, *addresses: str) -> list[Pair]:
    found = [Pair() for _ in addresses]
    assert all(connections.add(one, address) for one, address in zip(found, addresses, strict=True))
    return found


def test_the_longest_idle_connection_of_an_address_makes_room_for_its_next() -> None:
    async def story() -> None:
        connections = Connections(4)
        first, second = await added(connections, "10.0.0.1", "10.0.0.1")
        connections.busy(first)
        connections.idle(first)  # it has had its answer: now the other one is idle for longer
        (third,) = await added(connections, "10.0.0.1")
        assert [one.closed() for one in (first, second, third)] == [False, True, False]
        assert len(connections) == 2
        for one in (first, third):
            connections.busy(one)
        refused = Pair()
        assert not connections.add(refused, "10.0.0.1")
        assert connections.add(refused, "10.0.0.2")

    asyncio.run(story())


def test_who_has_the_most_connections_makes_room_for_others() -> None:
    async def story() -> None:
        connections = Connections(4)
        mine = await added(connections, "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3")
        (other,) = await added(connections, "10.0.0.4")
        assert [one.closed() for one in (*mine, other)] == [True, False, False, False, False]
        assert len(connections) == 4
        other.close()
        assert len(connections) == 3

    asyncio.run(story())


def test_behind_a_proxy_one_address_may_have_all_connections() -> None:
    async def story() -> None:
        connections = Connections(4, behind_proxy=True)
        mine = await added(connections, *["10.0.0.1"] * 4)
        assert not any(one.closed() for one in mine)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_of_ipv6_a_client_is_its_network(address: str, owner: str) -> None:
    assert owner_of(address) == owner


def test_a_kept_connection_lives_through_a_flood_of_silent_ones_by_its_next_request(start_server: StartServer) -> None:
    server = start_server()
    with ExitStack() as owned:
        connection = kept(server)
        owned.callback(connection.close)
        silent(server, 300, owned)
        connection.request("GET", "/jobs?limit=1", headers={"Authorization": f"Bearer {TOKEN}"})
        assert json.loads(connection.getresponse().read())["items"] == []


#: What needs no token and never ends: the server answers the first part, and waits for the rest.
UNENDING = {
    "a body": b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
    "a hello": b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
}


@pytest.fixture(scope="module")
def small(stores: LocalStores) -> Iterator[Server]:
    """A server that holds 16 connections, 8 from one address."""
    server = Server(settings_for(stores, "small"))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (144, 144)); "
    server.command = (sys.executable, "-c", limit + COMMAND)
    with server:
        yield server


@pytest.mark.parametrize("waits_for", UNENDING)
def test_clients_that_keep_the_server_waiting_do_not_block_others(small: Server, waits_for: str) -> None:
    with ExitStack() as owned:
        for connection in silent(small, 8, owned):
            connection.sendall(UNENDING[waits_for])
            assert connection.recv(4096).startswith(b"HTTP/1.1 10")
        for _ in range(5):
            assert small.get("/health/live", token=None).status == 200


def test_a_client_that_does_not_read_makes_room_after_the_idle_ones() -> None:
    async def story() -> None:
        connections = Connections(6)
        unread, idle, read = await added(connections, *["10.0.0.1"] * 3)
        for one in (unread, read):
            one.busy()
            written = one.write(b"x" * 1_000_000)
        while not written.done():
            read.theirs.recv(65536)
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # for what is to happen then
        (fourth,) = await added(connections, "10.0.0.1")
        fourth.busy()
        assert [one.closed() for one in (unread, idle, read)] == [False, True, False]
        (fifth,) = await added(connections, "10.0.0.1")
        fifth.busy()
        assert [one.closed() for one in (unread, read)] == [True, False]
        assert not connections.add(Pair(), "10.0.0.1")

    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_client_that_takes_nothing_of_its_answer_is_closed_and_a_slow_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "READ_S", 1.0)

    async def story() -> None:
        connections = Connections(4)
        stalled, slow = await added(connections, "10.0.0.1", "10.0.0.2")
        for one in (stalled, slow):
            one.busy()
            one.write(b"x" * 50_000_000)
            one.answered()
        slow.theirs.setblocking(False)
        while not stalled.closed():
            await asyncio.sleep(0.01)  # between two reads of the slow client
            with contextlib.suppress(BlockingIOError):
                slow.theirs.recv(256 * 1024)
        assert not slow.closed()
        slow.close()

    asyncio.run(asyncio.wait_for(story(), 20))


def test_requests_that_came_before_a_connection_was_closed_are_not_served_after_it() -> None:
    async def story() -> int:
        served = 0
        ended = asyncio.Event()

        class Closing(RequestHandler):
            def get(self) -> None:
                nonlocal served
                served += 1
                self.request.connection.stream.close()  # pyright: ignore

        class Watched(BoundedServer):
            def on_close(self, server_conn: object) -> None:
                super().on_close(server_conn)
                ended.set()

        server = Watched(Application([("/", Closing)]), connections=Connections(4))
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        server.add_sockets([listening])
        with socket.create_connection(listening.getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 500)
            await ended.wait()
        server.stop()
        return served

    assert asyncio.run(asyncio.wait_for(story(), 20)) == 1
