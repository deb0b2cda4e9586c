"""Members, `lane:id`: the form of popped and listed ids. Redis may hold anything, so an id may be invalid."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from bson import ObjectId
from bson.errors import InvalidId

from dtqkit.broker.keys import split_member
from dtqkit.model.jobs import Priority, is_job_id

log = logging.getLogger("dtqkit.worker")


def lane_of(name: str) -> Priority:
    return split_member(name)[0]


def ids_of(members: Sequence[str]) -> list[ObjectId]:
    """The ids of members, without duplicates and invalid ids."""
    ids: list[ObjectId] = []
    for text in dict.fromkeys(name.partition(":")[2] for name in members):
        try:
            ids.append(ObjectId(text))
        except InvalidId:
            log.warning("dropped %r from a lane: not a job id", text[:80])
    return ids


def without(members: Sequence[str], taken: Collection[ObjectId]) -> list[str]:
    """The members of other jobs than `taken`, without invalid ones."""
    jobs = {str(job) for job in taken}
    return [name for name in members if is_job_id(job := name.partition(":")[2]) and job not in jobs]
