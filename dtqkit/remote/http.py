"""Requests of a remote queue: one operation each, its answer or its error, and submits until their outcome is known."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError, SimpleAsyncHTTPClient

from dtqkit.control import Operation
from dtqkit.control.table import Req, Res, own_fields, path_fields
from dtqkit.model.errors import (
    AccessDenied,
    DtqError,
    NotAServer,
    OutcomeUnknown,
    StoreUnavailable,
    WrongLoop,
    rebuild,
    redact,
)
from dtqkit.remote.trouble import asleep, is_of_connecting, not_a_server, why_unreached, with_address
from dtqkit.remote.tunnel import ProxiedHTTPClient, Proxy, ProxyRefused, proxy_for

log = logging.getLogger("dtqkit.queue")

#: Connections at a time; further requests wait for one. None is kept: each has a connection of its own.
MAX_CONNECTIONS: Final = 32
#: Longest wait for a connection and for an answer, in seconds.
CONNECT_S: Final = 5.0
ANSWER_S: Final = 30.0
#: Bytes of one answer.
MAX_ANSWER: Final = 256 * 1024 * 1024
#: How long a submit is sent again until its outcome is known, in seconds: a sleeping host wakes up within that time.
WAKE_S: Final = 75.0
#: Pause before it is sent again: doubled each time.
MIN_PAUSE_S: Final = 0.25
MAX_PAUSE_S: Final = 5.0


class NotAwake(StoreUnavailable):
    """A proxy answers in the server's place, or nothing answers yet: worth another try."""


