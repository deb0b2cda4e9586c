"""Connecting to MongoDB, and translating its errors."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import Any, Final, Literal, NoReturn, TypeAlias, cast
from urllib.parse import parse_qsl

from bson.codec_options import TypeDecoder, TypeRegistry
from bson.errors import BSONError, InvalidBSON
from bson.int64 import Int64
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidURI,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)
from pymongo.read_concern import ReadConcern

from dtqkit.model.errors import DtqError, OutcomeUnknown, SettingsError, StoreUnavailable, redact
from dtqkit.model.failpoints import hit
from dtqkit.store import refusals
from dtqkit.store.refusals import MongoRefusal, one_line

#: Timeouts for finding a primary, for connecting and for an answer, in seconds. The URI can override them.
SELECT_S: Final = 1.5
CONNECT_S: Final = 3.0
ANSWER_S: Final = 20.0
#: Round trips of an operation on a new connection: TLS, authentication, the operation itself.
_TRIPS: Final = 6
_MAX_SLACK_S: Final = 15.0
_DUPLICATE_KEY: Final = 11_000
#: Whether an operation writes. MongoDB may refuse inserts while it takes other writes, for example over a quota.
Writes: TypeAlias = bool | Literal["insert"]
_NOT_ON_A_MAJORITY: Final = "the write is not known to be on a majority"


class _PlainInts(TypeDecoder):
    """Decode 64-bit integers as int: JSON encoders do not know bson's Int64."""

    bson_type: Any = Int64  # pyright: ignore[reportIncompatibleMethodOverride]

    def transform_bson(self, value: Int64) -> int:
        return int(value)


PLAIN_INTS: Final = TypeRegistry([_PlainInts()])


class MongoLink:
    """A MongoDB server or set: its address, its round trip time, and whether it refuses writes."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.options: Final = {name.lower(): value for name, value in parse_qsl(uri.partition("?")[2])}
        self.client: AsyncMongoClient[dict[str, Any]] | None = None
        #: Why the last write was refused; None after a write was done, or for a refused insert: after an insert.
        self.refused: StoreUnavailable | None = None
        self._inserts_refused = False
        #: When MongoDB has last stored a new document for this process, by the monotonic clock.
        self.inserted_at = float("-inf")
        self._trips: deque[float] = deque(maxlen=5)
        #: The outcome of the driver's last heartbeat: the answer, or the error; None: there was none yet.
        self.heartbeat: Mapping[str, object] | str | None = None

    def measured(self, trip_s: float) -> None:
        """Note a round trip time."""
        self._trips.append(trip_s)

    def note_write(self, writes: Writes, refused: StoreUnavailable | None) -> None:
        """Note that a write was refused, or that it was done (`refused` is None)."""
        if refused is not None:
            self.refused, self._inserts_refused = refused, self._inserts_refused or writes == "insert"
        elif writes == "insert" or not self._inserts_refused:
            self.refused, self._inserts_refused = None, False

    def note_insert(self) -> None:
        """Note that MongoDB has stored a new document: an upsert that only finds one does not show that it would."""
        self.inserted_at = time.monotonic()

    @property
    def slack_s(self) -> float:
        """Extra seconds for an operation because of the network: several times the shortest recent round trip."""
        return min(_MAX_SLACK_S, _TRIPS * min(self._trips, default=0.0))

    def within(self, seconds: float) -> float:
        """The timeout of an operation that takes at most `seconds` without network delay; at least the URI's."""
        selecting_s = self.option_s("serverselectiontimeoutms", 0.0)
        return max(seconds, selecting_s) + self.slack_s

    def option_s(self, name: str, default_s: float) -> float:
        """A timeout of the URI, in seconds."""
        try:
            return float(self.options[name]) / 1000
        except (KeyError, ValueError):  # the driver reports a wrong value
            return default_s

    @property
    def connecting(self) -> bool:
        """Whether a connection may still be in progress: no server has refused it."""
        return any(error is None or "timed out" in error for error in self._errors())

    def _errors(self) -> list[str | None]:
        """The error of each server. The driver may hide that of a direct connection: see `refusals.of_no_set`."""
        if self.client is None:
            return []
        servers = self.client.topology_description.server_descriptions().values()
        errors = [None if server.error is None else str(server.error) for server in servers]
        hidden = self.heartbeat if isinstance(self.heartbeat, str) else None
        return [hidden if hidden and error and refusals.is_of_no_set(error) else error for error in errors]

    def why_not_found(self, error: ServerSelectionTimeoutError) -> MongoRefusal:
        """Why no server that takes writes was found."""
        if self.client is None:
            return refusals.of_connecting(str(error))
        topology = self.client.topology_description
        types = [server.server_type_name for server in topology.server_descriptions().values()]
        first = next((one for one in self._errors() if one is not None), str(error))
        if refusals.is_of_no_set(first):
            return refusals.of_no_set(self.heartbeat)
        return refusals.of_members(types, topology.replica_set_name, first)


