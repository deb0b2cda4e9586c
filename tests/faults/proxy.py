"""A TCP proxy before a store: it passes, delays, cuts, stalls, or forwards a request and swallows the reply."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

T = TypeVar("T")
Mode = Literal["pass", "delay", "cut", "stall", "swallow"]

HOST = "127.0.0.1"


class _Link:
    """One connection, both ways."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        #: From here on nothing goes back to the client: a reply that was swallowed leaves the stream useless.
        self.mute = False

    def close(self) -> None:
        for writer in (self.client, self.server):
            transport = writer.transport
            transport.abort()

    async def up(self, reader: asyncio.StreamReader) -> None:
        proxy = self.proxy
        while data := await reader.read(65_536):
            await proxy.gate()
            if proxy.mode == "swallow" or proxy.takes(data):
                self.mute = True
            self.server.write(data)
            await self.server.drain()

    async def down(self, reader: asyncio.StreamReader) -> None:
        proxy = self.proxy
        while data := await reader.read(65_536):
            await proxy.gate()
            if self.mute:
                proxy.swallowed += len(data)
                if proxy.cuts_swallowed:
                    return
                continue
            self.client.write(data)
            await self.client.drain()


class Proxy:
    """Listens on `port` from `with` to its end, on a loop of its own; `set` may be called from any thread."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.port = 0
        self.mode: Mode = "pass"
        self.delay_s = 0.0
        #: The next requests that contain this are forwarded and their replies swallowed; how many are still to come.
        self.swallows: bytes | None = None
        self._times = 0
        #: Whether a connection is cut after its reply was swallowed, or stays silent.
        self.cuts_swallowed = True
        #: What the faults hit: replies' bytes swallowed, connections cut or refused, pieces held up.
        self.swallowed = 0
        self.cut = 0
        self.held_up = 0
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    async def gate(self) -> None:
        if self.mode == "delay":
            self.held_up += 1
            await asyncio.sleep(self.delay_s)  # the fault itself
        if not self._open.is_set():
            self.held_up += 1
            await self._open.wait()

    def hits(self) -> int:
        return self.swallowed + self.cut + self.held_up

    def set(self, mode: Mode, delay_s: float = 0.0) -> None:
        """From now on; `cut` also ends the connections that there are."""

        async def change() -> None:
            self.mode = mode
            self.delay_s = delay_s
            if mode == "stall":
                self._open.clear()
            else:
                self._open.set()
            if mode == "cut":
                self._drop()

        self._call(change())

    def to(self, target_port: int) -> None:
        """New connections go there; those that are open stay where they are."""
        self._target_port = target_port

    def swallow_next(self, request: bytes, *, times: int = 1, cut: bool = True) -> None:
        """Forward the next requests that contain `request`, and swallow each reply; then cut, or stay silent."""
        self.cuts_swallowed = cut
        self._times = times
        self.swallows = request

    def takes(self, data: bytes) -> bool:
        """Whether the reply to this request is to be swallowed."""
        if self.swallows is None or self.swallows not in data:
            return False
        self._times -= 1
        if not self._times:
            self.swallows = None
        return True

    def _drop(self) -> None:
        for link in list(self._links):
            self.cut += 1
            link.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "cut":
            self.cut += 1
            writer.transport.abort()
            return
        try:
            back, forth = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, writer, forth)
        self._links.add(link)
        pumps = [asyncio.create_task(link.up(reader)), asyncio.create_task(link.down(back))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the proxy ends
        finally:
            self._links.discard(link)
            link.close()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(timeout=10)

    def __enter__(self) -> Self:
        async def listen() -> None:
            self._open.set()
            self._server = await asyncio.start_server(self._accept, HOST, 0)
            self.port = self._server.sockets[0].getsockname()[1]

        self._thread.start()
        self._call(listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def finish() -> None:
            if self._server is not None:
                self._server.close()
            self._open.set()
            self._drop()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._call(finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
