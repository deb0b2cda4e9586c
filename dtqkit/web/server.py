"""One server process, from its sockets to its graceful stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from tornado.httpserver import HTTPServer

from dtqkit.control import Control
from dtqkit.direct import DirectControl
from dtqkit.model.settings import Settings
from dtqkit.support.formatting import counted
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.web.access import Origins, TokenAuth, is_loopback
from dtqkit.web.app import make_app, make_http_server, make_ws_app
from dtqkit.web.base import Services
from dtqkit.web.connections import Connections, connection_limit
from dtqkit.web.drain import Drain
from dtqkit.web.health_monitor import HealthMonitor
from dtqkit.web.hub import Hub
from dtqkit.web.listening import ServerAddress, Sockets, bind, stop_listening
from dtqkit.web.metrics import Metrics
from dtqkit.web.received import Share

log = logging.getLogger("dtqkit.web")

#: How long a stopping server waits for requests that are under way, in seconds.
GRACE_S: Final = 10.0


def with_token(settings: Settings, host: str) -> tuple[Settings, bool]:
    """Settings that have a token; one is made where only this machine can ask. Whether it was made."""
    if settings.token or settings.read_token or not is_loopback(host):
        return settings, False
    return settings.replace(token=secrets.token_urlsafe(32)), True


async def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    sockets: Sockets | None = None,
    drain: Drain,
    ready: Callable[[ServerAddress], None] | None = None,
    dev: bool = False,
    control: Control | None = None,
    share: Share | None = None,
) -> None:
    """Serve until the drain is over, then finish what is under way.

    While it drains, /health answers 503, new connections are served, and each is closed with its answer.

    It listens at once, and calls `ready` when jobs are accepted: while the stores are not up, it logs so and tries
    again. `dev` lets pages from other ports of this machine in. `share` says which of several processes this is.
    Raises SettingsError when there is no token.
    """
    token_auth = TokenAuth(settings)
    origins = Origins(settings, host, dev=dev)
    bound = bind(settings, host) if sockets is None else sockets
    queue = DirectControl(settings, TaskRegistry()) if control is None else control
    metrics = Metrics(queue, share)
    monitor, hub = HealthMonitor(queue, drain), Hub(queue)
    services = Services(
        queue, token_auth, origins, monitor, hub, metrics, set(), drain=drain, proxies=int(settings.behind_proxy)
    )
    origins.ports |= bound.ports()
    servers = _listen(services, bound)
    address = bound.address(host)
    log.info("listening on %s and %s", address.http, address.ws)
    unsubscribe = queue.subscribe(metrics.receive)
    background = _start_background(queue, monitor, hub, metrics)
    drains = False
    try:
        await _until(drain.stop, monitor.first_up, background)
        if not drain.begun:
            log.info("ready")
            if ready is not None:
                ready(address)
            await _until(drain.stop, asyncio.Event(), background)
        for server in servers:
            server.conn_params.no_keep_alive = True
        drains = monitor.first_up.is_set() and not drain.over.is_set()
        if drains:
            log.info("stopping: new connections are served for another %g s (DTQ_DRAIN_S)", settings.drain_s)
            await _until_drained(drain, background)
    finally:
        last = share is None or share.end()
        await stop_listening(servers, bound, last=last, at_once=not drains)
        hub.close()
        await _drain(servers, services, drain)
        unsubscribe()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        if control is None:
            await queue.close()
        log.info("stopped")


def _start_background(queue: Control, monitor: HealthMonitor, hub: Hub, metrics: Metrics) -> list[asyncio.Task[None]]:
    return [
        asyncio.create_task(monitor.run(), name="watch the stores"),
        asyncio.create_task(hub.run(), name="send events"),
        *([asyncio.create_task(metrics.received.keep(hub.__len__), name="share metrics")] if metrics.shared else []),
        *([asyncio.create_task(_look(queue), name="open the stores")] if isinstance(queue, DirectControl) else []),
    ]


async def _look(queue: DirectControl) -> None:
    """End the server when its Redis lists another environment's jobs; else never return."""
    await queue.until_open()
    await queue.until_taken()


def _listen(services: Services, sockets: Sockets) -> list[HTTPServer]:
    """The servers of PORT and, where it is another, of WS_PORT."""
    connections = Connections(connection_limit(), behind_proxy=services.proxies > 0)
    servers = [make_http_server(make_app(services), connections)]
    servers[0].add_sockets(sockets.http)
    if sockets.ws:
        servers.append(make_http_server(make_ws_app(services), connections))
        servers[1].add_sockets(sockets.ws)
    return servers


async def _until(stop: asyncio.Event, other: asyncio.Event, background: Sequence[asyncio.Task[None]]) -> None:
    """Wait for either event; an error in one part ends the server."""
    waits = [asyncio.create_task(event.wait(), name="wait for an end") for event in (stop, other)]
    try:
        await asyncio.wait([*waits, *background], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    for task in background:
        if task.done():
            task.result()


async def _until_drained(drain: Drain, background: Sequence[asyncio.Task[None]]) -> None:
    waiting = asyncio.create_task(drain.wait(), name="drain")
    try:
        await _until(drain.over, asyncio.Event(), background)
    finally:
        waiting.cancel()


async def _drain(servers: Sequence[HTTPServer], services: Services, drain: Drain) -> None:
    """Let requests that are under way end, then close what is still open."""
    said = f"stopping: {counted(len(services.busy), 'request is', 'requests are')} under way"
    if services.busy:
        again = "; press Ctrl-C again to stop at once" if drain.by_keyboard else ""
        said += f"; waiting up to {GRACE_S:.0f} s{again}"
    log.info("%s", said)
    deadline = asyncio.get_running_loop().time() + GRACE_S
    while services.busy and not drain.cut.is_set() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - a set has no event
        await asyncio.sleep(0.02)
    if services.busy:
        why = "stopped at once" if drain.cut.is_set() else f"stopped after {GRACE_S:.0f} s"
        log.warning("%s: %s cut off", why, counted(len(services.busy), "request was", "requests were"))
    for server in servers:
        await server.close_all_connections()
