"""The server's rows of the budgets, under a client of another process.

The yardstick is a bare Tornado handler, asked by the same client in the same run.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from bson import ObjectId
from pymongo import MongoClient
from redis import Redis

from dtqkit.broker.keys import Keys
from dtqkit.model.events import JobEvent, encode_batch
from dtqkit.model.settings import Settings
from tests.benchmarks.bench import Bench
from tests.benchmarks.report import Row, at_least, at_most, quantile, row
from tests.serving import TOKEN, Server, fresh_namespace, publish, settings_for
from tests.web.tasks import ALL
from tests.web.test_stream import handshake

SUITE = (
    "the server: its start and memory, requests beside a bare Tornado handler, listings of 1,000,000 jobs, the stream"
)

AT_ONCE = 64
#: Jobs behind the listings; clients of the stream, and for how long they listen, in seconds.
JOBS = 1_000_000
CLIENTS = 1_000
LISTENED_S = 24
#: How long each kind of request is asked in a round, in seconds.
ASKED_S = 3
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BARE = """
import asyncio, socket
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
class Bare(RequestHandler):
    def get(self, *_): self.finish(b'{"id": "0123456789abcdef01234567"}')
    def post(self, *_): self.set_status(201); self.finish(b'{"id": "0123456789abcdef01234567"}')
async def main():
    server = HTTPServer(Application([("/(.*)", Bare)]))
    server.listen(%d, "127.0.0.1")
    await asyncio.Event().wait()
try:
    import uvloop; uvloop.run(main())
except ModuleNotFoundError:
    asyncio.run(main())
