"""The id of the record. Redis holds it too, so that the jobs of two records are never mixed."""

from __future__ import annotations

import secrets
from typing import Any, Final

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

_ID: Final = "record"


async def identity_of(configuration: AsyncCollection[dict[str, Any]]) -> str:
    """The id; created by the first call."""
    while True:
        found = await configuration.find_one({"_id": _ID})
        if found is not None:
            return str(found["value"])
        try:
            await configuration.insert_one({"_id": _ID, "value": secrets.token_hex(8)})
        except DuplicateKeyError:
            pass  # another process has just created it
