"""What Redis's refusals mean, from the server's messages.

| kind     | what it is                                  | submit   | pop, beat, lead     | connections |
|----------|---------------------------------------------|----------|---------------------|-------------|
| away     | no answer, or no connection                 | accepted | tried again         | as they are |
| moved    | another server is the primary now           | accepted | tried again at once | dropped     |
| loading  | it reads its data set                       | accepted | tried again         | dropped     |
| full     | it takes no writes: memory, disk, replicas  | accepted | tried again         | kept        |
| busy     | it cannot serve this now                    | accepted | tried again         | kept        |
| denied   | user, password or rights                    | accepted | tried again         | kept        |
| unusable | not a server that a queue can use           | accepted | tried again         | kept        |
| taken    | another record's jobs are listed there      | refused  | tried again         | kept        |
| content  | a key holds something of another type       | accepted | tried again         | kept        |
| fault    | anything else: most likely a mistake of ours| accepted | tried again         | kept        |

Accepted jobs are in MongoDB, and are listed once Redis takes writes again. A worker that starts waits while the reason
is temporary, and exits if a person must change something (`denied`, `unusable`, `taken`).
"""

from __future__ import annotations

import re
import shlex
import socket
import ssl
from collections.abc import Iterator
from typing import Final, Literal

import msgspec
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dtqkit.model.errors import Reason

Kind = Literal["away", "moved", "loading", "full", "busy", "denied", "unusable", "taken", "content", "fault"]

#: Kinds, and first words of messages, after which all connections are closed and made again.
_DROPPING: Final = frozenset({"moved", "loading", "NOAUTH", "CLUSTERDOWN"})
#: The `reason` of the error. Waiting does not help with `not_allowed`, `unsupported` and `misconfigured`.
REASONS: Final[dict[Kind, Reason]] = {
    "away": "away",
    "moved": "electing",
    "loading": "refused",
    "full": "refused",
    "busy": "refused",
    "denied": "not_allowed",
    "unusable": "unsupported",
    "taken": "misconfigured",
    "content": "refused",
    "fault": "refused",
}


class Refusal(msgspec.Struct, frozen=True):
    """Why Redis refused: the kind of reason, and one sentence."""

    kind: Kind
    detail: str
    #: Whether to reconnect: a new connection may lead to the right server.
    drops: bool = False
    #: The same without the server's message, for public pages; can be empty.
    brief: str = ""


class UnusableServer(RedisError):
    """The server at the address cannot be used, or not now."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)  # pyright: ignore[reportUnknownMemberType]
        self.kind: Kind = kind


_TAKEN: Final = (
    "another MongoDB database uses this Redis under the same DTQ_NAMESPACE: give each its own DTQ_NAMESPACE or its own "
    "Redis; only if that database is gone for good, hand the Redis over to this one: redis-cli -u REDIS_URL DEL {key}"
)
#: By the first word of the server's message: the kind, and the sentence that precedes the message.
WORDS: Final[dict[str, tuple[Kind, str]]] = {
    "READONLY": ("moved", "it is a read-only replica now, and another server is the primary"),
    "UNBLOCKED": ("moved", "it became a replica while a worker waited"),
    "MASTERDOWN": ("moved", "it is a replica without its primary"),
    "MOVED": ("moved", "another node of the cluster has these keys"),
    "ASK": ("moved", "the cluster is moving these keys to another node"),
    "LOADING": ("loading", "it is loading its data and takes no commands yet"),
    "OOM": ("full", "it is full: raise maxmemory or free memory"),
    "MISCONF": ("full", "it cannot save to disk and takes no writes: see its log and its disk"),
    "NOREPLICAS": ("full", "too few of its replicas answer for it to take writes"),
    "BUSY": ("busy", "a script is blocking it"),
    "TRYAGAIN": ("busy", "the cluster is moving these keys to another node"),
    "CLUSTERDOWN": ("busy", "the cluster is down"),
    "EXECABORT": ("busy", "it aborted a transaction"),
    "NOAUTH": ("denied", "it asks for a password, and REDIS_URL has none: write :PASSWORD@ before its host"),
    "WRONGPASS": ("denied", "it refuses the user or password of REDIS_URL: check the USER:PASSWORD@ before its host"),
    "NOPERM": ("denied", "the user of REDIS_URL lacks a right"),
    "DENIED": ("denied", "it is in protected mode: give it a password (requirepass), or bind it to an address"),
    "CROSSSLOT": ("unusable", "it is a cluster behind a proxy that hides it"),
    "FOREIGN": ("taken", _TAKEN),
    "WRONGTYPE": ("content", "a key of the queue has the wrong type; the leader replaces it"),
    "NOSCRIPT": ("fault", "it does not know a script"),
}
#: The same by a part of the text after "ERR".
_PHRASES: Final[tuple[tuple[str, Kind, str], ...]] = (
    ("max number of clients", "busy", "it has no connection left: raise maxclients, or run fewer processes"),
    (
        "invalid password",
        "denied",
        "it refuses the user or password of REDIS_URL: check the USER:PASSWORD@ before its host",
    ),
    ("without any password configured", "denied", "it has no password set, and REDIS_URL has one: leave it out there"),
    ("can't run this command", "denied", "the user of REDIS_URL lacks a right"),
    ("can't access at least one of the keys", "denied", "the user of REDIS_URL lacks a right"),
    ("can't publish to the channel", "denied", "the user of REDIS_URL lacks a right"),
    ("acl failure", "denied", "the user of REDIS_URL lacks a right"),
    ("unknown command", "unusable", "it does not know a command of Redis 6.2"),
    ("db index is out of range", "unusable", "it has no database of this number (a cluster has only 0)"),
    ("select is not allowed in cluster", "unusable", "a cluster has only database 0"),
    ("invalid db index", "unusable", "it has no database of this number"),
)
_LONGEST: Final = 200
#: Maximum length of the server's message after our sentence. Of some messages, which are long and add nothing, only
#: the first word is shown.
_ASIDE: Final = 100
_ENOUGH: Final = frozenset({"NOAUTH", "WRONGPASS", "DENIED", "FOREIGN"})
_PIPELINE: Final = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
#: The error of a script within a message of Redis 6.2: "ERR Error running script (…): @user_script:1: -OOM …".
_IN_SCRIPT: Final = re.compile(rf"(?:^|[\s:-])({'|'.join(WORDS)}) .*", re.DOTALL)
_SCRIPT_AT: Final = re.compile(r"\s+script: .*$", re.DOTALL)


def words_of(error: RedisError) -> str:
    """The server's message with its first word, without additions of the client and the script engine."""
    text = _PIPELINE.sub("", str(error))
    code = error.status_code
    if code and code != "ERR" and not text.startswith(code):
        text = f"{code} {text}"
    text = _SCRIPT_AT.sub("", text)
    if "Error running script" in text:
        found = _IN_SCRIPT.search(text)
        text = text[found.start(1) :] if found else text.rpartition("user_script: ")[2]
    return text[:_LONGEST]


