"""The routes of all modules, with and without the prefix /api, and Tornado's limits."""

from __future__ import annotations

from typing import Any, Final

from tornado.httpserver import HTTPServer
from tornado.web import Application

from dtqkit.web import health, openapi, operations, pages, stream
from dtqkit.web.base import Base, NotFound, Services
from dtqkit.web.connections import BoundedServer, Connections

#: How long a connection without a request is kept, in seconds.
KEEP_S: Final = 620.0
#: What Tornado itself refuses; what we refuse, with a better answer, is smaller.
LIMITS: Final[dict[str, Any]] = {
    "max_body_size": 4 * 1024 * 1024,
    "max_buffer_size": 8 * 1024 * 1024,
    "max_header_size": 16 * 1024,
    # Longer than any common balancer keeps an idle connection (nginx 60 s, AWS 60 s, Google Cloud 600 s): the one that
    # sends on it must be the one that closes it, or a POST meets a connection that was just closed.
    "idle_connection_timeout": KEEP_S,
    "body_timeout": 15.0,
    "decompress_request": False,
}
#: Bytes of one message of a client of the WebSocket.
MAX_MESSAGE: Final = 64 * 1024
#: Seconds between two pings of such a client, and for its answer: then the connection is closed.
PING_S: Final = 20.0
PONG_S: Final = 10.0


def routes() -> list[tuple[str, type[Base]]]:
    """All routes; those of operations are the rows that the table has now."""
    own = {path for path, _ in health.routes}
    return [*health.routes, *operations.routes(besides=own), *openapi.routes, *pages.routes, *stream.routes]


def make_app(services: Services) -> Application:
    """Everything, on PORT."""
    return _application(services, routes())


def make_ws_app(services: Services) -> Application:
    """The stream alone, on WS_PORT, and what a probe of that port asks."""
    probed = [route for route in health.routes if route[0].startswith("/health")]
    return _application(services, [*stream.routes, *probed])


def _application(services: Services, paths: list[tuple[str, type[Base]]]) -> Application:
    shared = {"services": services}
    return Application(
        [(f"(?:/api)?{path}", handler, shared) for path, handler in paths],
        default_handler_class=NotFound,
        default_handler_args=shared,
        websocket_max_message_size=MAX_MESSAGE,
        websocket_ping_interval=PING_S,
        websocket_ping_timeout=PONG_S,
    )


def make_http_server(application: Application, connections: Connections) -> HTTPServer:
    """A server with our limits, which listens nowhere yet."""
    return BoundedServer(application, connections=connections, **LIMITS)
