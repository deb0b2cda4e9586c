"""Plain commands for writes of many documents: they cost this process half of what the driver's bulk does.

The driver sends a plain command once, and does not look at the errors in its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect, BulkWriteError, ServerSelectionTimeoutError, WaitQueueTimeoutError

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

    When the connection is lost or the server is no primary any more, the driver tries again: what the first try has
    stored is then a duplicate of its own id.
    """
    command: Document = {
        "insert": collection.name,
        "documents": docs,
        "ordered": False,
        "writeConcern": _MAJORITY,
    }
    try:
        answer = await collection.database.command(command)
    except ServerSelectionTimeoutError:
        raise
    except AutoReconnect as error:
        try:
            await collection.insert_many(docs, ordered=False)
        except (ServerSelectionTimeoutError, WaitQueueTimeoutError):
            raise error from None  # the first try may have been done; this one was not sent
    else:
        written(answer, "nInserted")
