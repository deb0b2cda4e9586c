"""In front of a server: monitors that send HEAD, balancers that keep connections, hosts that stop it."""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from tornado.websocket import websocket_connect

from dtqkit.web.app import KEEP_S, LIMITS, routes
from dtqkit.web.drain import SAME_S, Drain
from tests.serving import TOKEN, Server
from tests.wait import wait_until

Start = Callable[..., Server]

UNKNOWN = "0123456789abcdef01234567"
#: Every path with GET; those of files by name.
PATHS = [
    *(path.replace("(?P<id>[^/]+)", UNKNOWN) for path, kind in routes() if "GET" in kind.scopes and "(b" not in path),
    *("/", "/board/index.js", "/board/base.css", "/page.js", "/config.js", "/icon.svg", "/nothing", "/jobs?limit=x"),
]
#: Headers that differ from one answer to the next.
MOVING = {"Date", "X-Request-Id"}


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_a_body(server: Server, path: str) -> None:
    numbers = ("/metrics", "/stats", "/stats/totals", "/health")  # which change with time
    moving = MOVING | ({"Content-Length"} if path in numbers else set[str]())
    for prefix in ("", "/api"):
        for token in (TOKEN, None):
            get, head = (server.ask(method, prefix + path, token=token) for method in ("GET", "HEAD"))
            assert head.body == b""
            assert head.status == get.status
            assert {k: v for k, v in head.headers.items() if k not in moving} == {
                k: v for k, v in get.headers.items() if k not in moving
            }
            assert "Content-Length" in head.headers


def test_head_where_there_is_no_get_is_405(server: Server) -> None:
    assert server.ask("HEAD", "/jobs/batch").status == 405
    assert server.ask("OPTIONS", "/jobs").headers["Allow"] == "POST, GET, HEAD, OPTIONS"


def test_a_monitors_own_query_is_ignored_by_health(server: Server) -> None:
    for path in ("/health?ts=1", "/health/live?ts=1&ts=2", "/health?%", "/api/health?cachebust=a%20b"):
        for method in ("GET", "HEAD"):
            assert server.ask(method, path, token=None).status == 200
    assert server.get("/workers?ts=1").status == 400


def test_an_idle_connection_is_kept_longer_than_any_common_balancer_keeps_it() -> None:
    assert LIMITS["idle_connection_timeout"] == KEEP_S > 600


# -- the drain


def test_a_signal_that_comes_with_the_first_is_the_same_request() -> None:
    async def story() -> list[bool]:
        now = 100.0
        drain = Drain(60.0, clock=lambda: now)
        drain.ask()
        drain.ask()
        seen = [drain.begun, drain.over.is_set()]
        now += SAME_S + 0.1
        drain.ask()
        return [*seen, drain.over.is_set()]

    assert asyncio.run(story()) == [True, False, True]


def test_ctrl_c_does_not_wait_for_balancers() -> None:
    async def story() -> list[bool]:
        first, second = Drain(60.0), Drain(60.0)
        first.ask(at_once=True)
        second.ask()
        second.ask(at_once=True)
        return [first.over.is_set(), second.over.is_set()]

    assert asyncio.run(story()) == [True, True]


def send(server: Server, number: int = signal.SIGTERM) -> None:
    assert server.process is not None
    os.kill(server.process.pid, number)


def ended(server: Server) -> bool:
    assert server.process is not None
    return server.process.poll() is not None


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_stopping_server_says_so_and_serves_new_connections(start_server: Start, processes: str) -> None:
    server = start_server("--processes", processes, drain_s=4.0)
    wait_until(lambda: all(server.get("/health", token=None).status == 200 for _ in range(10)))  # each process
    send(server)
    wait_until(lambda: server.get("/health", token=None).status == 503, timeout_s=2)
    answer = server.get("/health", token=None)
    assert (answer.json["status"], answer.json["reasons"]) == ("stopping", ["this server is stopping"])
    assert answer.headers["Connection"] == "close"
    assert server.get("/health/live", token=None).status == 200
    accepted = server.post("/jobs", {"task": "add", "payload": {"a": 1}})
    assert (accepted.status, accepted.headers["Connection"]) == (201, "close")
    assert not ended(server)
    send(server)  # it has had its time
    wait_until(lambda: ended(server), timeout_s=15)
    assert '"level":"error"' not in server.output()


def test_streams_are_closed_with_1001_at_the_end_of_the_drain(start_server: Start) -> None:
    server = start_server(drain_s=0.5)

    async def story() -> int | None:
        line = await websocket_connect(server.ws)
        await line.write_message(json.dumps({"type": "hello", "token": TOKEN}))
        assert "snapshot" in str(await line.read_message())
        send(server)
        while await line.read_message() is not None:
            pass
        line.close()
        return line.close_code

    assert asyncio.run(asyncio.wait_for(story(), 20)) == 1001


def test_no_new_connection_is_refused_during_the_drain(start_server: Start) -> None:
    server = start_server(drain_s=1.5)
    address = urlsplit(server.http)
    failed: list[float] = []
    answered: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            at = time.monotonic()
            try:
                with socket.create_connection((address.hostname, address.port), 5) as connection:
                    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    ok = connection.recv(100).startswith(b"HTTP/1.1 200")
            except OSError:
                ok = False
            (answered if ok else failed).append(at)
            stop.wait(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: len(answered) > 20)
    signalled = time.monotonic()
    send(server)
    wait_until(lambda: ended(server), timeout_s=20)
    stop.set()
    asking.join()
    assert [round(at - signalled, 2) for at in failed if at - signalled < 1.4] == []
    assert any(at > signalled + 0.5 for at in answered)


def test_a_kept_connection_ends_with_its_next_answer(start_server: Start) -> None:
    server = start_server(drain_s=5.0)
    address = urlsplit(server.http)
    with socket.create_connection((address.hostname, address.port), 10) as kept:
        request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

        def ask() -> bytes:
            kept.sendall(request)
            return kept.recv(4096)

        assert b"close" not in ask()
        send(server)
        wait_until(lambda: server.get("/health", token=None).status == 503)
        assert b"Connection: close" in ask()
        assert kept.recv(100) == b""
