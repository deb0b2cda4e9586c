"""Counts over any window: the minutes that are closed, and the rest from the jobs. Exact at the time of asking.

"Now" includes the last job that is there: processes know MongoDB's time only to some milliseconds, and what one has
counted, the next must count too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from dtqkit.control import Minute
from dtqkit.store import Store
from dtqkit.store.minutes import MINUTE, WHATS, Counts, Sample, add, minute_of, sample_of, summed

#: Minutes that are shown.
SHOWN: Final = 60
#: When the last minutes are not closed for so long, no worker leads: then the process that is asked closes them, for a
#: while. A leader closes ten at a time while little happens, each once it is over and some seconds more.
_LATE: Final = 12 * MINUTE
_CATCH_UP_S: Final = 2.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Window(msgspec.Struct, frozen=True):
    """What was counted from `since` to now, which is `until`, and in each of the last whole minutes."""

    since: datetime
    until: datetime
    counts: Counts
    minutes: tuple[Minute, ...]


async def covered(store: Store) -> tuple[datetime, Counts]:
    """Until when all minutes are closed, and the counts of all of them."""
    now = store.now()
    totals = await store.minutes.totals()
    if totals is None or now - totals.until > _LATE:
        give_up = asyncio.get_running_loop().time() + _CATCH_UP_S
        while await store.minutes.close(now) and asyncio.get_running_loop().time() < give_up:
            pass
        totals = await store.minutes.totals()
    return (totals.until, totals.counts) if totals else (_EPOCH, Counter())


async def total(store: Store) -> tuple[datetime, Counts]:
    """All that was ever counted, until now."""
    until, counts = await covered(store)
    now = store.now()
    rest = await store.minutes.count(until)
    for at in sorted(rest):
        counts = add(counts, rest[at])
    return now, counts


async def window(store: Store, window_s: float) -> Window:
    closed, _ = await covered(store)
    now = store.now()
    since = now - timedelta(seconds=window_s)
    first = minute_of(since + MINUTE - timedelta(microseconds=1))
    shown = minute_of(now) - SHOWN * MINUTE
    if closed >= first:
        tail, edge, whole = await asyncio.gather(
            store.minutes.count(closed), store.minutes.count(since, first), store.minutes.between(first, closed)
        )
        counts = _sum(edge) + whole + _sum(tail)
    else:
        tail, all_of_it = await asyncio.gather(store.minutes.count(max(closed, shown)), store.minutes.count(since))
        counts = _sum(all_of_it)
    before, docs = await store.minutes.series(shown, closed)
    return Window(since, now, counts, _series(shown, before, docs, tail))


def _sum(minutes: Mapping[datetime, Counts]) -> Counts:
    none: Counts = Counter()
    return sum(minutes.values(), start=none)


def _series(
    shown: datetime, sample: Sample | None, docs: Mapping[datetime, Mapping[str, Any]], tail: Mapping[datetime, Counts]
) -> tuple[Minute, ...]:
    """No minute is written in which nothing changed: its sample is the last one, until something happened unseen."""
    unseen = min(tail, default=None)
    made: list[Minute] = []
    for at in (shown + i * MINUTE for i in range(SHOWN)):
        doc = docs.get(at)
        sample = sample_of(doc) if doc is not None else sample
        counts = {what: doc[what] for what in WHATS} if doc else summed(tail.get(at, Counter()))
        known = sample if unseen is None or at < unseen else None
        made.append(
            Minute(
                at=at,
                **counts,
                waiting=known.waiting if known else None,
                running=known.running if known else None,
            )
        )
    return tuple(made)
