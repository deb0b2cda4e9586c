"""The clients of `/ws`."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from typing import Any, ClassVar, Final

import msgspec
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketHandler, WebSocketProtocol13

from dtqkit.model.errors import AccessDenied, TooManyAttempts
from dtqkit.model.messages import CLOSE_POLICY, CLOSE_TRY_LATER, CLOSE_UNAUTHORIZED, HELLO_S, FromClient, Hello
from dtqkit.web import logs
from dtqkit.web.access import Scope
from dtqkit.web.base import Base, log
from dtqkit.web.connections import Connection
from dtqkit.web.intake import read_query

#: Messages that wait for a slow client; then they are dropped, and it gets a snapshot when it reads again.
MAX_QUEUED: Final = 32
#: Bytes that a client may leave unread, dropped ones included, until it is closed.
MAX_UNSENT: Final = 1024 * 1024
#: Going away.
_CLOSE_STOPPING: Final = 1001

_decoder: Final = msgspec.json.Decoder(FromClient)


class StreamHandler(Base, WebSocketHandler):
    """One client. Until its hello it gets nothing; then it joins the hub, with read scope."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": "open"}

    def prepare(self) -> None:
        super().prepare()
        read_query((), self.request.query)
        self.watched: frozenset[str] | None = None
        self._queue: deque[bytes] = deque()
        #: The newest, while the client has not taken what came before.
        self._snapshot: bytes | None = None
        self._begun = False  # the first message is a snapshot
        self._writing = False
        self._unsent = 0
        self._lost = False
        self._known = False
        self._deadline: asyncio.TimerHandle | None = None

    async def head(self, *_: str, **__: str) -> None:
        """What GET says to a client that asks for no upgrade: HEAD never opens a stream."""
        self.set_status(400)
        self.answer(b'Can "Upgrade" only to "WebSocket".')

    def check_origin(self, origin: str) -> bool:
        return self.services.origins.trusts(origin, self.request.host)

    def open(self, *_: str, **__: str) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HELLO_S, self.close, CLOSE_UNAUTHORIZED, "no hello came")
        if (connection := self._connection()) is not None:
            connection.slow()

    def _connection(self) -> Connection | None:
        line = self.ws_connection
        stream = line.stream if isinstance(line, WebSocketProtocol13) else None
        return stream if isinstance(stream, Connection) else None

    def on_message(self, message: str | bytes) -> None:
        logs.request_id.set(self.request_id)
        try:
            said = _decoder.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if self._known:
                self.close(CLOSE_POLICY, "not a message of this stream")
            else:
                self.close(CLOSE_UNAUTHORIZED, "hello must come first")
            return
        if isinstance(said, Hello):
            self._hello(said)
        elif not self._known:
            self.close(CLOSE_UNAUTHORIZED, "hello must come first")
        else:
            self.watched = None if said.jobs is None else frozenset(said.jobs)

    def _hello(self, hello: Hello) -> None:
        if self._known:
            return
        try:
            token = hello.token.encode("utf-8", "replace")
            self.services.token_auth.check_token(token, self.request.remote_ip or "", "read")
        except TooManyAttempts as error:  # its token may be right
            self.close(CLOSE_TRY_LATER, str(error)[:100])
            return
        except AccessDenied as error:
            self.close(CLOSE_UNAUTHORIZED, str(error)[:100])
            return
        self._known = True
        if self._deadline is not None:
            self._deadline.cancel()
        if (connection := self._connection()) is not None:
            connection.busy()
        self.services.hub.join(self)

    def on_close(self) -> None:
        self.services.hub.leave(self)
        self._queue.clear()
        if self._deadline is not None:
            self._deadline.cancel()

    def close_for_good(self) -> None:
        self.close(_CLOSE_STOPPING, "the server stops")

    # -- to the client

    def put(self, message: bytes) -> None:
        """Send `message` once the client has read what came before; if it is too slow, it gets a snapshot later."""
        if self._begun and not self._writing:
            self._send(message)
            return
        self._unsent += len(message)
        if self._unsent > MAX_UNSENT:
            log.info("a client of the stream does not read: closed")
            self.services.hub.leave(self)
            self._queue.clear()
            self.close(CLOSE_TRY_LATER, "too slow")
        elif self._lost or len(self._queue) >= MAX_QUEUED:
            self._lost = True
            self._queue.clear()
        else:
            self._queue.append(message)

    def beat(self, message: bytes) -> None:
        """Also before the first snapshot, which cannot come while the stores are away."""
        if not self._writing:
            self._send(message)

    def restart(self, snapshot: bytes) -> None:
        """A snapshot, before the events that have come since it was asked for."""
        self._begun = True
        self._snapshot = snapshot
        self._go_on()

    def _send(self, message: bytes) -> None:
        connection = self.ws_connection
        if not isinstance(connection, WebSocketProtocol13) or connection.is_closing():
            self._writing = True  # for good
            return
        # Not by write_message: its task for each message costs more than the message, and there may be thousands.
        try:
            sent = connection.stream.write(text_frame(message))
        except StreamClosedError:
            self._writing = True
            return
        if not sent.done():
            self._writing = True
            sent.add_done_callback(self._sent)

    def _sent(self, sent: asyncio.Future[Any]) -> None:
        with contextlib.suppress(StreamClosedError, asyncio.CancelledError):
            sent.result()
            self._writing = False
            self._go_on()

    def _go_on(self) -> None:
        while not self._writing and (self._snapshot is not None or self._queue):
            if self._snapshot is None:
                message = self._queue.popleft()
            else:
                message, self._snapshot = self._snapshot, None
            self._send(message)
        if self._writing:
            return
        self._unsent = 0
        if self._lost:
            self._lost = False
            self.services.hub.refresh(self)


def text_frame(message: bytes) -> bytes:
    """A whole text message of a server in one frame. Source: RFC 6455, section 5.2."""
    size = len(message)
    if size < 126:
        return bytes((0x81, size)) + message
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + message
    return struct.pack("!BBQ", 0x81, 127, size) + message


routes = [("/ws", StreamHandler)]
