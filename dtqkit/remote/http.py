"""Requests of a remote queue: one operation each, its answer or its error, and submits until they are known."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any, Final, cast
from urllib.parse import urlencode

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError, SimpleAsyncHTTPClient

from dtqkit.control import OPERATIONS
from dtqkit.errors import AccessDenied, DtqError, OutcomeUnknown, StoreUnavailable, WrongLoop, rebuild, redact
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
#: How long a submit is sent again until its outcome is known, in seconds: a host that sleeps wakes up within that time.
WAKE_S: Final = 75.0
#: Pause before it is sent again: doubled each time.
MIN_PAUSE_S: Final = 0.25
MAX_PAUSE_S: Final = 5.0

_OPERATIONS: Final = {operation.name: operation for operation in OPERATIONS}


class NotAwake(StoreUnavailable):
    """Somebody else answers for the server, or nobody yet: worth asking again."""


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

    def request(self, name: str, record: Any, path: dict[str, str], **more: Any) -> HTTPRequest:
        operation = _OPERATIONS[name]
        url = self.url + operation.path.format(**path)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if self.proxy is not None and self.proxy.authorization and url.startswith("http:"):
            headers["Proxy-Authorization"] = self.proxy.authorization
        body: bytes | None = None
        if operation.method == "POST":
            body = b"" if record is None else msgspec.json.encode(record)
            headers["Content-Type"] = "application/json"
        elif record is not None and (query := _query(record)):
            url = f"{url}?{query}"
        more = {"connect_timeout": CONNECT_S, "request_timeout": ANSWER_S, **more}
        return HTTPRequest(url, operation.method, headers, body, follow_redirects=False, **more)

    async def ask(self, name: str, record: Any = None, *, answer_s: float = ANSWER_S, **path: str) -> Any:
        """The answer to one operation. Raises the error that the server answers with."""
        writes = _OPERATIONS[name].method == "POST"
        response = await self.fetch(self.request(name, record, path, request_timeout=answer_s), writes=writes)
        # Health answers 503 with its record when a store is away.
        if response.code < 300 or (name == "health" and response.code == 503):
            try:
                return msgspec.json.decode(response.body, type=_OPERATIONS[name].response)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
        raise self.error_of(response, response.body, writes=writes)

    async def ask_until_known(self, name: str, record: Any, wait_s: float | None) -> Any:
        """The answer to a write that does the same when it is sent again, for at most `wait_s` (or WAKE_S).

        A host that sleeps, a proxy that answers in its place and a lost connection are met by sending it again. What
        was certainly not done raises at once. Raises OutcomeUnknown when the time is over and it may have been done.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + (WAKE_S if wait_s is None else wait_s)
        pause_s = MIN_PAUSE_S
        unknown: OutcomeUnknown | None = None
        while True:
            try:
                return await self.ask(name, record, answer_s=ANSWER_S + (wait_s or 0.0))
            except StoreUnavailable as error:
                if unknown is None and isinstance(error, OutcomeUnknown):
                    unknown = error
                if (unknown is None and not isinstance(error, NotAwake)) or clock() + pause_s > until:
                    raise (error if unknown is None else unknown) from None
                log.info("sent again, as it is not known whether it was done: %s", error)
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
            return DtqError(f"{self.url} answers {status}: it has moved to {redact(where)}; connect to that address")
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
        return DtqError(not_a_server(status, self.url, body))

    def _way(self) -> str:
        return f" (through the proxy {self.proxy})" if self.proxy is not None else ""


def _query(record: msgspec.Struct) -> str:
    """The fields that are not their default, as a query string."""
    given = cast("dict[str, Any]", msgspec.to_builtins(record))
    return urlencode({name: _text(value) for name, value in given.items()})


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(cast("list[str]", value)) if isinstance(value, list | tuple) else str(value)