def connect(link: MongoLink, *listeners: Any) -> AsyncMongoClient[dict[str, Any]]:
    """A client for ATLAS_URI, not connected yet."""
    timeouts = {"serverSelectionTimeoutMS": SELECT_S, "connectTimeoutMS": CONNECT_S, "socketTimeoutMS": ANSWER_S}
    defaults = {name: int(s * 1000) for name, s in timeouts.items() if name.lower() not in link.options}
    try:
        link.client = AsyncMongoClient(
            link.uri,
            tz_aware=True,
            tzinfo=UTC,
            type_registry=PLAIN_INTS,
            w="majority",
            journal=True,
            readConcernLevel="majority",
            retryWrites=True,
            retryReads=True,
            serverMonitoringMode="poll",
            appname="dtqkit",
            event_listeners=listeners,
            **cast("Any", defaults),
        )
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else one_line(str(error))
        raise SettingsError(f"ATLAS_URI names a file that cannot be used: {redact(what)}") from None
    except (ConfigurationError, InvalidURI, ValueError) as error:
        raise SettingsError(f"ATLAS_URI cannot be used: {redact(one_line(str(error)))}") from None
    return link.client


def database(client: AsyncMongoClient[dict[str, Any]], name: str) -> AsyncDatabase[dict[str, Any]]:
    """Journaled majority writes and majority reads on the primary, whatever the URI says."""
    return client.get_database(
        name,
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern("majority", j=True),
        read_concern=ReadConcern("majority"),
    )


@contextmanager
def store_errors(
    link: MongoLink, *, writes: Writes = False, once: bool = False, document: bool = False, point: str | None = None
) -> Generator[None]:
    """Raise an error of MongoDB as StoreUnavailable, or as OutcomeUnknown for a write that may have been done.

    Duplicate key errors pass through, single or in a bulk. `once`: the driver sends this write only once, so "not
    primary" means that it was not done. `document`: raise DocumentRefused when MongoDB does not take this document.
    `point` names the write's failpoint.
    """
    try:
        if point is not None:
            hit(point, "before")
        yield
        if point is not None:
            hit(point, "after")
    except DuplicateKeyError:
        raise
    except BulkWriteError as error:
        _raise_bulk(error, link, writes=writes, document=document)
    except PyMongoError as error:
        _raise(error, link, writes=writes, once=once, document=document)
    except InvalidBSON as error:  # from decoding the answer: the operation was done
        words = f"its answer cannot be decoded ({one_line(redact(str(error)))})"
        raise refused(link, MongoRefusal("refused", words), writes=writes, perhaps=True) from None
    except (BSONError, OverflowError, ValueError, RecursionError) as error:  # from encoding the document
        if not document or isinstance(error, DtqError):
            raise
        raise refusals.of_document(str(error)) from None
    except AttributeError as error:
        # The driver fails on an error in the answer of a find-and-modify, because it has not decoded the answer.
        if "RawBSONDocument" not in str(error):
            raise
        raise refused(link, MongoRefusal("away", _NOT_ON_A_MAJORITY), writes=writes, perhaps=True) from None
    else:
        if writes:
            link.note_write(writes, None)


