"""Parse REDIS_URL: one server, or Sentinels that know the primary."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec
import redis
from redis.asyncio import connection as aio
from redis.connection import parse_url  # pyright: ignore[reportUnknownVariableType]

from dtqkit.model.errors import SettingsError, redact

#: Timeout for a connection, in seconds.
CONNECT_S: Final = 2.0
SENTINEL_PORT: Final = 26379
REDIS_PORT: Final = 6379
#: Parameters of the URL that name files.
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")
_EXAMPLE: Final = "redis+sentinel://HOST:26379,HOST:26379/NAME/0"


class RedisAddress(msgspec.Struct, frozen=True):
    """`options` are those of redis-py's connections, without host and port."""

    url: str
    hosts: tuple[tuple[str, int], ...]
    options: dict[str, Any]
    tls: bool = False
    path: str | None = None
    #: Name of the primary if `hosts` are Sentinels.
    sentinel: str | None = None
    #: User and password of the Sentinels.
    sentinel_options: dict[str, Any] = {}


def parse(url: str) -> RedisAddress:
    """Raises SettingsError, which names the fault of the URL without its password."""
    try:
        address = _parse(url)
        _check(address)
    except ValueError as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"REDIS_URL cannot be used: {redact(str(error))}") from None
    return address


def _parse(url: str) -> RedisAddress:
    scheme, _, rest = url.partition("://")
    if scheme.endswith("+sentinel"):
        return _of_sentinels(url, scheme, rest)
    if "," in rest.partition("/")[0].rpartition("@")[2]:
        raise SettingsError(f"REDIS_URL names several hosts, which is for Sentinels only: write {_EXAMPLE}")
    options = cast("dict[str, Any]", parse_url(url))
    options.pop("connection_class", None)
    host = options.pop("host", "127.0.0.1"), options.pop("port", REDIS_PORT)
    return _address(url, (host,), options, tls=scheme == "rediss")


def _of_sentinels(url: str, scheme: str, rest: str) -> RedisAddress:
    hosts_text, slash, tail = rest.partition("/")
    user, at, hosts_text = hosts_text.rpartition("@")
    hosts = tuple(_host(text) for text in hosts_text.split(",") if text)
    name, _, db = tail.partition("?")[0].partition("/")
    if not slash or not name or not hosts:
        raise SettingsError(f"REDIS_URL names no primary for its Sentinels to find: write {_EXAMPLE}")
    query = dict(parse_qsl(tail.partition("?")[2], keep_blank_values=True))
    theirs = {key: query.pop(f"sentinel_{key}") for key in ("username", "password") if f"sentinel_{key}" in query}
    tls = scheme == "rediss+sentinel"
    plain = f"{'rediss' if tls else 'redis'}://{user}{at}sentinels/{db}?{urlencode(query)}"
    options = cast("dict[str, Any]", parse_url(plain))
    for key in ("connection_class", "host", "port"):
        options.pop(key, None)
    found = _address(url, hosts, options, tls=tls)
    return msgspec.structs.replace(found, sentinel=unquote(name), sentinel_options=theirs)


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise SettingsError(f"REDIS_URL names a Sentinel without a host: write {_EXAMPLE}")
    return parts.hostname, parts.port or SENTINEL_PORT


def _address(url: str, hosts: tuple[tuple[str, int], ...], options: dict[str, Any], *, tls: bool) -> RedisAddress:
    path = options.pop("path", None)
    # These options are set by dtqkit.
    for ours in (
        "max_connections",
        "timeout",
        "decode_responses",
        "encoding",
        "encoding_errors",
        "protocol",
        "client_name",
        "retry",
    ):
        options.pop(ours, None)
    return RedisAddress(url, hosts, options, tls=tls, path=path)


def _check(address: RedisAddress) -> None:
    for key in _FILES:
        path = address.options.get(key)
        if path is not None:
            try:
                if key == "ssl_ca_path":
                    next(Path(path).iterdir(), None)
                else:
                    Path(path).open("rb").close()
            except OSError as error:
                raise SettingsError(
                    f"REDIS_URL names {key}={path}, which cannot be read: {error.strerror or error}"
                ) from None
    kind: Any = redis.UnixDomainSocketConnection if address.path else redis.Connection
    try:
        if address.tls:
            # The asynchronous class, since it creates its TLS context before it connects.
            made: Any = aio.SSLConnection(**address.options)
            made.ssl_context.get()
        else:
            kind(**address.options)
    except TypeError as error:
        unknown = str(error).rpartition("argument ")[2]
        raise SettingsError(f"REDIS_URL has a parameter that is not known: {unknown}") from None
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"the certificate files that REDIS_URL names cannot be used: {error}") from None
    except redis.RedisError as error:
        raise SettingsError(f"REDIS_URL cannot be used: {redact(str(error))}") from None