"""


# -- requests


class Client(asyncio.Protocol):
    """One connection that is kept: sends the next request when the answer to the last is whole. As little as can be,
    so that the server is what is measured."""

    def __init__(self, next_request: Callable[[], bytes | None], done: Callable[[float], None]) -> None:
        self._next = next_request
        self._done = done
        self._buffer = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = self._next()
        if request is None:
            self._transport.close()
            self.over.set_result(None)
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, gap, body = self._buffer.partition(b"\r\n\r\n")
        if not gap:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        assert head[9:10] == b"2", head[:300] + body[:300]
        self._buffer = body[length:]
        self._done(time.perf_counter() - self._sent)
        self._send()


def ask_many(port: int, requests: list[bytes], seconds: float) -> float:
    """Ask for `seconds` with AT_ONCE connections; answers a second."""

    async def main() -> int:
        times: list[float] = []
        until = time.perf_counter() + seconds
        rng = random.Random(1)

        def next_request() -> bytes | None:
            return rng.choice(requests) if time.perf_counter() < until else None

        loop = asyncio.get_running_loop()
        clients = [
            (await loop.create_connection(lambda: Client(next_request, times.append), "127.0.0.1", port))[1]
            for _ in range(AT_ONCE)
        ]
        await asyncio.gather(*(client.over for client in clients))
        return len(times)

    return asyncio.run(main()) / seconds


def in_another_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def requests(bench: Bench, server: Server) -> Iterator[Row]:
    """GET and POST of jobs and the same of the bare handler, in turn."""
    bare_port = 28_000 + secrets.randbelow(90)
    bare = subprocess.Popen([sys.executable, "-c", BARE % bare_port], stderr=subprocess.DEVNULL)
    body = json.dumps({"task": "add", "payload": {"a": 1, "b": 2}}).encode()
    ids = [server.post("/jobs", json.loads(body)).json["id"] for _ in range(200)]
    port = port_of(server.http)
    gets, posts = [request("GET", f"/jobs/{job}") for job in ids], [request("POST", "/jobs", body)]
    rates: dict[str, list[float]] = {}
    try:
        for _ in bench.per_round():
            for name, at, asked in (
                ("yardstick: bare GET", bare_port, gets),
                ("GET /jobs/:id", port, gets),
                ("yardstick: bare POST", bare_port, posts),
                ("POST /jobs", port, posts),
            ):
                rates.setdefault(name, []).append(in_another_process(ask_many, at, asked, bench.scaled(ASKED_S)))
    finally:
        bare.kill()
        bare.wait()
    for name, found in rates.items():
        yield row(f"{name}, {AT_ONCE} at once", found, "/s")
    for name, yardstick, least in (
        ("GET /jobs/:id", "yardstick: bare GET", 0.4),
        ("POST /jobs", "yardstick: bare POST", 0.35),
    ):
        ratios = [ours / theirs for ours, theirs in zip(rates[name], rates[yardstick], strict=True)]
        yield row(f"{name} / bare handler", ratios, "x", at_least(least))


# -- listings


def plant(settings: Settings, count: int) -> None:
    """Jobs of a month: nearly all completed, five tasks, three lanes, ten workers, some tags and keys."""
    rng = random.Random(2)
    begin = datetime.now(UTC) - timedelta(days=30)
    with MongoClient[dict[str, Any]](settings.atlas_uri) as mongo:
        jobs = mongo[settings.database_name]["jobs"]
        for start in range(0, count, 10_000):
            docs: list[dict[str, Any]] = []
            for number in range(start, min(start + 10_000, count)):
                when = begin + timedelta(seconds=number * 30 * 86_400 / count)
                status = rng.choices(["completed", "failed", "cancelled", "pending"], [970, 15, 5, 10])[0]
                job = ObjectId(int(when.timestamp()).to_bytes(4, "big") + number.to_bytes(8, "big"))
                doc: dict[str, Any] = {
                    "_id": job,
                    "task": f"task-{rng.randrange(5)}",
                    "payload": {"a": number},
                    "priority": rng.choice(["high", "medium", "low"]),
                    "status": status,
                    "created_at": when,
                    "worker": f"worker-{rng.randrange(10)}",
                    "started_at": when,
                    "ended_at": when,
                    "run_ms": 5.0,
                    "token": 1,
                    "losses": 0,
                    "rev": 3,
                    "result": number,
                }
                if number % 100 == 0:
                    doc["tags"] = [f"tag-{number % 1000}"]
                if number % 50 == 0:
                    doc["idempotency_key"] = f"key-{number}"
                docs.append(doc)
            jobs.insert_many(docs, ordered=False)


LISTINGS = {
    "none": "",
    "status=completed": "status=completed",
    "status=failed": "status=failed",
    "status=pending": "status=pending",
    "status=running (none)": "status=running",
    "task": "task=task-3",
    "task (none)": "task=nobody",
    "priority": "priority=low",
    "worker": "worker=worker-7",
    "worker (none)": "worker=nobody",
    "since=1h": "since=1h",
    "since=7d": "since=7d",
    "q=tag": "q=tag-500",
    "q=key": "q=key-50000",
    "q (none)": "q=nobody",
    "status+task": "status=failed&task=task-3",
    "status+priority": "status=failed&priority=low",
    "status+worker": "status=failed&worker=worker-7",
    "status+since": "status=failed&since=1h",
    "status+q": "status=completed&q=tag-500",
}


def listings(server: Server) -> Iterator[Row]:
    """A hundred pages of fifty for each filter, one after the other, the first and second page in turn."""
    server.get("/jobs?limit=200")
    for name, query in LISTINGS.items():
        times: list[float] = []
        cursor = ""
        for _ in range(100):
            started = time.perf_counter()
            answer = server.get(f"/jobs?{query}{cursor}")
            times.append((time.perf_counter() - started) * 1000)
            assert answer.status == 200, answer
            following = answer.json["cursor"]
            cursor = f"&cursor={following}" if following and not cursor else ""
        yield Row(what=f"GET /jobs, {name}, p95", value=quantile(times, 0.95), unit="ms", budget=at_most(20))


# -- the stream


#: One client in so many takes the time; the others only read, as the client's own work must not be what is measured.
TIMED = 10


class Ear(asyncio.Protocol):
    """A client of the stream that does as little as can be."""

    def __init__(self, delays: list[float] | None) -> None:
        self._delays = delays
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        hello = json.dumps({"type": "hello", "token": TOKEN}).encode()
        transport.write(UPGRADE + bytes([0x81, 0x80 | len(hello), 0, 0, 0, 0]) + hello)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

    def data_received(self, data: bytes) -> None:
        if self._delays is None:
            return
        self._buffer += data
        if self._buffer.startswith(b"HTTP/"):
            _, gap, rest = self._buffer.partition(b"\r\n\r\n")
            if not gap:
                return
            self._buffer = rest
        now = time.time()
        while (frame := self._frame()) is not None:
            if frame.startswith(b'{"type":"events","jobs"'):
                self._delays.extend(now - event["run_ms"] for event in json.loads(frame)["jobs"])

    def _frame(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 127, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return None
        self._buffer = buffer[start + size :]
        return buffer[start : start + size]


def follow(port: int, clients: int, seconds: float) -> list[float]:
    """Delays in s, from the publishing of an event (its run_ms is when) to a client that receives it."""
    delays: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(clients):
            ear = Ear(delays if number % TIMED == 0 else None)
            await loop.create_connection(lambda ear=ear: ear, "127.0.0.1", port)
        await asyncio.sleep(2)
        delays.clear()
        await asyncio.sleep(seconds)

    asyncio.run(main())
    return delays


def stream(bench: Bench, server: Server) -> Iterator[Row]:
    """Clients that read and ten that do not, 100 events a second."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    settings = server.settings
    clients, seconds = bench.scaled(CLIENTS), bench.scaled(LISTENED_S)
    before = process.memory_info().rss
    stalled = [handshake(server) for _ in range(10)]
    peak = before
    with multiprocessing.get_context("spawn").Pool(1) as pool, Redis.from_url(settings.redis_url) as redis:
        hearing = pool.apply_async(follow, (port_of(server.ws), clients, seconds))
        channel = Keys.of(settings.namespace).events
        number = 0
        cpu = sum(process.cpu_times()[:2])
        began = time.perf_counter()
        while not hearing.ready():
            number += 1
            one = JobEvent(
                id=f"{number % 5000:024x}", rev=number, status="completed", task="t", priority="low", run_ms=time.time()
            )
            redis.publish(channel, encode_batch([one]))
            if number % 50 == 0:
                peak = max(peak, process.memory_info().rss)
            time.sleep(max(0.0, began + number / 100 - time.perf_counter()))
        cpu = sum(process.cpu_times()[:2]) - cpu
        delays = [delay * 1000 for delay in hearing.get()]
        elapsed = time.perf_counter() - began
    for one_stalled in stalled:
        one_stalled.close()
    what = f"stream, {clients:,} clients and 10 stalled"
    yield row(f"{what}, events", [number / elapsed], "/s", note=f"{len(delays):,} received by one client in {TIMED}")
    yield row(f"{what}, delay p50", delays, "ms")
    yield Row(what=f"{what}, delay p99", value=quantile(delays, 0.99), unit="ms", budget=at_most(250))
    yield row(f"{what}, growth of the server", [(peak - before) / 1e6], "MB", at_most(100))
    yield row(f"{what}, CPU of the server", [cpu / elapsed * 100], "%")


def rss_mb(server: Server) -> float:
    assert server.process is not None
    return psutil.Process(server.process.pid).memory_info().rss / 1e6


def startup_s(settings: Settings) -> float:
    """Seconds from the start of the process until jobs are accepted."""
    started = time.perf_counter()
    with Server(settings):
        return time.perf_counter() - started


def run(bench: Bench) -> Iterator[Row]:
    with fresh_namespace(bench.stores) as namespace:
        settings = settings_for(bench.stores, namespace)
        publish(settings, [task.info for task in ALL])
        starts = [startup_s(settings) for _ in bench.per_round()]
        yield row("ready after its start, stores up", starts, "s", at_most(2))
        with Server(settings) as server:
            yield row("resident memory", [rss_mb(server)], "MB", at_most(80))
            yield from requests(bench, server)
        plant(settings, bench.scaled(JOBS))
        with Server(settings) as server:
            yield from listings(server)
            yield row(f"resident memory with {bench.scaled(JOBS):,} jobs stored", [rss_mb(server)], "MB", at_most(100))
        with Server(settings) as server:
            yield from stream(bench, server)
