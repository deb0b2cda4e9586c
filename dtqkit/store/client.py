"""How a connection to MongoDB is made, and how its errors are told."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC
from typing import Any, Final

from bson.codec_options import TypeDecoder, TypeRegistry
from bson.int64 import Int64
from pymongo import AsyncMongoClient
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ExecutionTimeout,
    InvalidURI,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from dtqkit.errors import OutcomeUnknown, SettingsError, StoreUnavailable, redact
from dtqkit.failpoints import hit
from dtqkit.settings import Settings

#: How long to look for a primary, and how long to wait for an answer, in seconds.
SELECT_S: Final = 1.5
ANSWER_S: Final = 20.0

#: MongoDB's codes for a user or a password that it refuses.
_AUTH_CODES: Final = frozenset({13, 18, 8000})


class _PlainInts(TypeDecoder):
    """Integers of 64 bits as int: bson's own Int64 is no JSON value for whoever encodes it."""

    bson_type: Any = Int64  # pyright: ignore[reportIncompatibleMethodOverride]

    def transform_bson(self, value: Int64) -> int:
        return int(value)


PLAIN_INTS: Final = TypeRegistry([_PlainInts()])


def connect(settings: Settings, *listeners: Any) -> AsyncMongoClient[dict[str, Any]]:
    """A client for ATLAS_URI, not connected yet: journaled majority writes, majority reads on the primary."""
    try:
        return AsyncMongoClient(
            settings.atlas_uri,
            tz_aware=True,
            tzinfo=UTC,
            type_registry=PLAIN_INTS,
            w="majority",
            journal=True,
            readConcernLevel="majority",
            retryWrites=True,
            retryReads=True,
            serverMonitoringMode="poll",
            serverSelectionTimeoutMS=int(SELECT_S * 1000),
            connectTimeoutMS=int(SELECT_S * 1000),
            socketTimeoutMS=int(ANSWER_S * 1000),
            appname="dtqkit",
            event_listeners=listeners,
        )
    except (ConfigurationError, InvalidURI, ValueError) as error:
        raise SettingsError(f"ATLAS_URI cannot be used: {redact(str(error))}") from None


@contextmanager
def told(where: str, *, writes: bool = False, point: str | None = None) -> Generator[None]:
    """Turn a failure to reach MongoDB into StoreUnavailable (or, for a write that may be done, OutcomeUnknown).

    Errors that mean a mistake of ours (a duplicate key, a bad query) pass through. `point` names the write's failpoint.
    """
    try:
        if point is not None:
            hit(point, "before")
        yield
        if point is not None:
            hit(point, "after")
    except ServerSelectionTimeoutError:
        detail = "no server that takes writes answers"
        raise StoreUnavailable("MongoDB", where, detail) from None
    except WaitQueueTimeoutError as error:
        raise StoreUnavailable("MongoDB", where, str(error)) from None
    except (NetworkTimeout, AutoReconnect, WriteConcernError, ExecutionTimeout) as error:
        kind = OutcomeUnknown if writes else StoreUnavailable
        late = error.timeout and not isinstance(error, WriteConcernError)
        detail = "no answer in time" if late else _first_line(error)
        raise kind("MongoDB", where, detail) from None
    except BulkWriteError as error:
        if not error.details.get("writeConcernErrors"):
            raise
        raise OutcomeUnknown("MongoDB", where, "not known to be on a majority") from None
    except OperationFailure as error:
        if error.code in _AUTH_CODES:
            raise StoreUnavailable("MongoDB", where, f"refuses the user ({_first_line(error)})") from None
        raise
    except (ConfigurationError, InvalidURI) as error:  # an SRV name that does not resolve, say
        raise StoreUnavailable("MongoDB", where, _first_line(error)) from None


def _first_line(error: PyMongoError) -> str:
    text = str(error).partition(", full error")[0].partition(" (configured timeouts")[0]
    return (text.splitlines() or [type(error).__name__])[0][:300]
