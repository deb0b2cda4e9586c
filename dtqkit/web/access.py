"""Who may use the server: tokens and scopes, wrong tokens, and the Host and Origin that a request must come by."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Literal
from urllib.parse import urlsplit

from tornado.netutil import is_valid_ip

from dtqkit.model.errors import AccessDenied, Forbidden, SettingsError, TooManyAttempts
from dtqkit.model.settings import Settings

Scope = Literal["open", "read", "write"]

#: Wrong tokens that an address may send at once, and how often it gets another try, in seconds.
BURST: Final = 20
REFILL_S: Final = 3.0
#: Addresses that are remembered.
_REMEMBERED: Final = 10_000

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that is bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def forwarded_address(forwarded: str, proxies: int) -> str | None:
    """The client's address by X-Forwarded-For, with so many trusted proxies before the server; None: not there.

    Each proxy appends the address that it was asked by, some with a port. What stands before the entry of the outermost
    trusted one was written by the client.
    """
    entries = [entry.strip() for entry in forwarded.split(",")]
    entry = entries[-min(proxies, len(entries))]
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    if not is_valid_ip(entry):
        return None
    try:
        address = ipaddress.ip_address(entry)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


class TokenAuth:
    """Knows the tokens, and which addresses sent too many wrong ones."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        if not settings.token and not settings.read_token:
            raise SettingsError("DTQ_TOKEN is not set, and a server without a token would serve everybody")
        self._write = settings.token.encode()
        self._read = settings.read_token.encode()
        self._clock = clock
        #: By address: tries that are left, and when that was so.
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, authorization: str | None, address: str, scope: Scope) -> None:
        """Pass a token of this scope. Raises AccessDenied, Forbidden or TooManyAttempts.

        A right token passes whatever wrong ones came from its address: many clients may share one.
        """
        if scope == "open":
            return
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise AccessDenied("a bearer token is needed, in the Authorization header")
        self.check_token(token.strip().encode("latin-1", "replace"), address, scope)

    def check_token(self, token: bytes, address: str, scope: Scope) -> None:
        """The same for a bare token."""
        writes = bool(self._write) & hmac.compare_digest(token, self._write)
        reads = bool(self._read) & hmac.compare_digest(token, self._read)
        if not (writes or reads):
            left = self._left(address)
            if left < 1:
                raise TooManyAttempts("too many wrong tokens came from this address; try again later")
            self._note(address, left - 1)
            raise AccessDenied("this token is not accepted: compare it with DTQ_TOKEN of the server")
        if scope == "write" and not writes:
            raise Forbidden("this token may only read")

    def _left(self, address: str) -> float:
        left, since = self._tries.get(address, (float(BURST), 0.0))
        return min(float(BURST), left + (self._clock() - since) / REFILL_S)

    def _note(self, address: str, left: float) -> None:
        self._tries[address] = (left, self._clock())
        self._tries.move_to_end(address)
        if len(self._tries) > _REMEMBERED:
            self._tries.popitem(last=False)


class Origins:
    """The names that this server is reached by, and the pages that may use it.

    A page elsewhere that has its own name resolve to our address (DNS rebinding) fails on the Host.
    """

    def __init__(self, settings: Settings, host: str, *, dev: bool = False) -> None:
        if "*" in settings.cors_origins:
            raise SettingsError(
                "CORS_ORIGINS is '*', which is not allowed: name each origin, as in https://board.example"
            )
        named = {name.lower() for name in settings.allowed_hosts}
        if host not in ("", "0.0.0.0", "::") and not is_loopback(host):  # noqa: S104 - compared, not bound
            named.add(host.lower())
        self._named = frozenset(named)
        self._cors = frozenset(origin.rstrip("/") for origin in settings.cors_origins)
        self._dev = dev
        #: The ports that this server listens on; filled when it does.
        self.ports: set[int] = set()

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names us."""
        name = _name(host)
        return name in _LOOPBACK_NAMES or name in self._named

    def shares_with(self, origin: str) -> bool:
        """Whether pages of another origin may read our answers."""
        return origin in self._cors or (self._dev and _name(origin.partition("//")[2]) in _LOOPBACK_NAMES)

    def trusts(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may write, and open the stream: our own pages, and those we share with."""
        if self.shares_with(origin):
            return True
        try:
            parts = urlsplit(origin)
            port = parts.port
        except ValueError:
            return False
        name = _name(parts.netloc)
        if parts.scheme not in ("http", "https") or not name:
            return False
        return name in self._named or (name == _name(host) and (parts.netloc == host or port in self.ports))


def _name(host: str) -> str:
    """The name in a `Host`, without port, in lower case; empty when it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
