"""Plain commands for writes of many documents: they cost this process half of what the driver's bulk does.

The driver sends a plain command once, and does not look at the errors in its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from dtqkit.store.refusals import PERHAPS_DONE, is_of_document

Document: TypeAlias = dict[str, Any]

_MAJORITY: Final[Document] = {"w": "majority", "j": True}


def update_command(collection: str, updates: Sequence[Document]) -> Document:
    return {"update": collection, "updates": updates, "ordered": False, "writeConcern": _MAJORITY}


def written(answer: Document, counted: str) -> int:
    """How many documents a command has matched or inserted. Raises BulkWriteError as the driver's bulk does, with this
    number under the name `counted`."""
    if "writeErrors" in answer or "writeConcernError" in answer:
        unsure = [answer["writeConcernError"]] if "writeConcernError" in answer else []
        details = {"writeErrors": answer.get("writeErrors", []), "writeConcernErrors": unsure, counted: answer["n"]}
        raise BulkWriteError(details)
    return answer["n"]


async def insert_many(collection: AsyncCollection[Document], docs: Sequence[Document]) -> None:
    """Insert documents that have their ids. Raises what `collection.insert_many` raises.

    What the driver would send again is left to it: what the first try has stored is then a duplicate of its own id. So
    are documents that are too large for one command.
    """
    command: Document = {"insert": collection.name, "documents": docs, "ordered": False, "writeConcern": _MAJORITY}
    try:
        written(await collection.database.command(command), "nInserted")
    except DocumentTooLarge:
        if len(docs) == 1:
            raise
        await collection.insert_many(docs, ordered=False)
    except ServerSelectionTimeoutError:
        raise
    except (AutoReconnect, BulkWriteError, OperationFailure) as error:
        if not _sent_again(error):
            raise
        await _insert_again(collection, docs, error)


def _sent_again(error: PyMongoError) -> bool:
    """Whether the driver would send a write again after this error."""
    if isinstance(error, BulkWriteError):
        return any(one.get("code") in PERHAPS_DONE for one in error.details["writeConcernErrors"])
    return isinstance(error, AutoReconnect) or (isinstance(error, OperationFailure) and error.code in PERHAPS_DONE)


async def _insert_again(collection: AsyncCollection[Document], docs: Sequence[Document], first: PyMongoError) -> None:
    """Raises the `first` error when the second try does not say what is stored: the first one may have been done."""
    try:
        await collection.insert_many(docs, ordered=False)
    except BulkWriteError as error:
        if not all(map(is_of_document, error.details["writeErrors"])):
            raise first from None
        raise
    except PyMongoError:
        raise first from None
