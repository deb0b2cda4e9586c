"""Connections through the proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name, as pip reads them."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import (
    getproxies_environment,
    proxy_bypass_environment,  # pyright: ignore
)

import msgspec
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, RequestStartLine
from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.simple_httpclient import _HTTPConnection as Connection  # pyright: ignore[reportPrivateUsage]
from tornado.tcpclient import TCPClient

from dtqkit.model.errors import SettingsError

#: Bytes of a proxy's answer before the tunnel.
_MAX_HEAD: Final = 16 * 1024
_CONNECT_S: Final = 10.0


class ProxyRefused(OSError):
    """The proxy refuses to connect to the server; the message has its address and status."""

    def __init__(self, proxy: Proxy, status: int) -> None:
        super().__init__(
            f"the proxy {proxy} answers {status}: {_MEANS.get(status, 'it refuses to connect to the server')}"
        )
        self.status = status


_MEANS: Final = {
    403: "it does not allow connections to this server",
    407: "it wants a user and password (http://user:password@proxy:port)",
}


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy. Its text has no password."""

    host: str
    port: int
    authorization: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"


def proxy_for(url: str) -> Proxy | None:
    """The proxy of the environment for a server. Raises SettingsError for one of a kind that is not supported."""
    parts = urlsplit(url)
    proxies = getproxies_environment()
    if proxy_bypass_environment(parts.netloc, proxies):
        return None
    text = proxies.get(parts.scheme) or proxies.get("all")
    if not text:
        return None
    name = f"{parts.scheme}_proxy".upper() if proxies.get(parts.scheme) else "ALL_PROXY"
    given = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = given.port or 80
    except ValueError:
        port = 0
    if given.scheme != "http" or not given.hostname or not port:
        raise SettingsError(
            f"{name} names a proxy that cannot be used: http://host:port is supported (what was given may "
            "hold a password and is not shown); NO_PROXY lists the servers that need none"
        )
    authorization = ""
    if given.username is not None:
        user = f"{unquote(given.username)}:{unquote(given.password or '')}"
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
    return Proxy(given.hostname, port, authorization)


class Tunnel(TCPClient):
    """Connects through a proxy: to where TLS or a WebSocket is spoken, through a tunnel."""

    def __init__(self, proxy: Proxy, *, always: bool = False) -> None:
        super().__init__()
        self._proxy = proxy
        self._always = always

    async def connect(  # pyright: ignore[reportIncompatibleMethodOverride] - the arguments that its callers give
        self, host: str, port: int, *, ssl_options: Any = None, timeout: float | None = None, **options: Any
    ) -> IOStream:
        timeout = _CONNECT_S if timeout is None else timeout
        stream = await super().connect(
            self._proxy.host, self._proxy.port, max_buffer_size=options.get("max_buffer_size"), timeout=timeout
        )
        if ssl_options is None and not self._always:
            return stream
        try:
            async with asyncio.timeout(timeout):
                await self._open(stream, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
                if ssl_options is not None:
                    return await stream.start_tls(False, ssl_options, server_hostname=host)
        except BaseException:
            stream.close()
            raise
        return stream

    async def _open(self, stream: IOStream, where: str) -> None:
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        if self._proxy.authorization:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization}")
        await stream.write("\r\n".join([*lines, "", ""]).encode())
        try:
            head = await stream.read_until(b"\r\n\r\n", max_bytes=_MAX_HEAD)
            status = int(head.split(b" ", 2)[1])
        except (StreamClosedError, UnsatisfiableReadError, IndexError, ValueError):
            raise ProxyRefused(self._proxy, 0) from None
        if not 200 <= status < 300:
            raise ProxyRefused(self._proxy, status)


class _ByProxy(Connection):
    """Plain HTTP through a proxy: the request line has the whole address."""

    def _create_connection(self, stream: IOStream) -> HTTP1Connection:
        connection: HTTP1Connection = super()._create_connection(stream)
        if self.parsed.scheme != "http":
            return connection
        write, url = connection.write_headers, self.request.url

        def write_headers(start_line: RequestStartLine, headers: HTTPHeaders, chunk: bytes | None = None) -> Any:
            return write(RequestStartLine(start_line.method, url, start_line.version), headers, chunk)

        connection.write_headers = write_headers  # pyright: ignore[reportAttributeAccessIssue]
        return connection


class ProxiedHTTPClient(SimpleAsyncHTTPClient):
    """A client whose requests all go through one proxy."""

    def initialize(self, proxy: Proxy, **limits: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().initialize(**limits)
        self.tcp_client = Tunnel(proxy)

    def _connection_class(self) -> type:
        return _ByProxy
