"""What an error of MongoDB means: a table of server error codes, and one of the driver's connection errors.

away, electing, refused: temporary. A submit raises StoreUnavailable (503 over HTTP) after it was retried for `wait_s`.
Workers, running or starting, retry claims, settles, renewals and rounds of recovery.

not_allowed, misconfigured, unsupported: a person must change something. A submit is not retried. A worker that cannot
start for such a reason exits after a while; one that has started goes on trying.

None: MongoDB will never take this document. A submit raises DocumentRefused (422), and a settle becomes a failure with
that reason. An error that is not known to be about one document never changes that document's job.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from dtqkit.model.errors import DocumentRefused, Reason, redact

#: The document is refused: too large, not BSON, duplicate key, a validator, a field of a wrong type.
THIS_DOCUMENT: Final = frozenset(
    {14, 15, 22, 28, 52, 55, 56, 57, 66, 121, 10334, 11000, 11001, 12582, 16554, 16555, 16556, 17280, 17419, 17420}
)
#: A code with many meanings, and the words of the one that is about a document.
_BAD_VALUE: Final = 2
_TOO_LARGE: Final = "object to insert too large"
#: The server is not the primary, or no longer.
_ELECTING: Final = frozenset({133, 134, 189, 10058, 10107, 11602, 13435, 13436})
#: A router cannot reach it, it is shutting down, or the operation exceeded its time limit.
_AWAY: Final = frozenset({6, 7, 50, 89, 91, 262, 9001, 11600})
_NOT_ALLOWED: Final = frozenset({11, 13, 18, 31, 334, 391})
_MISCONFIGURED: Final = frozenset({76, 79, 93, 94, 100, 123, 148})
_UNSUPPORTED: Final = frozenset({59, 115, 168, 238, 303, 323, 40324, 40415})
#: Codes after which the write may have been done: answered after it, or after an earlier try of the driver.
PERHAPS_DONE: Final = _ELECTING | _AWAY
#: Codes with several meanings: of a server without a replica set, and the one that Atlas uses for many errors.
_ILLEGAL_OPERATION: Final = 20
_ATLAS: Final = 8000
_UNAUTHORIZED: Final = 13
_ATLAS_DENIES: Final = r"\bauth|not allowed|not authorized"

#: Maximum length of a server's message.
MAX_WORDS: Final = 300
REPLICA_SET: Final = (
    "is a standalone server, and dtqkit needs a replica set, if only of one: start mongod with --replSet rs0 and run "
    "rs.initiate() in mongosh once"
)
NOT_INITIATED: Final = "its replica set is not initiated: run rs.initiate() in mongosh once"
ELECTION: Final = "is electing a primary: safe to try again in some seconds"
#: 5.0 is the first version with everything that is used; 6.0 is the oldest that is tested.
_MIN_WIRE: Final = 13
TOO_OLD: Final = "is too old: dtqkit needs MongoDB 6.0 or later"

_CLOSED: Final = r"errno 111|errno 61\b|connection refused|connect call failed"
_UNKNOWN_HOST: Final = (
    r"name or service not known|name resolution|nodename nor servname|getaddrinfo|no address associated|dns query"
)
_NOT_TLS: Final = r"wrong.version.number|record.layer.failure|http_request"
_TLS_ENDED: Final = (
    "it ends the TLS handshake: on Atlas, allow this machine's address in the IP access list; elsewhere, it may want a "
    "client certificate (tlsCertificateKeyFile=FILE)"
)
_NOT_TRUSTED: Final = "its certificate is not trusted: give its CA with tlsCAFile=FILE in the URI"
_TLS_ONLY: Final = "it closes the connection: perhaps it speaks only TLS (tls=true in the URI)"
_NO_SET: Final = (
    "is not a member of a replica set, and the URI says replicaSet=NAME: start mongod with --replSet NAME and run "
    "rs.initiate() in mongosh once; of a mongos, leave out replicaSet"
)
_WRONG_SET: Final = "is a member of another replica set than the URI says: check replicaSet=NAME in ATLAS_URI"
#: The driver's message about a direct connection to a member of another set, with the name of that set.
_OTHER_SET: Final = re.compile(r"this node belongs to a set named (?P<name>.*)$")
_CURES: Final[tuple[tuple[str, Reason, str], ...]] = (
    (_CLOSED, "away", "nothing listens there: check host, port and server"),
    (_UNKNOWN_HOST, "away", "the host name cannot be resolved: check it in ATLAS_URI"),
    (r"hostname mismatch|doesn't match|not valid for", "misconfigured", "its certificate is for another host name"),
    (r"certificate.verify.failed", "misconfigured", _NOT_TRUSTED),
    (_NOT_TLS, "misconfigured", "it does not speak TLS: leave out tls=true, or give it a certificate"),
    (r"\balert\b|_alert_", "away", _TLS_ENDED),
    (r"set named|set name", "misconfigured", "check replicaSet=NAME in ATLAS_URI"),
    (r"wire version", "unsupported", "dtqkit needs MongoDB 6.0 or later"),
    (r"connection (is )?(already )?closed|connection reset|errno 104|eof occurred", "away", _TLS_ONLY),
    (r"timed out|timeout", "away", "a firewall, or on Atlas the IP access list, may not let this machine in"),
)


class MongoRefusal(NamedTuple):
    """Why MongoDB refused: the kind of reason, and the text for the error."""

    reason: Reason
    words: str


def of_code(code: int | None, words: str) -> MongoRefusal | None:
    """What the server's code means; None: it refuses this document."""
    words = one_line(words)
    if code in THIS_DOCUMENT or (code == _BAD_VALUE and _TOO_LARGE in words):
        return None
    if code in _ELECTING:
        return MongoRefusal("electing", f"{ELECTION} ({words})")
    if code in _AWAY:
        return MongoRefusal("away", words)
    if code in _NOT_ALLOWED or (code == _ATLAS and re.search(_ATLAS_DENIES, words, re.IGNORECASE)):
        if code == _UNAUTHORIZED or "not allowed" in words or "not authorized" in words:
            return MongoRefusal(
                "not_allowed", f"does not allow this ({words}): the user needs readWrite on the database"
            )
        return MongoRefusal("not_allowed", f"refuses the user or password ({words})")
    if code == _ILLEGAL_OPERATION and "replica set" in words:
        return MongoRefusal("misconfigured", f"{REPLICA_SET} ({words})")
    if code in _MISCONFIGURED:
        return MongoRefusal("misconfigured", f"{words}: check the replica set's configuration")
    if code in _UNSUPPORTED:
        return MongoRefusal("unsupported", f"does not know this command ({words}): dtqkit needs MongoDB 6.0 or later")
    return of_now(words)


