"""Why a client cannot use its server, in a sentence with the cure. None contains a token or a password."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError

from dtqkit.model.errors import AccessDenied, SettingsError, TooManyAttempts

#: Cures for a wrong address.
_ADDRESS: Final = "check the address: host, port and path, as `dtqkit server` prints them"
_RUNS: Final = "check host and port, and whether `dtqkit server` runs there"
_UNREACHED: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL)


def _not_of_tls(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("SSL Error on ")


# Tornado logs a failed handshake, which is raised as well: once is enough.
logging.getLogger("tornado.general").addFilter(_not_of_tls)


def checked_url(url: str) -> str:
    """The address of a server, without a fragment. SettingsError unless it can be one."""
    given = url.partition("#")[0].rstrip("/")
    try:
        parts = urlsplit(given)
        host = parts.hostname or ""
        host.encode("idna")
        good = parts.scheme in ("http", "https") and bool(host) and not host.count(" ") and parts.port != 0
        if good and parts.username is None and not parts.query:
            return given
    except ValueError:  # of a port, an IPv6 address or a name
        pass
    shown = "" if any(char in url for char in "@?#") else f", not {url[:200]!r}"  # there may be a password in it
    raise SettingsError(
        f"a server has an address as http://host:port or https://host/path{shown}; the token goes apart, as token=…"
    )


def is_of_connecting(error: OSError) -> bool:
    """Whether the request cannot have been sent."""
    return isinstance(error, ConnectionRefusedError | socket.gaierror | ssl.SSLError) or error.errno in _UNREACHED


def why_unreached(error: Exception, url: str, *, connect_s: float, answer_s: float) -> str:
    """Why there is no answer from the server at `url`."""
    tls = url.startswith("https:")
    match error:
        case HTTPTimeoutError() if "request queue" in str(error):
            return "no connection of this client was free in time: it has too many requests under way"
        case HTTPTimeoutError() if "during request" not in str(error):
            return (
                f"no connection within {connect_s:g} s: check host and port, firewalls, and the proxy that this "
                "machine needs (HTTPS_PROXY)"
            )
        case HTTPTimeoutError():
            return f"no answer within {answer_s:g} s: {url}/health says how it is"
        case HTTPStreamClosedError():
            other = "" if tls else ", or speaks only TLS there (https://)"
            return f"the connection was closed before the whole answer had come: perhaps it is no HTTP server{other}"
        case ssl.SSLCertVerificationError() if "mismatch" in str(error) or "not valid for" in str(error):
            return f"its certificate is for another host name ({error.verify_message}): {_ADDRESS}"
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not trusted ({error.verify_message}): name the file of its CA in the environment, "
                "SSL_CERT_FILE=/path/ca.pem"
            )
        case ssl.SSLError():
            return _of_tls(error)
        case socket.gaierror():
            return f"its host name cannot be resolved ({error.strerror}): check its spelling and this machine's network"
        case ConnectionRefusedError():
            return f"nothing listens there ({error.strerror}): {_RUNS}"
        case ConnectionResetError() | BrokenPipeError():
            return f"it closed the connection ({error.strerror}): {_RUNS}"
        case OSError() if error.errno in _UNREACHED:
            return f"this machine has no way to it ({error.strerror}): check host, network and firewalls"
        case OSError():
            return error.strerror or str(error)
        case _:
            return str(error)


def _of_tls(error: ssl.SSLError) -> str:
    text = str(error).lower().replace("_", " ")
    if any(part in text for part in ("wrong version number", "record layer failure", "packet length too long")):
        return "it does not speak TLS there: write http:// for https://, or name its TLS port"
    if "certificate required" in text or "handshake failure" in text:
        return f"it ends the TLS handshake: it may want a client certificate ({_words(error)})"
    return f"TLS with it fails ({_words(error)}): {_ADDRESS}"


def _words(error: ssl.SSLError) -> str:
    """`WRONG_VERSION_NUMBER`; not every one has such a reason."""
    return getattr(error, "reason", None) or str(error)


def not_a_server(status: int, url: str, body: bytes) -> str:
    """The text for an answer that no dtqkit server gives."""
    page = body.lstrip()[:1] == b"<"
    what = " with an HTML page (a proxy's, or one to sign in?)" if page else ""
    return f"{url} answers {status}{what}, and not as a dtqkit server does: {_ADDRESS}"


def asleep(status: int) -> str:
    """The text for a gateway's answer."""
    return f"a proxy answers {status} in its place: the server behind it is starting, or does not run; see its log"


def with_address(error: AccessDenied, url: str, *, token: bool) -> AccessDenied:
    """What the server says of a token, and which server. `token`: whether one was sent."""
    if not token and not isinstance(error, TooManyAttempts):
        text = "it wants a token, and none was given: TaskQueue.connect(url, token=…) with its DTQ_TOKEN"
    else:
        text = str(error)
    error.args = (f"the server at {url}: {text}",)
    return error
