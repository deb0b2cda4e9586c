"""The ids of jobs."""

from __future__ import annotations

import itertools
import os
import secrets
from datetime import datetime
from typing import Final

from bson import ObjectId


def new_id(now: datetime) -> ObjectId:
    """An id for a job that is created `now`, MongoDB's time: ObjectId() would use this machine's clock."""
    global _last  # noqa: PLW0603 - all jobs of a bulk have the same `now`
    last = _last
    if now is not last[0]:
        _last = last = (now, int(now.timestamp()).to_bytes(4, "big"))
    return ObjectId(last[1] + _process[0] + (next(_counter) & 0xFFFFFF).to_bytes(3, "big"))


#: The last time for which an id was made, and its bytes.
_last: tuple[datetime | None, bytes] = (None, b"")

#: Counts the ids of this process, which differ from those of others by five random bytes.
_counter: Final = itertools.count(int.from_bytes(secrets.token_bytes(3), "big"))
_process: Final = [secrets.token_bytes(5)]


def _after_fork() -> None:
    _process[0] = secrets.token_bytes(5)


os.register_at_fork(after_in_child=_after_fork)


def object_id(job_id: str) -> ObjectId:
    return ObjectId(job_id)


def id_at(when: datetime) -> ObjectId:
    """The smallest id of a job that was created at `when`."""
    return ObjectId.from_datetime(when)