class Http:
    """The server at one address, with one token."""

    def __init__(self, url: str, token: str) -> None:
        self.url: Final = url
        self._token = token
        self.proxy: Final[Proxy | None] = proxy_for(url)
        self._http: AsyncHTTPClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _client(self) -> AsyncHTTPClient:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongLoop("this queue lives on the event loop that used it first; make another one for this loop")
        if self._http is None:
            # An instance of our own, with its own limits.
            limits = {"max_clients": MAX_CONNECTIONS, "max_body_size": MAX_ANSWER, "max_buffer_size": MAX_ANSWER}
            if self.proxy is None:
                self._http = SimpleAsyncHTTPClient(force_instance=True, **limits)
            else:
                self._http = ProxiedHTTPClient(force_instance=True, proxy=self.proxy, **limits)
        return self._http

    def close(self) -> None:
        if self._http is not None:
            self._http.close()

    def request(self, operation: Operation[Any, Any], request: Any, **more: Any) -> HTTPRequest:
        """`more` is for Tornado. The request may be encoded already."""
        path = {name: quote(str(getattr(request, name)), safe="") for name in path_fields(operation)}
        url = self.url + operation.path.format(**path)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if self.proxy is not None and self.proxy.authorization and url.startswith("http:"):
            headers["Proxy-Authorization"] = self.proxy.authorization
        body: bytes | None = None
        own = own_fields(operation)
        if operation.writes:
            body = _body(request, without=tuple(path)) if own is None or own else b""
            headers["Content-Type"] = "application/json"
        elif own and (query := _query(request, without=tuple(path))):
            url = f"{url}?{query}"
        more = {"connect_timeout": CONNECT_S, "request_timeout": ANSWER_S, **more}
        return HTTPRequest(url, operation.method, headers, body, follow_redirects=False, **more)

    async def ask(self, operation: Operation[Req, Res], request: Req, *, answer_s: float = ANSWER_S) -> Res:
        """The answer to one operation. Raises the error that the server answers with."""
        answer: Res = await self.ask_as(operation.response, operation, request, answer_s=answer_s)
        return answer

    async def ask_as(
        self, kind: Any, operation: Operation[Req, Any], request: Req, *, answer_s: float = ANSWER_S
    ) -> Any:
        """The same, read as another type than that of the operation."""
        asked = self.request(operation, request, request_timeout=answer_s)
        response = await self.fetch(asked, writes=operation.writes)
        # A queue that is down says so in a record of its own.
        if response.code < 300 or (operation.may_be_down is not None and response.code == 503):
            try:
                return msgspec.json.decode(response.body, type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
        raise self.error_of(response, response.body, writes=operation.writes)

    async def ask_until_known(self, operation: Operation[Req, Res], request: Req, wait_s: float | None) -> Res:
        """The answer to a write that does the same when it is sent again, for at most `wait_s` (or WAKE_S).

        A sleeping host, a proxy that answers in its place and a lost connection are handled by sending it again. What
        was certainly not done raises at once. Raises OutcomeUnknown when the time is over and it may have been done.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + (WAKE_S if wait_s is None else wait_s)
        pause_s = MIN_PAUSE_S
        unknown: OutcomeUnknown | None = None
        while True:
            try:
                return await self.ask(operation, request, answer_s=ANSWER_S + (wait_s or 0.0))
            except StoreUnavailable as error:
                if unknown is None and isinstance(error, OutcomeUnknown):
                    unknown = error
                if (unknown is None and not isinstance(error, NotAwake)) or clock() + pause_s > until:
                    raise (error if unknown is None else unknown) from None
                log.info("sent again, since its outcome is not known: %s", error)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)

    async def fetch(self, request: HTTPRequest, *, writes: bool) -> HTTPResponse:
        try:
            return await self._client().fetch(request, raise_error=False)
        except ProxyRefused as error:
            kind = NotAwake if error.status in (502, 503, 504) else StoreUnavailable
            raise kind("the server", self.url, str(error)) from None
        except (HTTPStreamClosedError, HTTPTimeoutError, OSError) as error:
            raise self._unreached(error, request, writes=writes) from None

    def _unreached(self, error: Exception, request: HTTPRequest, *, writes: bool) -> StoreUnavailable:
        late = isinstance(error, HTTPTimeoutError)
        if isinstance(error, OSError):
            unsent = is_of_connecting(error)
        else:
            unsent = late and any(part in str(error) for part in ("connect", "in request queue", "DNS", "TLS"))
        detail = why_unreached(error, self.url, connect_s=CONNECT_S, answer_s=request.request_timeout or 0.0)
        if writes and not unsent:
            return OutcomeUnknown("the server", self.url, detail)
        return (NotAwake if late else StoreUnavailable)("the server", self.url, detail + self._way())

    def error_of(self, response: HTTPResponse, body: bytes, *, writes: bool = False) -> DtqError:
        """The error that an answer stands for, in the class that it had at the server."""
        status = response.code
        if 300 <= status < 400:
            where = response.headers.get("Location", "elsewhere").partition("?")[0][:200]
            return NotAServer(f"{self.url} answers {status}: it has moved to {redact(where)}; connect to that address")
        try:
            problem: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
            errors: list[dict[str, Any]] = problem.get("errors") or [{}]
            error = rebuild(str(problem["code"]), str(problem["detail"]), errors[0])
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, IndexError):
            pass
        else:
            return with_address(error, self.url, token=bool(self._token)) if isinstance(error, AccessDenied) else error
        if status in (502, 503, 504):
            if writes and status != 503:
                return OutcomeUnknown("the server", self.url, asleep(status))
            return NotAwake("the server", self.url, asleep(status))
        return NotAServer(not_a_server(status, self.url, body))

    def _way(self) -> str:
        return f" (through the proxy {self.proxy})" if self.proxy is not None else ""


def _body(request: Any, without: Collection[str]) -> bytes:
    """The request as JSON, but for the fields that stand in the path."""
    if not without:
        return msgspec.json.encode(request)
    return msgspec.json.encode({name: value for name, value in _fields(request).items() if name not in without})


def _query(request: Any, without: Collection[str]) -> str:
    """The fields that are not their default, as a query string."""
    return urlencode({name: _text(value) for name, value in _fields(request).items() if name not in without})


def _fields(request: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", msgspec.to_builtins(request))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(cast("list[str]", value)) if isinstance(value, list | tuple) else str(value)
