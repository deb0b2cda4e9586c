"""Connecting to Redis, to the present primary, and translating its errors."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, cast

import redis
import redis.asyncio
from redis.asyncio import connection as aio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from dtqkit.broker.address import CONNECT_S, RedisAddress, parse
from dtqkit.broker.refusals import REASONS, RedisRefusal, UnusableServer, refusal_of
from dtqkit.broker.route import Route
from dtqkit.model.errors import NamespaceTaken, StoreUnavailable
from dtqkit.model.failpoints import hit

#: Timeout for an answer, and for a connection of a pool, in seconds.
ANSWER_S: Final = 5.0
#: Connections of one pool.
POOL: Final = 2
_NAME: Final = "dtqkit"
_HELLO: Final = ("HELLO", "2", "SETNAME", _NAME)
_CLOSED_TLS: Final = (
    "if it asks for a client certificate, name it in REDIS_URL, "
    "?ssl_certfile=/path/client.crt&ssl_keyfile=/path/client.key"
)


def _options(address: RedisAddress, answer_s: float) -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": answer_s,
        "socket_keepalive": True,
        **address.options,
        "decode_responses": True,
        "encoding_errors": "replace",  # Redis may hold anything: ids that are not text are unknown, and no error
        "protocol": 2,
        "driver_info": None,  # CLIENT SETINFO would need another right
    }


class _Async:
    """A connection that asks its route for the address, and checks the server that it finds."""

    def __init__(self, *, route: Route, **options: Any) -> None:
        self._route = route
        super().__init__(**options)

    async def _connect(self) -> None:
        if self._route.moves:
            # In a thread: `locate` blocks, since the heartbeat, which has no event loop, uses it too.
            place = await asyncio.to_thread(self._route.locate)
            self.host, self.port = place
        try:
            await cast(Any, super())._connect()
        except TimeoutError as error:
            raise _late(self._route) from error

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        me = cast(Any, self)
        try:
            await cast(Any, super()).on_connect_check_health(check_health=check_health)
            await me.send_command(*_HELLO, check_health=False)
            hello = await me.read_response()
        except (RedisError, OSError) as error:
            hello = _without_hello(error, tls=self._route.address.tls)
        self._route.check(hello)


class _Blocking:
    """The same for a thread."""

    def __init__(self, *, route: Route, **options: Any) -> None:
        self._route = route
        super().__init__(**options)

    def _connect(self) -> Any:
        if self._route.moves:
            self.host, self.port = self._route.locate()
        try:
            return cast(Any, super())._connect()
        except TimeoutError as error:
            raise _late(self._route) from error

    def on_connect_check_health(self, check_health: bool = True) -> None:
        me = cast(Any, self)
        try:
            cast(Any, super()).on_connect_check_health(check_health=check_health)
            me.send_command(*_HELLO, check_health=False)
            hello = me.read_response()
        except (RedisError, OSError) as error:
            hello = _without_hello(error, tls=self._route.address.tls)
        self._route.check(hello)


def _late(route: Route) -> UnusableServer:
    """The error of a connection that timed out: a server that does not speak TLS waits for us, and we for it."""
    plain = "; a port that does not speak TLS does not answer either (redis://)" if route.address.tls else ""
    detail = f"no connection in time: check host and port in REDIS_URL, firewalls and allow lists{plain}"
    return UnusableServer("away", detail)


def _without_hello(error: RedisError | OSError, *, tls: bool) -> list[Any]:
    """Handle a server that does not answer HELLO as Redis does: some proxies do not know it."""
    if isinstance(error, ResponseError) and "unknown command" in str(error).lower():
        return []
    closed = isinstance(error, RedisConnectionError | OSError) and refusal_of(error).kind == "away"
    if closed and any(word in str(error).lower() for word in ("closed", "reset", "broken pipe")):
        # With TLS 1.3, the alert may be lost with the connection.
        cure = _CLOSED_TLS if tls else "if it speaks only TLS there, write rediss:// in REDIS_URL"
        raise UnusableServer("away", f"it closed a new connection at once: {cure}") from error
    raise error


class _AsyncTcp(_Async, aio.Connection): ...


class _AsyncTls(_Async, aio.SSLConnection): ...


class _AsyncUnix(_Async, aio.UnixDomainSocketConnection): ...


class _BlockingTcp(_Blocking, redis.Connection): ...


class _BlockingTls(_Blocking, redis.SSLConnection): ...


class _BlockingUnix(_Blocking, redis.UnixDomainSocketConnection): ...


def _connection(address: RedisAddress, tcp: Any, tls: Any, unix: Any) -> tuple[Any, dict[str, Any]]:
    if address.path is not None:
        return unix, {"path": address.path}
    host, port = address.hosts[0]
    return tls if address.tls else tcp, {"host": host, "port": port}


def connect(route: Route, *, answer_s: float = ANSWER_S, size: int = POOL) -> redis.asyncio.Redis:
    """A client, not connected yet. If all of its `size` connections are in use, callers wait.

    It does not retry by itself: its callers do.
    """
    kind, place = _connection(route.address, _AsyncTcp, _AsyncTls, _AsyncUnix)
    pool = aio.BlockingConnectionPool(
        max_connections=size,
        timeout=ANSWER_S,
        connection_class=kind,
        route=route,
        retry=AsyncRetry(NoBackoff(), 0),
        **place,
        **_options(route.address, answer_s),
    )
    return redis.asyncio.Redis.from_pool(pool)


def connect_blocking(url: str, key: str, *, answer_s: float = ANSWER_S) -> redis.Redis:
    """The same for one thread without a loop; in a cluster, to the node that has `key`."""
    route = Route(parse(url), key, cluster=key.startswith("{"))
    kind, place = _connection(route.address, _BlockingTcp, _BlockingTls, _BlockingUnix)
    pool = redis.ConnectionPool(
        connection_class=kind,
        max_connections=1,
        route=route,
        retry=Retry(NoBackoff(), 0),
        **place,
        **_options(route.address, answer_s),
    )
    return redis.Redis.from_pool(pool)


class Script:
    """Runs a Lua script by digest, or by text if the server does not know it: SCRIPT LOAD would need another right."""

    def __init__(self, client: Any, text: str) -> None:
        self._client = client
        self.text = text
        self.digest = client.register_script(text).sha

    async def __call__(self, keys: Any, args: Any) -> Any:
        try:
            return await self._client.evalsha(self.digest, len(keys), *keys, *args)
        except NoScriptError:
            return await self._client.eval(self.text, len(keys), *keys, *args)

    def blocking(self, keys: Any, args: Any) -> Any:
        """The same for a client of `connect_blocking`."""
        try:
            return self._client.evalsha(self.digest, len(keys), *keys, *args)
        except NoScriptError:
            return self._client.eval(self.text, len(keys), *keys, *args)


@contextmanager
def redis_errors(
    url: str, point: str | None = None, on_refusal: Callable[[RedisRefusal], None] | None = None
) -> Generator[None]:
    """Raise errors of the client as StoreUnavailable, without a password. `point` names the failpoint.

    `on_refusal` is called with the refusal.
    """
    try:
        if point is not None:
            hit(point, "before")
        yield
        if point is not None:
            hit(point, "after")
    except (RedisError, OSError, TimeoutError) as error:
        refusal = refusal_of(error)
        if on_refusal is not None:
            on_refusal(refusal)
        raise unavailable(url, refusal) from None
    except (AttributeError, TypeError) as error:
        if not _is_of_a_closed_connection(error):
            raise
        raise StoreUnavailable("Redis", url, "the connection was closed while it was made") from None


def unavailable(url: str, refusal: RedisRefusal) -> StoreUnavailable:
    """The error to raise for a refusal."""
    kind = NamespaceTaken if refusal.kind == "taken" else StoreUnavailable
    made = kind("Redis", url, refusal.detail, reason=REASONS[refusal.kind])
    made.brief = refusal.brief
    return made


def _is_of_a_closed_connection(error: AttributeError | TypeError) -> bool:
    """Whether the connection was lost while it was made or used. redis-py then fails on its missing writer and, before
    Python 3.13.6, asyncio calls None (gh-136234).
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = str(frame.f_globals.get("__name__", ""))
    if isinstance(error, TypeError):
        return module.startswith("asyncio.")
    return error.obj is None and module.startswith("redis.")
