"""Ids of paused jobs, which stand apart from the lanes, and ids that are taken out of the lanes in bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, cast

from dtqkit.broker.keys import split_member
from dtqkit.broker.link import Link
from dtqkit.model.jobs import PRIORITIES, Priority

#: How long the version of the pauses is kept after the last heartbeat of a worker that knows it, in seconds.
_VERSION_S: Final = 3600
#: Ids in one call of a script: Redis serves nobody else meanwhile.
_CHUNK: Final = 1000


class Parking:
    """Methods raise StoreUnavailable when Redis is away."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def announce(self, version: int) -> None:
        """Announce to workers the version of the pauses that they should know."""
        async with self._link.asking("announce_pauses", writes=True) as keys:
            await self._link.raw.set(keys.pauses, str(version), ex=_VERSION_S)

    async def park(self, version: int, members: Mapping[str, float]) -> bool:
        """Park popped members, each until then (ms); False when the pauses are not those of `version` any more."""
        pairs = list(members.items())
        async with self._link.asking("park") as keys:
            for start in range(0, len(pairs), _CHUNK):
                flat = [x for name, until in pairs[start : start + _CHUNK] for x in (_score(until), name)]
                if not await self._link.run("park", [keys.pauses, keys.parked, keys.inflight], [str(version), *flat]):
                    return False
        return True

    async def unpark(self, members: Sequence[str]) -> int:
        """List parked members in their lanes again; returns how many were parked."""
        listed = 0
        async with self._link.asking("unpark") as keys:
            for start in range(0, len(members), _CHUNK):
                args: list[Any] = []
                for name in members[start : start + _CHUNK]:
                    lane, job_id = split_member(name)
                    args += [PRIORITIES.index(lane) + 2, name, job_id]
                listed += cast(int, await self._link.run("unpark", [keys.parked, *keys.lanes()], args))
        return listed

    async def parked(self, start: int, count: int) -> list[str]:
        """Some parked members, from position `start` on."""
        async with self._link.asking() as keys:
            return cast("list[str]", await self._link.raw.zrange(keys.parked, start, start + count - 1))

    async def count(self) -> int:
        async with self._link.asking() as keys:
            return cast(int, await self._link.raw.zcard(keys.parked))

    async def unlist(self, lane: Priority, ids: Set[str]) -> int:
        """Take these ids out of a lane, a piece of it at a time; returns how many were found.

        Ids that move meanwhile may be missed: a claim drops those.
        """
        removed = start = 0
        while removed < len(ids):
            async with self._link.asking("unlist") as keys:
                key = keys.lane(lane)
                seen = cast("list[str]", await self._link.raw.lrange(key, start, start + _CHUNK - 1))
                gone = [job_id for job_id in seen if job_id in ids]
                if gone:
                    here = cast(int, await self._link.run("unlist", [key], [start, start + _CHUNK, *gone]))
                    removed += here
                    start -= here
            if len(seen) < _CHUNK:
                break
            start = max(0, start + _CHUNK)
        return removed

    async def unschedule(self, *, scheduled: Sequence[str], parked: Sequence[str]) -> None:
        """Take these members out of what is scheduled, and those out of what is parked."""
        async with self._link.asking("unlist") as keys:
            for key, names in ((keys.scheduled, scheduled), (keys.parked, parked)):
                for start in range(0, len(names), _CHUNK):
                    await self._link.raw.zrem(key, *names[start : start + _CHUNK])


def _score(until_ms: float) -> str:
    return "+inf" if until_ms == float("inf") else f"{until_ms:.17g}"
