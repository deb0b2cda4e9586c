"""The stream: hello, snapshot, events in order, narrowed, bounded; and its manners towards bad clients."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from dtqkit.broker.keys import Keys
from dtqkit.model.events import JobEvent, encode_batch
from dtqkit.web.access import BURST
from dtqkit.web.stream import text_frame
from tests.serving import READ_TOKEN, TOKEN, Server

Start = Callable[..., Server]


@asynccontextmanager
async def connected(url: str, hello: Any = None, **headers: str) -> AsyncIterator[WebSocketClientConnection]:
    line = await websocket_connect(HTTPRequest(url, headers=headers))
    try:
        if hello is not None:
            await line.write_message(json.dumps({"type": "hello", "token": hello}))
        yield line
    finally:
        line.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                while line.close_code is None and await line.read_message() is not None:
                    pass


async def read(line: WebSocketClientConnection, timeout_s: float = 10) -> Any:
    """The next message that is not a beat; None when the connection is closed."""
    async with asyncio.timeout(timeout_s):
        while (message := await line.read_message()) is not None:
            if (said := json.loads(message))["type"] != "beat":
                return said
    return None


async def events_of(line: WebSocketClientConnection, enough: Callable[[list[Any]], bool]) -> list[Any]:
    """Events of jobs until there are enough."""
    found: list[Any] = []
    while not enough(found):
        message = await read(line)
        assert message is not None
        if message["type"] == "events":
            found += message.get("jobs", [])
    return found


def run(story: Awaitable[None]) -> None:
    async def main() -> None:
        await story

    asyncio.run(main())


def publish_events(server: Server, *events: JobEvent) -> None:
    settings = server.settings
    with Redis.from_url(settings.redis_url) as redis:
        redis.publish(Keys.of(settings.namespace).events, encode_batch(events))


def event(number: int, rev: int, status: Any = "completed", **more: Any) -> JobEvent:
    return JobEvent(id=f"{number:024x}", rev=rev, status=status, task="t", priority="low", **more)


def test_hello_brings_a_snapshot_and_then_events(server: Server) -> None:
    async def story(url: str) -> None:
        async with connected(url, READ_TOKEN) as line:
            snapshot = await read(line)
            assert set(snapshot) == {"type", "depths", "workers", "jobs"}
            assert snapshot["type"] == "snapshot"
            job = await asyncio.to_thread(server.post, "/jobs", {"task": "add", "payload": {"a": 1}})
            found = await events_of(line, lambda events: len(events) > 0)
            assert (found[0]["id"], found[0]["status"]) == (job.json["id"], "pending")

    base = server.http.replace("http", "ws")
    for url in (server.ws, server.ws.replace("/ws", "/api/ws"), f"{base}/ws", f"{base}/api/ws"):
        run(story(url))


def test_events_of_a_job_are_coalesced_and_in_order(server: Server) -> None:
    async def story() -> None:
        async with connected(server.ws, TOKEN) as line:
            await read(line)
            for rev in (2, 5, 3, 4, 9, 7):
                publish_events(server, event(1, rev))
            publish_events(server, event(2, 1))
            found = await events_of(line, lambda events: any(e["id"].endswith("2") for e in events))
            revs = [e["rev"] for e in found if e["id"].endswith("1")]
            assert revs == sorted(set(revs))
            assert revs[-1] == 9
            publish_events(server, event(1, 8), event(3, 1))
            late = await events_of(line, lambda events: any(e["id"].endswith("3") for e in events))
            assert [e["rev"] for e in late if e["id"].endswith("1")] == []

    run(story())


def test_at_most_ten_messages_of_events_a_second(server: Server) -> None:
    async def story() -> None:
        async with connected(server.ws, TOKEN) as line:
            await read(line)
            times: list[float] = []
            sending = asyncio.create_task(send_for(2.0))
            last = 0
            while last < 1000:
                message = await read(line)
                if message["type"] == "events" and message.get("jobs"):
                    times.append(time.monotonic())
                    last = max(int(e["rev"]) for e in message["jobs"])
            await sending
            span = times[-1] - times[0]
            assert len(times) <= 10 * span + 3

    async def send_for(seconds: float) -> None:
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            number += 1
            publish_events(server, event(77, number))
            await asyncio.sleep(0.005)  # 200 changes a second
        publish_events(server, event(77, 1000))

    run(story())


def test_watch_narrows_the_events_to_some_jobs(server: Server) -> None:
    async def story() -> None:
        async with connected(server.ws, TOKEN) as line, connected(server.ws, TOKEN) as other:
            await read(line)
            await read(other)
            await line.write_message(json.dumps({"type": "watch", "jobs": [f"{4:024x}"]}))
            number = 0
            seen: list[Any] = []
            while not seen:
                number += 1
                publish_events(server, event(4, number), event(5, number))
                seen = await events_of(other, lambda events: any(e["id"].endswith("5") for e in events))
            # By now the server has read the watch, which was sent long before.
            publish_events(server, event(6, 1), event(4, number + 1))
            mine = await events_of(line, lambda events: any(e["rev"] == number + 1 for e in events))
            assert "6" not in [e["id"][-1] for e in mine]
            await line.write_message(json.dumps({"type": "watch", "jobs": None}))
            number = 100
            while not any(e["id"].endswith("7") for e in mine):
                number += 1
                publish_events(server, event(7, number))
                mine += (await read(line)).get("jobs", [])

    run(story())


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ('{"type": "hello", "token": "wrong"}', 4401),
        ('{"type": "hello", "token": "w\\u00f6rng"}', 4401),
        ('{"type": "hello"}', 4401),
        ('{"type": "hello", "token": {"$ne": ""}}', 4401),
        ('{"type": "watch", "jobs": []}', 4401),
        ("not json", 4401),
        ("x" * 70_000, 1009),
    ],
)
def test_a_client_that_sends_no_hello_is_disconnected(server: Server, first: str, code: int) -> None:
    async def story() -> None:
        async with connected(server.ws) as line:
            await line.write_message(first)
            assert await read(line) is None
            assert line.close_code == code

    run(story())


def test_a_client_that_says_nothing_is_closed_after_five_seconds(server: Server) -> None:
    async def story() -> None:
        started = time.monotonic()
        async with connected(server.ws) as line:
            assert await read(line) is None
            assert line.close_code == 4401
        assert 4 < time.monotonic() - started < 9

    run(story())


def test_nonsense_after_hello_closes_too(server: Server) -> None:
    async def story(text: str, code: int) -> None:
        async with connected(server.ws, TOKEN) as line:
            await read(line)
            await line.write_message(text)
            while await read(line) is not None:
                pass
            assert line.close_code == code

    run(story('{"type": "shutdown"}', 1008))
    run(story("x" * 70_000, 1009))


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "evil.example"}, 403)],
)
def test_pages_of_others_cannot_open_it(server: Server, headers: dict[str, str], status: int) -> None:
    async def story() -> None:
        with pytest.raises(HTTPClientError) as error:
            async with connected(server.ws, TOKEN, **headers):
                pass
        assert error.value.code == status

    run(story())


def test_our_own_page_can(server: Server) -> None:
    async def story() -> None:
        async with connected(server.ws, TOKEN, Origin=server.http) as line:
            assert (await read(line))["type"] == "snapshot"

    run(story())


def test_a_plain_request_for_the_stream_is_refused(server: Server) -> None:
    assert server.get("/ws").status in (400, 426)


def handshake(server: Server) -> socket.socket:
    """A client that has sent hello, with a small window, and from here on reads only on request."""
    address = urlsplit(server.ws)
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect((address.hostname or "", address.port or 0))
    line.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    hello = json.dumps({"type": "hello", "token": TOKEN}).encode()
    line.sendall(bytes([0x81, 0x80 | len(hello), 0, 0, 0, 0]) + hello)
    return line


def test_a_client_that_does_not_read_is_closed_and_the_others_do_not_wait(server: Server) -> None:
    async def story() -> None:
        with handshake(server) as stalled:
            async with connected(server.ws, TOKEN) as line:
                await read(line)
                closed = "a client of the stream does not read: closed"
                number = 0
                slowest = 0.0
                until = time.monotonic() + 60
                while closed not in server.output():
                    assert time.monotonic() < until
                    number += 1
                    started = time.monotonic()
                    publish_events(server, *(event(1000 + n, number, error="x" * 150) for n in range(1_000)))
                    await events_of(line, lambda events: any(e["rev"] == number for e in events))  # noqa: B023
                    slowest = max(slowest, time.monotonic() - started)
                assert slowest < 5
            stalled.settimeout(10)
            received = b""
            while chunk := stalled.recv(1 << 20):
                received = (received + chunk)[-4:]

    run(story())


def test_a_slow_client_that_reads_again_gets_a_fresh_snapshot(server: Server) -> None:
    async def story() -> None:
        async with connected(server.ws, TOKEN) as line:
            assert (await read(line))["type"] == "snapshot"
            # More changes at once than one message may carry: every client gets a snapshot.
            publish_events(server, *(event(10_000 + n, 1) for n in range(2_500)))
            kinds: list[str] = []
            while "snapshot" not in kinds:
                kinds.append((await read(line))["type"])

    run(story())


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_says_how_long_its_message_is(size: int) -> None:
    frame = text_frame(b"x" * size)
    marks = {2: frame[1], 4: int.from_bytes(frame[2:4], "big"), 10: int.from_bytes(frame[2:10], "big")}
    assert frame[0] == 0x81
    assert (frame[1] if size < 126 else 126 if size < 65_536 else 127) == frame[1]
    assert marks[len(frame) - size] == size


def test_an_address_with_too_many_wrong_tokens_is_asked_to_retry_later(start_server: Callable[..., Server]) -> None:
    server = start_server()
    for _ in range(BURST):
        assert server.get("/jobs", token="wrong").status == 401

    async def story() -> None:
        async with connected(server.ws, "wrong") as line:
            assert await line.read_message() is None
            assert line.close_code == 1013, line.close_reason
        async with connected(server.ws, TOKEN) as line:  # a right one passes
            assert await line.read_message() is not None

    run(story())