def _raise(error: PyMongoError, link: MongoLink, *, writes: Writes, once: bool, document: bool) -> NoReturn:
    verdict, perhaps = _judge(error, link)
    if verdict is None:
        words = one_line(str(error))
        if document:
            raise refusals.of_document(words) from None
        verdict = refusals.of_now(words)
    perhaps = perhaps and not (once and isinstance(error, NotPrimaryError) and _code(error) != _INTERRUPTED)
    raise refused(link, verdict, writes=writes, perhaps=perhaps) from None


def is_duplicate_keys(error: BulkWriteError) -> bool:
    """Whether duplicate keys are all that is wrong with a bulk: its other writes are done."""
    errors: Sequence[dict[str, Any]] = error.details.get("writeErrors", ())
    return not error.details.get("writeConcernErrors") and all(one.get("code") == _DUPLICATE_KEY for one in errors)


#: A multi-document write that an election interrupts may be done in part.
_INTERRUPTED: Final = 11_602


def refused(link: MongoLink, verdict: MongoRefusal, *, writes: Writes, perhaps: bool = False) -> StoreUnavailable:
    kind = OutcomeUnknown if writes and perhaps else StoreUnavailable
    made = kind("MongoDB", link.uri, verdict.words, reason=verdict.reason)
    if writes:
        link.note_write(writes, made)
    return made


def _judge(error: PyMongoError, link: MongoLink) -> tuple[MongoRefusal | None, bool]:
    """What an error means, and whether the write may have been done nevertheless."""
    words = one_line(str(error)) or type(error).__name__
    match error:
        case ServerSelectionTimeoutError():
            return link.why_not_found(error), False
        case WaitQueueTimeoutError():
            return MongoRefusal("away", words), False
        case WriteConcernError():
            return MongoRefusal("away", words), True
        case NotPrimaryError() | OperationFailure():
            code = _code(error)
            if error.timeout:
                return MongoRefusal("away", "no answer in time"), True
            return refusals.of_code(code, words), code in refusals.PERHAPS_DONE
        case AutoReconnect() | ConnectionFailure():
            return MongoRefusal("away", "no answer in time" if error.timeout else words), True
        case ConfigurationError():  # an SRV name that does not resolve, or a server that is too old
            return refusals.of_connecting(words), False
        case _:
            return MongoRefusal("away", words), True


def _code(error: PyMongoError) -> int | None:
    if isinstance(error, OperationFailure):
        return error.code
    details: Any = getattr(error, "details", None)
    return details.get("code") if isinstance(details, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _raise_bulk(error: BulkWriteError, link: MongoLink, *, writes: Writes, document: bool) -> NoReturn:
    """Raise for the whole bulk if any part was refused for a temporary reason: its writes can be repeated."""
    errors: Sequence[dict[str, Any]] = error.details.get("writeErrors", ())
    counts = ("nInserted", "nUpserted", "nMatched", "nRemoved")
    some = any(error.details.get(n) for n in counts) or any(one.get("code") == _DUPLICATE_KEY for one in errors)
    for one in errors:
        code = one.get("code")
        if (verdict := refusals.of_code(code, str(one.get("errmsg", "")))) is not None:
            perhaps = some or code in refusals.PERHAPS_DONE
            raise refused(link, verdict, writes=writes, perhaps=perhaps) from None
    if unsure := error.details.get("writeConcernErrors"):
        verdict = refusals.of_code(unsure[0].get("code"), str(unsure[0].get("errmsg", "")))
        if verdict is None or verdict.reason != "electing":
            verdict = MongoRefusal("away", _NOT_ON_A_MAJORITY)
        raise refused(link, verdict, writes=writes, perhaps=True) from None
    if all(one.get("code") == _DUPLICATE_KEY for one in errors):
        raise error
    words = next(str(one.get("errmsg", "")) for one in errors if one.get("code") != _DUPLICATE_KEY)
    if not document:
        raise refused(link, refusals.of_now(words), writes=writes, perhaps=True) from None
    raise refusals.of_document(words) from None