def is_of_document(error: Mapping[str, Any]) -> bool:
    """Whether one of the errors of a bulk refuses its document."""
    return of_code(error.get("code"), str(error.get("errmsg", ""))) is None


def of_now(words: str) -> MongoRefusal:
    """A refusal that may be temporary."""
    return MongoRefusal("refused", f"refuses for now ({one_line(words)})")


def of_document(words: str) -> DocumentRefused:
    return DocumentRefused(f"MongoDB does not take this document: {one_line(redact(words))}")


def of_members(types: Collection[str], replica_set: str | None, first: str) -> MongoRefusal:
    """Why no server that takes writes was found: from the member types that the driver knows, and its first error."""
    if not types:
        named = f"the replica set {replica_set!r}" if replica_set else "the replica set"
        return MongoRefusal(
            "misconfigured",
            f"none of its servers belongs to {named} that the URI names: check replicaSet=NAME in ATLAS_URI, and that "
            "mongod runs with --replSet NAME: a standalone server is no replica set",
        )
    members = [kind for kind in types if kind.startswith("RS") and kind != "RSGhost"]
    if members:
        return MongoRefusal("electing", f"{ELECTION} ({len(members)} of {len(types)} members answer)")
    if "RSGhost" in types:
        return MongoRefusal("refused", NOT_INITIATED)
    return of_connecting(first)


def of_connecting(words: str) -> MongoRefusal:
    """Why no connection can be made, from the driver's message."""
    first = one_line(words) or "no answer yet"
    if (other := _OTHER_SET.search(first)) is not None:
        named = other["name"].strip("'\"")
        return MongoRefusal("misconfigured", _NO_SET if named == "None" else f"{_WRONG_SET} (its set is {named!r})")
    for pattern, reason, cure in _CURES:
        if re.search(pattern, first, re.IGNORECASE):
            return MongoRefusal(reason, f"no server answers ({first}): {cure}")
    return MongoRefusal("away", f"no server answers ({first})")


def is_of_no_set(words: str) -> bool:
    """Whether the driver says that a server is a member of no replica set."""
    found = _OTHER_SET.search(one_line(words))
    return found is not None and found["name"].strip("'\"") == "None"


def of_no_set(heartbeat: Mapping[str, object] | str | None) -> MongoRefusal:
    """What is wrong with a direct connection when the driver says that the server is a member of no set.

    The driver says so also of a server that does not answer, or is just starting: its last heartbeat shows which.
    """
    if heartbeat is None or isinstance(heartbeat, str):
        return of_connecting(heartbeat or "")
    if "setName" in heartbeat:  # it was a member ten seconds ago at most
        return MongoRefusal("away", "no server answers")
    if heartbeat.get("isreplicaset"):
        return MongoRefusal("refused", NOT_INITIATED)
    return MongoRefusal("misconfigured", _NO_SET)


def of_hello(hello: dict[str, object]) -> MongoRefusal | None:
    """Why a server that answers cannot be used; None: it can."""
    wire = hello.get("maxWireVersion", 0)
    if isinstance(wire, int) and wire < _MIN_WIRE:
        return MongoRefusal("unsupported", TOO_OLD)
    if hello.get("isreplicaset"):
        return MongoRefusal("refused", NOT_INITIATED)
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        return MongoRefusal("misconfigured", REPLICA_SET)
    return None


def one_line(text: str) -> str:
    """The first line of an error, truncated, without the details that the driver appends."""
    text = text.partition(", full error")[0].partition(" (configured timeouts")[0].partition(", Timeout: ")[0]
    text = (text.splitlines() or [""])[0].strip()
    return text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - 1]}…"
