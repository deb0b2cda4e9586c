"""The events of a server, over its WebSocket, while there are subscribers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final, cast

import msgspec
from tornado.httpclient import HTTPRequest
from tornado.httpclient import _RequestProxy as RequestWithDefaults  # pyright: ignore[reportPrivateUsage]
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from dtqkit.model.events import Batch, Line
from dtqkit.model.messages import (
    CLOSE_UNAUTHORIZED,
    SILENT_S,
    BeatMessage,
    EventsMessage,
    FromServer,
    Hello,
    LineMessage,
    SnapshotMessage,
)
from dtqkit.remote.http import CONNECT_S, MAX_ANSWER
from dtqkit.remote.tunnel import Proxy, Tunnel

log = logging.getLogger("dtqkit.queue")

#: Pause before the stream is opened again, in seconds: doubled each time.
MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0
#: The same after the server refused our token: each try counts against our address.
DENIED_S: Final = 60.0

_decoder: Final = msgspec.json.Decoder(FromServer)


class Events:
    """One connection for all subscribers; it is opened again when it ends."""

    def __init__(self, url: str, token: str, proxy: Proxy | None) -> None:
        self._url = url
        self._token = token
        self._proxy = proxy
        self._callbacks: list[Callable[[Batch | Line], None]] = []
        self._following: asyncio.Task[None] | None = None
        self._skipped = False

    async def close(self) -> None:
        self._callbacks.clear()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="follow events")

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
            if not self._callbacks and self._following is not None:
                self._following.cancel()
                self._following = None

        return unsubscribe

    async def _follow(self) -> None:
        pause_s = 0.0
        while True:
            received = await self._listen()
            if not pause_s or received:
                log.warning("events of %s are not received: connecting again", self._url)
            self._notify(Line.DOWN)
            pause_s = MIN_PAUSE_S if received else min(MAX_PAUSE_S, pause_s * 2 or MIN_PAUSE_S)
            await asyncio.sleep((DENIED_S if received is None else pause_s) * random.uniform(0.5, 1.0))

    async def _listen(self) -> bool | None:
        """Pass events on until the connection ends; returns whether any came. None: the server refused our token."""
        url = f"ws{self._url.removeprefix('http')}/ws"
        try:
            line = await self._line(HTTPRequest(url, connect_timeout=CONNECT_S, request_timeout=SILENT_S))
        except Exception as error:
            log.debug("no stream from %s: %s", self._url, error)
            return False
        received = False
        try:
            await line.write_message(msgspec.json.encode(Hello(self._token)))
            # A connection without messages is dead, even if the socket is open: the server sends heartbeats.
            while (text := await asyncio.wait_for(line.read_message(), SILENT_S)) is not None:
                received = self._receive(text) or received
        except (OSError, TimeoutError, WebSocketClosedError) as error:
            log.debug("the stream from %s ended: %s", self._url, error)
        finally:
            line.close()
        if line.close_code == CLOSE_UNAUTHORIZED:
            log.error("the server at %s refuses to stream its events: %s", self._url, line.close_reason)
            return None
        return received

    async def _line(self, request: HTTPRequest) -> WebSocketClientConnection:
        if self._proxy is None:
            return await websocket_connect(request, max_message_size=MAX_ANSWER)
        whole = cast("HTTPRequest", RequestWithDefaults(request, HTTPRequest._DEFAULTS))  # pyright: ignore[reportPrivateUsage]
        line = WebSocketClientConnection(whole, max_message_size=MAX_ANSWER)
        line.tcp_client = Tunnel(self._proxy, always=True)  # it connects in the loop's next turn
        return await line.connect_future

    def _receive(self, text: str | bytes) -> bool:
        """Pass one message on; returns whether it was valid."""
        try:
            message: SnapshotMessage | EventsMessage | LineMessage | BeatMessage = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            level = logging.DEBUG if self._skipped else logging.WARNING  # a newer server may send many of a kind
            log.log(level, "an unreadable message of %s was skipped: %s", self._url, error)
            self._skipped = True
            return False
        match message:
            case BeatMessage():
                pass
            case SnapshotMessage():  # events before it may have been missed
                self._notify(Line.UP)
            case EventsMessage():
                if message.jobs or message.progress:
                    self._notify(Batch(message.jobs, message.progress))
            case LineMessage():
                self._notify(Line.UP if message.up else Line.DOWN)
        return True

    def _notify(self, change: Batch | Line) -> None:
        for callback in list(self._callbacks):
            try:
                callback(change)
            except Exception:
                log.exception("a subscriber raised on an event")
