"""The sockets that a server listens on, from their start to an end that resets no connection."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Final

import msgspec
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from dtqkit.model.settings import Settings

#: How long handshakes that have begun may take when no other can begin, in seconds.
HANDSHAKE_S: Final = 0.1
#: How long the connections that were accepted last are still read, in seconds.
LINGER_S: Final = 0.3
#: Connections that may wait to be accepted.
_BACKLOG: Final = 1024
#: Linux's option for a filter of packets; Python has no name for it.
_SO_ATTACH_FILTER: Final = 26
#: Drop a packet that has the SYN flag, in byte 13 of its TCP header, and let any other pass: instructions of classic
#: BPF, each (code, jump if true, jump if false, value).
_NO_SYN: Final = (
    (0x30, 0, 0, 13),  # load byte 13
    (0x45, 0, 1, 0x02),  # is SYN set? if not, skip one instruction
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFF_FFFF),  # pass
)


class ServerAddress(msgspec.Struct, frozen=True):
    """Where a server listens: `http://…` and `ws://…/ws`."""

    http: str
    ws: str


class Sockets(msgspec.Struct, frozen=True):
    """What a server listens on: bound before it starts, so that several processes can share them."""

    http: list[socket.socket]
    #: Empty where PORT, which has the stream too, is also WS_PORT: some hosts set it to what the other is by default.
    ws: list[socket.socket]

    def address(self, host: str) -> ServerAddress:
        """As a client on this machine, or one that knows it by `host`, reaches them."""
        name = "127.0.0.1" if host in ("", "0.0.0.0", "::", "localhost") else host  # noqa: S104 - compared, not bound
        name = f"[{name}]" if ":" in name else name
        return ServerAddress(f"http://{name}:{_port(self.http)}", f"ws://{name}:{_port(self.ws or self.http)}/ws")

    def ports(self) -> set[int]:
        return {_port(self.http), _port(self.ws or self.http)}

    def refuse(self) -> None:
        """Let no new connection begin; what has begun can still be accepted. It holds for every process that shares
        the sockets, and cannot be taken back.

        Closing a socket resets a connection that was made and not accepted, when its client may have sent a request
        that a balancer must not repeat. A client whose SYN gets no answer sends it again after a second, and is
        refused then: no request is lost. Linux only; elsewhere a connection of the last moment may still be reset.
        """
        if sys.platform != "linux":
            return
        code = b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_SYN)
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HP", len(_NO_SYN), ctypes.addressof(buffer))
        for one in (*self.http, *self.ws):
            with contextlib.suppress(OSError):  # a sandbox may not allow it
                one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def close(self) -> None:
        for one in [*self.http, *self.ws]:
            one.close()


def bind(settings: Settings, host: str) -> Sockets:
    """Bind PORT and WS_PORT (0: any that is free) on `host`. OSError when one is taken."""
    http = bind_sockets(settings.port, host, backlog=_BACKLOG)
    if settings.ws_port and settings.ws_port == settings.port:
        return Sockets(http, [])
    return Sockets(http, bind_sockets(settings.ws_port, host, backlog=_BACKLOG))


async def stop_listening(servers: Sequence[HTTPServer], sockets: Sockets, *, last: bool, at_once: bool) -> None:
    """Accept what has begun, close the sockets, and read what was accepted last: each connection gets an answer.

    `last`: no other process goes on with the sockets. `at_once`: without the waits, so that a connection of the last
    moment may be reset.
    """
    if not at_once:
        if last:
            sockets.refuse()
        await asyncio.sleep(HANDSHAKE_S)
    for server in servers:
        server.conn_params.no_keep_alive = True
        server.stop()
    if not at_once:
        await asyncio.sleep(LINGER_S)


def _port(sockets: Sequence[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1])
