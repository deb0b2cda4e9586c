"""A token never appears in the server's log, however it was sent."""

import asyncio
import contextlib
import json
import socket
from urllib.parse import urlsplit

import pytest
from tornado.websocket import WebSocketClosedError, websocket_connect

from tests.serving import TOKEN, Server

#: Long enough parts of a token that is sent.
PARTS = (TOKEN, TOKEN[:12], TOKEN[-12:])


def send(server: Server, request: bytes) -> bytes:
    """The answer to what may be no HTTP."""
    address = urlsplit(server.http)
    received = b""
    with (
        contextlib.suppress(OSError),  # the server may close at the first wrong byte
        socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection,
    ):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65536):
            received += chunk
    return received


def check(server: Server) -> None:
    log = server.output()
    assert [part for part in PARTS if part in log] == []


@pytest.mark.parametrize("end", [b"\r", b"\0", b"\x0b", b"\x7f", b"\x1b", "é".encode(), b"\xff", b"x" * 70_000, b" x"])
@pytest.mark.parametrize("name", [b"Authorization", b"authorization", b"X-Other", b"Authorization "])
def test_a_token_in_a_broken_header_is_not_logged(server: Server, name: bytes, end: bytes) -> None:
    token = TOKEN.encode()
    send(server, b"GET /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n%b: Bearer %b%b\r\n\r\n" % (name, token, end))
    send(server, b"GET /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nBearer %b%b\r\n\r\n" % (token, end))
    check(server)


@pytest.mark.parametrize(
    "line",
    ["GET /jobs?token={}", "GET /{}", "GET /jobs/token={}", "{} /jobs", "GET /ws?access_token={}", "GET /jobs?{}=1"],
)
def test_a_token_in_a_request_line_is_not_logged(server: Server, line: str) -> None:
    for version in ("HTTP/1.1", "HTTP/3", ""):
        send(server, f"{line.format(TOKEN)} {version}\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    check(server)


def test_a_token_in_a_message_or_a_body_is_not_logged(server: Server) -> None:
    async def say(message: str) -> None:
        connection = await websocket_connect(server.ws)
        with contextlib.suppress(WebSocketClosedError):
            await connection.write_message(message)
            await connection.read_message()
        connection.close()

    for message in (
        json.dumps({"type": "hello", "token": f"{TOKEN}\r"}),
        json.dumps({"type": "hello", "token": [TOKEN]}),
        json.dumps({"type": TOKEN}),
        TOKEN,
    ):
        asyncio.run(say(message))
        server.post("/jobs", message.encode())
        server.post("/jobs", {"task": "keep", "payload": {TOKEN: TOKEN}, "tags": [TOKEN]})
        server.post("/jobs", {"task": TOKEN})
    check(server)


def test_the_log_says_what_is_wrong_with_the_header(server: Server) -> None:
    send(server, f"GET /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\r\n\r\n".encode())
    assert "it has a carriage return in it; if that is a token, look at how DTQ_TOKEN was set there" in server.output()
