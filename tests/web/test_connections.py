"""Floods of connections: others still get answers, and the log stays short."""

import asyncio
import http.client
import json
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest

from dtqkit.web.connections import Connection, Connections, owner_of
from tests.serving import TOKEN, Server

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
