"""A path that has gone silent is noticed at both ends: by the server, the page's socket and the remote client."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dtqkit.dashboard import BOARD
from dtqkit.direct import DirectControl
from dtqkit.local import LocalStores
from dtqkit.model import messages
from dtqkit.model.events import Batch, Line
from dtqkit.remote import RemoteControl
from dtqkit.remote import events as remote
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.web import app, hub
from dtqkit.web.drain import Drain
from dtqkit.web.listening import Address
from dtqkit.web.server import serve
from tests.serving import TOKEN, settings_for
from tests.wait import wait_until_async


@asynccontextmanager
async def serving(stores: LocalStores, namespace: str) -> AsyncIterator[Address]:
    """A server on this loop, whose times the test may set."""
    settings = settings_for(stores, namespace)
    drain, ready = Drain(0.0), asyncio.get_running_loop().create_future()
    control = DirectControl(settings, TaskRegistry())
    task = asyncio.create_task(serve(settings, drain=drain, ready=ready.set_result, control=control))
    try:
        yield await asyncio.wait_for(ready, 20)
    finally:
        drain.ask()
        await task
        await control.close()


class Path:
    """A TCP path to a server, which can go silent without being closed."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.silent = asyncio.Event()
        self.port = 0
        self.opened = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Path:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink in ((reader, ours), (theirs, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if self.silent.is_set():
                    continue
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


async def upgraded(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client of the stream that never answers a ping."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    head = ["GET /ws HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: Upgrade", "Upgrade: websocket"]
    writer.write("\r\n".join([*head, "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", ""]).encode())
    hello = f'{{"type":"hello","token":"{TOKEN}"}}'.encode()
    writer.write(bytes((0x81, 0x80 | len(hello), 0, 0, 0, 0)) + hello)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def test_a_client_that_answers_no_ping_is_closed(
    stores: LocalStores, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "PING_S", 0.3)
    monkeypatch.setattr(app, "PONG_S", 0.3)

    async def story() -> None:
        async with serving(stores, namespace) as address:
            reader, writer = await upgraded(int(address.http.rpartition(":")[2]))
            async with asyncio.timeout(20):
                while await reader.read(65536):  # until it is closed
                    pass
            writer.close()

    asyncio.run(story())


def test_the_stream_has_a_beat_even_before_its_first_snapshot(
    stores: LocalStores, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "BEAT_S", 0.2)

    async def story() -> None:
        async with serving(stores, namespace) as address:
            reader, writer = await upgraded(int(address.http.rpartition(":")[2]))
            received = b""
            async with asyncio.timeout(20):
                while received.count(b'{"type":"beat"}') < 3:
                    received += await reader.read(65536)
            writer.close()

    asyncio.run(story())


def test_the_remote_client_notices_a_silent_path_and_finds_another_one(
    stores: LocalStores, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "BEAT_S", 0.2)
    monkeypatch.setattr(remote, "SILENT_S", 1.0)
    received: list[Batch | Line] = []

    async def story() -> None:
        async with serving(stores, namespace) as address, Path(int(address.http.rpartition(":")[2])) as path:
            control = RemoteControl(f"http://127.0.0.1:{path.port}", TOKEN)
            control.subscribe(received.append)
            await wait_until_async(lambda: Line.UP in received)
            path.silent.set()
            await wait_until_async(lambda: Line.DOWN in received)
            await wait_until_async(lambda: path.opened > 2)  # tries that hang are given up too
            path.silent.clear()
            await wait_until_async(lambda: received[-1] is Line.UP, timeout_s=20)
            await control.close()

    asyncio.run(story())


def test_two_missed_beats_are_silence() -> None:
    assert 2 * messages.BEAT_S < messages.SILENT_S < 3 * messages.BEAT_S


def test_the_page_has_the_same_times() -> None:
    page = (BOARD / "web_source.js").read_text()
    assert f"SILENT_MS = {int(messages.SILENT_S * 1000):_};" in page
    assert '"beat"' in page
