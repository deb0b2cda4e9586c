"""The server's rows of the budgets, under a client of another process.

    python -m tests.benchmarks.server [--jobs 1000000] [--clients 1000] [--seconds 20] [--out FILE]

The yardstick is a bare Tornado handler, asked by the same client in the same run. Prints and writes JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from bson import ObjectId
from pymongo import MongoClient
from redis import Redis

from dtqkit.broker.keys import Keys
from dtqkit.events import JobEvent, encode_batch
from dtqkit.local import start_local_stores
from dtqkit.settings import Settings
from tests.serving import TOKEN, Server, fresh_namespace, publish, settings_for
from tests.web.tasks import ALL
from tests.web.test_stream import handshake

AT_ONCE = 64
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


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


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


def ask_many(port: int, requests: list[bytes], seconds: float, at_once: int = AT_ONCE) -> dict[str, float]:
    """Ask for `seconds` with `at_once` connections; requests a second, and times in ms."""

    async def main() -> list[float]:
        times: list[float] = []
        until = time.perf_counter() + seconds
        rng = random.Random(1)

        def next_request() -> bytes | None:
            return rng.choice(requests) if time.perf_counter() < until else None

        loop = asyncio.get_running_loop()
        clients = [
            (await loop.create_connection(lambda: Client(next_request, times.append), "127.0.0.1", port))[1]
            for _ in range(at_once)
        ]
        await asyncio.gather(*(client.over for client in clients))
        return times

    times = asyncio.run(main())
    return {
        "per_s": round(len(times) / seconds),
        "p50_ms": round(percentile(times, 0.5) * 1000, 2),
        "p95_ms": round(percentile(times, 0.95) * 1000, 2),
    }


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


def measure_requests(server: Server, seconds: float) -> dict[str, Any]:
    """GET and POST of jobs against the bare handler: three rounds, in turn."""
    bare_port = 28_000 + secrets.randbelow(90)
    bare = subprocess.Popen([sys.executable, "-c", BARE % bare_port], stderr=subprocess.DEVNULL)
    body = json.dumps({"task": "add", "payload": {"a": 1, "b": 2}}).encode()
    ids = [server.post("/jobs", json.loads(body)).json["id"] for _ in range(200)]
    asked = {
        "bare GET": (bare_port, [request("GET", f"/jobs/{job}") for job in ids]),
        "GET /jobs/:id": (port_of(server.http), [request("GET", f"/jobs/{job}") for job in ids]),
        "bare POST": (bare_port, [request("POST", "/jobs", body)]),
        "POST /jobs": (port_of(server.http), [request("POST", "/jobs", body)]),
    }
    runs: dict[str, list[Any]] = {name: [] for name in asked}
    try:
        for _ in range(3):
            for name, (port, requests) in asked.items():
                runs[name].append(in_another_process(ask_many, port, requests, seconds / 12))
    finally:
        bare.kill()
        bare.wait()
    best = {name: max(run["per_s"] for run in made) for name, made in runs.items()}
    return {
        "runs": runs,
        "GET /jobs/:id against bare": round(best["GET /jobs/:id"] / best["bare GET"], 2),
        "POST /jobs against bare": round(best["POST /jobs"] / best["bare POST"], 2),
    }


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


def measure_listings(server: Server) -> dict[str, Any]:
    """Twenty pages of fifty for each filter, one after the other, the first and second page in turn."""
    found: dict[str, Any] = {}
    for name, query in LISTINGS.items():
        times: list[float] = []
        cursor = ""
        for _ in range(20):
            started = time.perf_counter()
            answer = server.get(f"/jobs?{query}{cursor}")
            times.append(time.perf_counter() - started)
            assert answer.status == 200, answer
            following = answer.json["cursor"]
            cursor = f"&cursor={following}" if following and not cursor else ""
        found[name] = round(percentile(times, 0.95) * 1000, 1)
    return found


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
    """Delays in s, from the publishing of an event (its run_ms is when) to a client that hears of it."""
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


def measure_stream(server: Server, clients: int, seconds: float) -> dict[str, Any]:
    """`clients` that read and ten that do not, 100 events a second."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    settings = server.settings
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
        delays = hearing.get()
        elapsed = time.perf_counter() - began
    for one_stalled in stalled:
        one_stalled.close()
    return {
        "clients": clients,
        "events_per_s": round(number / elapsed, 1),
        "heard": len(delays),
        "delay_p50_ms": round(percentile(delays, 0.5) * 1000),
        "delay_p99_ms": round(percentile(delays, 0.99) * 1000),
        "growth_mb": round((peak - before) / 1e6, 1),
        "server_cpu_share": round(cpu / elapsed, 2),
    }


def rss_mb(server: Server) -> float:
    assert server.process is not None
    return round(psutil.Process(server.process.pid).memory_info().rss / 1e6, 1)


def measure_startup(settings: Settings) -> list[float]:
    """Seconds from the start of the process until jobs are accepted."""
    starts: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        with Server(settings):
            starts.append(round(time.perf_counter() - started, 2))
    return starts


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=100_000)
    options.add_argument("--clients", type=int, default=1_000)
    options.add_argument("--seconds", type=float, default=24.0)
    options.add_argument("--only", choices=["requests", "listings", "stream"])
    options.add_argument("--out", type=Path, default=Path("bench-out/server.json"))
    chosen = options.parse_args()
    found: dict[str, Any] = {"cores": os.cpu_count(), "jobs": chosen.jobs}
    with start_local_stores() as stores, fresh_namespace(stores) as namespace:
        settings = settings_for(stores, namespace)
        publish(settings, [task.info for task in ALL])
        if chosen.only in (None, "requests"):
            found["startup_s"] = measure_startup(settings)
            with Server(settings) as server:
                found["rss_mb"] = rss_mb(server)
                found["requests"] = measure_requests(server, chosen.seconds)
        if chosen.only in (None, "listings"):
            plant(settings, chosen.jobs)
            with Server(settings) as server:
                server.get("/jobs?limit=200")
                found["listing_p95_ms"] = measure_listings(server)
                found["rss_with_jobs_mb"] = rss_mb(server)
        if chosen.only in (None, "stream"):
            with Server(settings) as server:
                found["stream"] = measure_stream(server, chosen.clients, chosen.seconds)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
