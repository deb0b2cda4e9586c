"""What every request goes through: its id, where it comes from, who sends it; and how it is answered."""

from __future__ import annotations

import functools
import logging
import re
import secrets
from http import HTTPStatus
from types import TracebackType
from typing import Any, ClassVar, Final

import msgspec
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, HTTPError, RequestHandler

from dtqkit.control import Control
from dtqkit.model.errors import AccessDenied, DtqError, Forbidden, Refused
from dtqkit.web import logs
from dtqkit.web.access import Origins, Scope, TokenAuth, forwarded_address
from dtqkit.web.connections import Connection
from dtqkit.web.drain import Drain
from dtqkit.web.health_monitor import HealthMonitor
from dtqkit.web.hub import Hub
from dtqkit.web.intake import MAX_BODY
from dtqkit.web.metrics import Metrics
from dtqkit.web.problem import MEDIA_TYPE, RETRY_AFTER_S, Problem, internal, problem_of

log = logging.getLogger("dtqkit.web")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_EXPOSED: Final = "Location, Retry-After, X-Request-Id"
#: Seconds that a browser may remember the answer to a preflight.
_PREFLIGHT_S: Final = 600


_NOT_JSON: Final = Refused("unsupported_media_type", "the body must be application/json")


class Services(msgspec.Struct, frozen=True):
    """What the handlers of one server share."""

    control: Control
    token_auth: TokenAuth
    origins: Origins
    monitor: HealthMonitor
    hub: Hub
    metrics: Metrics
    #: Requests that are under way.
    busy: set[RequestHandler]
    drain: Drain
    #: Trusted proxies before the server.
    proxies: int = 0


@functools.cache
def _warn_once() -> None:
    log.warning(
        "requests come with X-Forwarded-For, and DTQ_BEHIND_PROXY is not set: wrong tokens of all clients count "
        "against one address. Set it to the number of proxies before this server, if all requests come through them"
    )


#: Of every answer, unless its handler sets others.
_HEADERS: Final = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Vary": "Origin",
}


