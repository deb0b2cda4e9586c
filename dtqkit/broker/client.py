"""How a connection to Redis is made, and how its errors are told."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from dtqkit.errors import SettingsError, StoreUnavailable, redact
from dtqkit.failpoints import hit

#: Longest wait in seconds for a connection and for an answer.
CONNECT_S: Final = 2.0
ANSWER_S: Final = 5.0


def _options(answer_s: float) -> dict[str, Any]:
    return {
        "decode_responses": True,
        "encoding_errors": "replace",  # Redis may hold anything: what is no text names no job and no worker
        "protocol": 2,
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": answer_s,
        "socket_keepalive": True,
        "client_name": "dtqkit",
    }


def connect(url: str, *, answer_s: float = ANSWER_S, single: bool = False) -> redis.asyncio.Redis:
    """A client for `url`, not connected yet. It never retries by itself: who calls it knows better."""
    try:
        return redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            url, **_options(answer_s), retry=AsyncRetry(NoBackoff(), 0), single_connection_client=single
        )
    except ValueError as error:
        raise SettingsError(f"REDIS_URL cannot be used: {redact(str(error))}") from None


def connect_blocking(url: str, *, answer_s: float = ANSWER_S) -> redis.Redis:
    """The same for a thread without a loop."""
    try:
        return redis.Redis.from_url(url, **_options(answer_s), retry=Retry(NoBackoff(), 0))  # pyright: ignore[reportUnknownMemberType]
    except ValueError as error:
        raise SettingsError(f"REDIS_URL cannot be used: {redact(str(error))}") from None


@contextmanager
def told(url: str, point: str | None = None) -> Generator[None]:
    """Turn whatever the client raises into StoreUnavailable, without a password. `point` names the failpoint."""
    try:
        if point is not None:
            hit(point, "before")
        yield
        if point is not None:
            hit(point, "after")
    except AuthenticationError as error:
        raise StoreUnavailable("Redis", url, f"refuses the user or password ({error})") from None
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable("Redis", url, str(error) or type(error).__name__) from None
    except (AttributeError, TypeError) as error:
        if not _is_of_a_closed_connection(error):
            raise
        raise StoreUnavailable("Redis", url, "the connection was closed while it was made") from None


def _is_of_a_closed_connection(error: AttributeError | TypeError) -> bool:
    """redis-py looks for the writer of a connection that was torn down under it while it was being made. And before
    Python 3.13.6, asyncio calls None when it writes to a connection that is lost (gh-136234).
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = str(frame.f_globals.get("__name__", ""))
    if isinstance(error, TypeError):
        return module.startswith("asyncio.")
    return error.obj is None and module.startswith("redis.")
