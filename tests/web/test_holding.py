"""No request, with 64 KiB of anything in any place, holds the server's loop for more than 50 ms."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import pytest
from tornado.httpclient import HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, websocket_connect

from dtqkit import task
from dtqkit.control import OPERATIONS
from dtqkit.local import LocalStores
from tests.serving import TOKEN, Server, fresh_namespace, publish, settings_for
from tests.web.tasks import ALL

SIZE = 64 * 1024
#: What Tornado takes as headers, the request line with them.
HEAD = 15 * 1024
#: One slow look is the machine's: a garbage collection, say.
TRIES = 3


@task
def shaped(
    name: Annotated[str, msgspec.Meta(pattern="^(a+)+$")] = "a",
    low: Annotated[str, msgspec.Meta(pattern="a*a*b")] = "b",
) -> None:
    """Its patterns backtrack."""


#: Texts of any length: what a parser, a pattern, a search or an error may take too long for.
UNITS = (
    *("a", "é", "🎉", "%", "%41", "%00", "&", "&a", "&a=", "=", "a.", "a,", "://", "://@", "token=", '"token":', "/"),
    *("..", "[", "]", "{", "\\", "\\u0000", "'", '"', "-", "0", "9", "1e9", " ", "\t", ";", ":", "@", "Bearer ", "$"),
)


def texts(size: int) -> Iterator[str]:
    for unit in UNITS:
        yield unit * (size // len(unit.encode()))


def bodies() -> Iterator[tuple[str, bytes]]:
    """Bodies of about SIZE bytes, each with a name."""
    half = SIZE // 2
    long_number = "9" * (SIZE - 100)
    values = {
        "digits": long_number,
        "5,000 digits": "9" * 5000,
        "fraction": f"0.{long_number}",
        "exponent": "1e999999",
        "long exponent": f"1e{long_number}",
        "many numbers": f"[{','.join(['1e308'] * (SIZE // 7))}]",
        "many long integers": f"[{','.join(['9' * 4300] * (SIZE // 4301))}]",
        "deep lists": "[" * half + "]" * half,
        "deep objects": '{"a":' * (SIZE // 6) + "1" + "}" * (SIZE // 6),
        "open lists": "[" * SIZE,
        "many keys": json.dumps({f"k{number}": 1 for number in range(SIZE // 10)}),
        "one key twice": "{" + ",".join(['"a":1'] * (SIZE // 6)) + "}",
        "empty objects": f"[{','.join(['{}'] * (SIZE // 3))}]",
        "escapes": '"' + "\\u00e9" * (SIZE // 6) + '"',
        "surrogates": '"' + "\\ud800" * (SIZE // 6) + '"',
        "newlines": "\n" * SIZE + "x",
        "bad UTF-8": "\udcff" * SIZE,
    }
    for number, text in [*enumerate(texts(SIZE))][::3]:
        values[f"text {UNITS[number]!r}"] = json.dumps(text)
    for name, value in values.items():
        yield name, value.encode("utf-8", "surrogateescape")


def shapes(value: bytes) -> Iterator[bytes]:
    """Bodies with `value` in each place."""
    yield value
    yield b'{"task":"keep","payload":{"value":' + value + b"}}"
    yield b'{"task":"add","payload":{"a":' + value + b"}}"
    yield b'{"task":"shaped","payload":{"name":' + value + b',"low":' + value + b"}}"
    yield b'{"task":' + value + b"}"
    yield b'{"task":"keep","tags":[' + value + b'],"idempotency_key":' + value + b"}"
    yield b'{"since":' + value + b',"ids":' + value + b"}"
    if value.startswith(b'"'):
        yield b"{" + value + b":1}"
        yield b'{"task":"add","payload":{' + value + b":1}}"


def batches() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield "unknown tasks", [{"task": f"{'add_many_of_' * 5}{number}"} for number in range(600)]
    yield "good ones", [{"task": "add", "payload": {"a": 1}} for _ in range(1000)]
    yield "wrong payloads", [{"task": "add", "payload": {"b": "x"}} for _ in range(1000)]
    yield "patterns", [{"task": "shaped", "payload": {"name": "a" * 14 + "!"}} for _ in range(1000)]


class Watched(Server):
    """A server whose loop is looked at."""

    def __init__(self, file: Path, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.command = (sys.executable, "-m", "tests.web.measured", str(file))
        self.file = file

    def held(self) -> str:
        """What has held the loop since the last look."""
        found = self.file.read_text() if self.file.exists() else ""
        self.file.unlink(missing_ok=True)
        return found


@pytest.fixture(scope="module")
def server(stores: LocalStores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    file = tmp_path_factory.mktemp("held") / "held"
    with fresh_namespace(stores) as namespace:
        settings = settings_for(stores, namespace, behind_proxy=True)
        named = [msgspec.structs.replace(ALL[0].info, name=f"{'add_many_of_' * 5}{number}a") for number in range(300)]
        publish(settings, [*(one.info for one in (*ALL, shaped)), *named])
        with Watched(file, settings) as server:
            server.held()  # imports
            server.post("/jobs", {"task": "add", "payload": {"a": 1}})
            server.held()
            yield server


def raw(server: Server, request: bytes) -> bytes:
    """The answer, as far as there is one before the connection is closed."""
    address = urlsplit(server.http)
    received = b""
    try:
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection:
            connection.sendall(request)
            while chunk := connection.recv(65536):
                received += chunk
    except ConnectionError:
        pass
    return received


def request(method: str, target: str, headers: dict[str, str], body: bytes = b"", *, form: str = "") -> bytes:
    sent = {"Host": "127.0.0.1", "Connection": "close", "Authorization": f"Bearer {TOKEN}", **headers}
    if body:
        sent |= {"Content-Type": form or "application/json", "Content-Length": str(len(body))}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


def check(server: Watched, requests: dict[str, bytes]) -> None:
    """None of these holds the loop; what seems to is tried again."""
    slow: dict[str, str] = {}
    for name, sent in requests.items():
        held = ""
        for _ in range(TRIES):
            raw(server, sent)
            if not (held := server.held()):
                break
        else:
            slow[name] = held
    assert slow == {}
    assert server.get("/health/live").status == 200


GETS = sorted({operation.path for operation in OPERATIONS if operation.method == "GET"} | {"/", "/openapi.json", "/x"})


def test_no_path_and_no_query_holds_the_loop(server: Watched) -> None:
    found: dict[str, bytes] = {}
    for text in texts(HEAD):
        sent = text.replace(" ", "+").replace("\t", "+")
        for path in ("/", "/jobs/", f"/jobs/{'0' * 24}/log", "/api/"):
            found[f"{path}{text[:8]!r}"] = request("GET", path + sent, {})
        for name in ("q", "since", "cursor", "ids", "task", "worker", "limit", ""):
            found[f"/jobs?{name}={text[:8]!r}"] = request("GET", f"/jobs?{name}={sent}", {})
    found["whole"] = request("GET", "/" + "a" * SIZE, {})
    check(server, found)


@pytest.mark.parametrize("path", GETS)
def test_no_route_is_held_up_by_its_query(server: Watched, path: str) -> None:
    at = path.replace("{id}", "0" * 24)
    check(server, {text[:8]: request("GET", f"{at}?{text.replace(' ', '+')}", {}) for text in texts(HEAD)})


def test_no_header_holds_the_loop(server: Watched) -> None:
    names = ("Host", "Origin", "Authorization", "Cookie", "Content-Type", "X-Request-Id", "X-Forwarded-For", "Accept")
    found: dict[str, bytes] = {}
    for text in texts(HEAD):
        for name in names:
            found[f"{name}: {text[:8]!r}"] = request("GET", "/jobs", {name: text})
            found[f"OPTIONS {name}: {text[:8]!r}"] = request("OPTIONS", "/jobs", {name: text})
    found["many headers"] = request("GET", "/jobs", {f"X-{number}": "a" for number in range(HEAD // 10)})
    check(server, found)


def test_no_body_holds_the_loop(server: Watched) -> None:
    posts = [operation.path.replace("{id}", "0" * 24) for operation in OPERATIONS if operation.method == "POST"]
    found: dict[str, bytes] = {}
    for name, value in bodies():
        for number, body in enumerate(shapes(value)):
            for path in posts if number == 0 else ("/jobs", "/jobs/dead-letter/requeue")[: 1 + (number == 6)]:
                found[f"{path} {name} {number}"] = request("POST", path, {}, body)
                if number % 3 == 1:
                    found[f"batch {name} {number}"] = request("POST", "/jobs/batch", {}, b"[" + body + b"]")
    check(server, found)


def test_no_batch_holds_the_loop(server: Watched) -> None:
    check(server, {name: request("POST", "/jobs/batch", {}, json.dumps(batch).encode()) for name, batch in batches()})


def test_no_form_holds_the_loop(server: Watched) -> None:
    forms = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=a")
    bodies_of = [b"a&" * 500_000, b"%41" * 300_000, b"--a\r\n" * 100_000, b"--a\r\n\r\n" * 90 + b"--a--"]
    check(
        server,
        {f"{form} {body[:5]!r}": request("POST", "/jobs", {}, body, form=form) for form in forms for body in bodies_of},
    )


def test_no_message_of_the_stream_holds_the_loop(server: Watched) -> None:
    messages = [value.decode("utf-8", "replace")[: SIZE - 100] for _, value in bodies()]
    messages += [f'{{"type":"hello","token":{message}}}' for message in messages if message.startswith('"')]
    messages.append(json.dumps({"type": "watch", "jobs": ["0" * 24] * 1000}))
    messages.append(json.dumps({"type": "watch", "jobs": [str(number) for number in range(9000)]}))

    async def say(message: str, *, known: bool) -> None:
        connection = await websocket_connect(HTTPRequest(server.ws, headers={"Host": "127.0.0.1"}))
        try:
            if known:
                await connection.write_message(json.dumps({"type": "hello", "token": TOKEN}))
                await connection.read_message()
            await connection.write_message(message)
            if not known:
                await connection.read_message()
            else:
                connection.ping(b"")
        except (WebSocketClosedError, StreamClosedError):
            pass
        finally:
            connection.close()

    slow: list[str] = []
    for message in messages:
        for known in (False, True):
            held = ""
            for _ in range(TRIES):
                asyncio.run(say(message, known=known))
                if not (held := server.held()):
                    break
            else:
                slow.append(f"{message[:60]} {held}")
    assert slow == []
