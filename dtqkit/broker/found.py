"""Data read from Redis."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dtqkit.model.events import Heartbeat
from dtqkit.model.jobs import Priority


class Tick(msgspec.Struct, frozen=True):
    """Result of the leader's tick: ids put back, ids that were due, and the last heartbeat of each worker (ms)."""

    leads: bool
    now_ms: float
    swept: int
    moved: int
    #: Keys of a wrong type that were removed.
    mended: int
    #: Redis's run_id when the lanes were last known to be complete, and now. If Redis does not report it, a value that
    #: changes with each connection of this process.
    epoch: str
    run_id: str
    scores: dict[str, str]
    #: Ids of paused jobs, and the version of the pauses that workers should know; empty: not known.
    parked: int = 0
    pauses: str = ""
    #: Differs from the last one when a schedule may have changed since.
    schedules: str = ""


class Look(msgspec.Struct, frozen=True):
    """State of Redis after a successful write: whether there is a leader, jobs by lane, last heartbeats (ms)."""

    now_ms: float
    led: bool
    depths: dict[Priority, int]
    scores: dict[str, float]


class Listed(msgspec.Struct, frozen=True):
    """What Redis lists: ids in the lanes, and members with scores (ms) in the sets."""

    #: Time of Redis, which scores `inflight`; `scheduled` has times of MongoDB.
    now_ms: float
    lanes: set[str]
    inflight: dict[str, float]
    scheduled: dict[str, float]
    parked: dict[str, float] = {}


def beats_of(
    now: float, scored: Sequence[tuple[str, float]], texts: Sequence[tuple[str | None, str | None]]
) -> tuple[Heartbeat, ...]:
    """The last heartbeat of each worker, from its score and the texts of its hash; `now` is Redis's time in seconds."""
    beats: list[Heartbeat] = []
    for (_, score), (text, tasks) in zip(scored, texts, strict=True):
        try:
            beat = msgspec.json.decode(text or "", type=Heartbeat)
            names = msgspec.json.decode(tasks, type=tuple[str, ...]) if tasks else None
        except msgspec.DecodeError:
            continue
        beats.append(msgspec.structs.replace(beat, tasks=names, age_s=max(0.0, now - score / 1000)))
    return tuple(sorted(beats, key=lambda b: b.name))