def refusal_of(error: BaseException) -> Refusal:
    """What an error of the client or of the operating system means."""
    if isinstance(error, UnusableServer):
        return Refusal(error.kind, str(error), drops=error.kind in _DROPPING)
    if isinstance(error, RedisError) and (said := _by_words(words_of(error))) is not None:
        return said
    if isinstance(error, ResponseError):
        return Refusal("fault", f"it refuses a command ({words_of(error)})")
    for cause in _chain(error):
        if isinstance(cause, UnusableServer):
            return refusal_of(cause)
        if (detail := _of_connection(cause)) is not None:
            return Refusal("away", detail)
    return Refusal("away", _plain(str(error)) or type(error).__name__)


def _by_words(words: str) -> Refusal | None:
    first = words.split(" ", 1)[0].lstrip("-")
    if first in WORDS:
        kind, sentence = WORDS[first]
        detail = f"{sentence} ({first if first in _ENOUGH else _aside(words)})"
        if first == "FOREIGN":
            detail = sentence.format(key=_record_key(words))
        drops = not _DROPPING.isdisjoint((kind, first))
        return Refusal(kind, detail, drops=drops, brief=f"{_brief(sentence)} ({first})")
    lower = words.lower()
    for phrase, kind, sentence in _PHRASES:
        if phrase in lower:
            return Refusal(kind, f"{sentence} ({_aside(words)})", brief=_brief(sentence))
    return None


def _aside(words: str) -> str:
    return words if len(words) <= _ASIDE else f"{words[: _ASIDE - 1]}…"


def _record_key(words: str) -> str:
    """The key `queue:record`, quoted for a shell: `record.lua` ends its refusal with it."""
    parts = words.split(" ", 2)
    return shlex.quote(parts[2]) if len(parts) > 2 else "NAMESPACE:queue:record"


def _brief(sentence: str) -> str:
    """The part before the cure, as the end of a sentence that begins with "Redis"."""
    what = sentence.partition(":")[0]
    return what.removeprefix("it ") if what.startswith("it ") else f"says that {what}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _of_connection(error: BaseException) -> str | None:
    """Why a connection cannot be made, in one sentence with the cure."""
    match error:
        case ssl.SSLCertVerificationError() if "ostname mismatch" in str(error) or "IP address mismatch" in str(error):
            return f"its certificate is for another host name ({error.verify_message})"
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not trusted ({error.verify_message}): name the file of its CA in REDIS_URL, "
                "?ssl_ca_certs=/path/ca.pem"
            )
        case ssl.SSLError():
            return _of_tls(str(error))
        case socket.gaierror():
            return f"its host name cannot be resolved ({error.strerror}): check REDIS_URL"
        case ConnectionRefusedError():
            return "nothing listens there: check host and port in REDIS_URL, and whether Redis runs"
        case RedisTimeoutError() | TimeoutError():
            return "no answer in time"
        case ConnectionResetError() | BrokenPipeError():
            return "it closed the connection"
        case _:
            return None


def _of_tls(text: str) -> str:
    lower = text.lower().replace("_", " ")
    if "wrong version number" in lower or "record layer failure" in lower or "packet length too long" in lower:
        return "it does not speak TLS on this port: use redis:// in REDIS_URL, or its TLS port"
    if "certificate required" in lower or "handshake failure" in lower:
        return (
            "it asks for a client certificate: name it in REDIS_URL, "
            "?ssl_certfile=/path/client.crt&ssl_keyfile=/path/client.key"
        )
    if "unknown ca" in lower or "bad certificate" in lower:
        return "it does not trust the client certificate that REDIS_URL names"
    return f"TLS with it fails ({_plain(text)})"


def _plain(text: str) -> str:
    """One line of an error's text."""
    return (text.splitlines() or [""])[0].strip()[:_LONGEST]