class Base(RequestHandler):
    """Denied unless `scopes` names the method."""

    #: The scope that each method needs.
    scopes: ClassVar[dict[str, Scope]] = {}
    #: Whether a request with any Host is answered: load balancers ask by address.
    any_host: ClassVar[bool] = False

    def initialize(self, services: Services) -> None:
        self.services = services
        self.control = services.control
        forwarded = self.request.headers.get("X-Forwarded-For")
        if forwarded and not services.proxies:
            _warn_once()
        # Tornado's own reading (`xheaders`) also believes X-Real-Ip, which many proxies pass on as the client sent it.
        if forwarded and services.proxies:
            self.request.remote_ip = forwarded_address(forwarded, services.proxies) or self.request.remote_ip

    def __init__(self, application: Application, request: HTTPServerRequest, **kwargs: Any) -> None:
        given = request.headers.get("X-Request-Id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        super().__init__(application, request, **kwargs)

    # -- before

    def prepare(self) -> None:
        logs.request_id.set(self.request_id)
        self.services.busy.add(self)
        request = self.request
        method = str(request.method)
        origins = self.services.origins
        if not self.any_host and not origins.knows_host(request.host):
            raise Forbidden("this server does not answer to that Host (DTQ_ALLOWED_HOSTS)")
        origin = request.headers.get("Origin")
        self._share()
        if method == "OPTIONS":
            return
        scope = self.scopes.get("GET" if method == "HEAD" and method not in self.scopes else method)
        if scope is None:
            raise Refused("method_not_allowed", f"{method} is not among {', '.join(self.methods())}")
        if scope == "write" and origin is not None and not origins.trusts(origin, request.host):
            raise Forbidden("pages of that Origin may not write here (CORS_ORIGINS)")
        self.services.token_auth.check(request.headers.get("Authorization"), request.remote_ip or "", scope)
        if len(request.body) > MAX_BODY:
            raise Refused("too_large", f"the body has {len(request.body):,} bytes, and {MAX_BODY:,} are allowed")
        if request.body and not self._is_json():
            raise _NOT_JSON

    def _share(self) -> None:
        """Let a page of an origin that we share with read this answer; the last answer on a server that stops."""
        if self.services.drain.begun:
            self.set_header("Connection", "close")
        origin = self.request.headers.get("Origin")
        if origin is not None and self.services.origins.shares_with(origin):
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Expose-Headers", _EXPOSED)

    def _is_json(self) -> bool:
        return self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json"

    def decode_argument(self, value: bytes | None, name: str | None = None) -> str:  # noqa: ARG002 - Tornado calls it so
        """A part of the path, which may be missing; bytes that are no text are in no id, and are not found."""
        return (value or b"").decode("utf-8", "replace")

    def methods(self) -> list[str]:
        """Those of `scopes`, and HEAD wherever there is GET."""
        return [both for one in self.scopes for both in ((one, "HEAD") if one == "GET" else (one,))]

    async def head(self, *parts: str, **named: str) -> None:
        """As GET; Tornado leaves the body out."""
        answer = self.get(*parts, **named)
        if answer is not None:
            await answer

    def options(self, *_: str, **__: str) -> None:
        """The preflight of a page of another origin; a page that we do not share with learns nothing."""
        self.set_header("Allow", ", ".join([*self.methods(), "OPTIONS"]))
        if "Access-Control-Allow-Origin" in self._headers:
            self.set_header("Access-Control-Allow-Methods", ", ".join(self.scopes))
            self.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-Id")
            self.set_header("Access-Control-Max-Age", str(_PREFLIGHT_S))
        self.set_status(204)

    # -- after

    def on_connection_close(self) -> None:
        self.services.busy.discard(self)
        super().on_connection_close()

    def set_default_headers(self) -> None:
        headers = self._headers
        headers.pop("Server", None)
        headers["X-Request-Id"] = self.request_id
        for name, value in _HEADERS.items():  # known to be clean: set_header would check each, for every answer
            headers[name] = value

    def answer(self, content: bytes) -> None:
        """The body, and the end."""
        self.finish(content)  # pyright: ignore[reportUnknownMemberType] - Tornado takes any dict too

    def compute_etag(self) -> str | None:
        return None

    def data_received(self, chunk: bytes) -> None:
        raise NotImplementedError  # no handler takes a body as a stream

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every error is a problem; only a DtqError says what it was."""
        error: object = (kwargs.get("exc_info") or (None, None, None))[1]
        match error:
            case DtqError():
                problem = problem_of(error, self.request_id)
            case HTTPError() if status_code == 400 and self.request.body and not self._is_json():
                # a form that Tornado could not read
                problem = problem_of(_NOT_JSON, self.request_id)
            case HTTPError() if status_code < 500:
                title = HTTPStatus(status_code).phrase
                problem = Problem(
                    title=title, status=status_code, code="bad_request", detail=title, request_id=self.request_id
                )
            case _:
                problem = internal(self.request_id)
        self.refuse(problem)

    def set_down(self) -> None:
        """The answer says that the queue is down: 503, and when to ask again."""
        self.set_status(503)
        self.set_header("Retry-After", str(RETRY_AFTER_S))

    def refuse(self, problem: Problem) -> None:
        self._share()  # the headers were cleared for the error
        self.set_status(problem.status)
        self.set_header("Content-Type", MEDIA_TYPE)
        if problem.status == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        if problem.status == 405:
            self.set_header("Allow", ", ".join([*self.methods(), "OPTIONS"]))
        if problem.status in (429, 503):
            self.set_header("Retry-After", str(RETRY_AFTER_S))
        self.answer(msgspec.json.encode(problem))

    def log_exception(
        self,
        typ: type[BaseException] | None,  # noqa: ARG002 - Tornado calls it so
        value: BaseException | None,
        tb: TracebackType | None,  # noqa: ARG002
    ) -> None:
        """Only our own bugs have a traceback; refusals are in the access log."""
        if isinstance(value, DtqError) and problem_of(value, "").status != 500:
            if not isinstance(value, AccessDenied | Refused):
                log.info("%s", value)
        elif not isinstance(value, HTTPError):
            log.error("a request failed", exc_info=value)

    def on_finish(self) -> None:
        """One line a request, without the query string."""
        self.services.busy.discard(self)
        if isinstance(stream := getattr(self.request.connection, "stream", None), Connection):
            stream.answered()
        status, request = self.get_status(), self.request
        level = logging.ERROR if status >= 500 and status != 503 else logging.INFO
        if log.isEnabledFor(level):
            log.log(
                level,
                "%s %s %d",
                request.method,
                request.path,
                status,
                extra={
                    "method": request.method,
                    "path": request.path,
                    "status": status,
                    "ms": round(request.request_time() * 1000, 1),
                    "remote": request.remote_ip,
                },
            )


class NotFound(Base):
    """An address without a route. The answer needs no token."""

    scopes: ClassVar[dict[str, Scope]] = dict.fromkeys(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), "open")

    def prepare(self) -> None:
        super().prepare()
        if self.request.method != "OPTIONS":
            raise Refused("not_found", "there is nothing at this address")
