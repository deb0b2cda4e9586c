"""Whether jobs can be accepted and run: what was seen of the stores and the workers, and what follows from it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from dtqkit.broker import Broker
from dtqkit.broker.found import Look
from dtqkit.control import Health
from dtqkit.errors import DtqError, NamespaceTaken, Reason, StoreUnavailable
from dtqkit.events import Heartbeat
from dtqkit.jobs import PRIORITIES, Priority
from dtqkit.settings import Settings
from dtqkit.store import Store

log = logging.getLogger("dtqkit.queue")

#: How long a look is good for, in seconds.
FRESH_S: Final = 1.0
#: How long a write to MongoDB proves that it takes writes, in seconds: then a small one is made.
WRITE_S: Final = 10.0
#: How long one store may take to answer.
_ANSWER_S: Final = 2.0
#: How long what workers say of themselves is good for, while nothing about them changes.
_BEATS_S: Final = 15.0
#: Beats without a leader after which there is none: another candidate takes over within two.
_VACANT_BEATS: Final = 4.0

#: What the words in Redis's refusals mean; broker/refusals.py has all of them.
_REDIS: Final[tuple[tuple[str, str], ...]] = (
    ("READONLY", "is a replica that takes no writes (READONLY)"),
    ("OOM", "is full (OOM)"),
    ("MISCONF", "refuses writes because it cannot save them (MISCONF)"),
    ("LOADING", "is loading its data (LOADING)"),
    ("MASTERDOWN", "is a replica without its primary (MASTERDOWN)"),
    ("NOREPLICAS", "has too few replicas to take writes (NOREPLICAS)"),
    ("CLUSTERDOWN", "is a cluster that is down (CLUSTERDOWN)"),
    ("NOPERM", "does not allow its user what is needed (NOPERM)"),
    ("NOAUTH|WRONGPASS", "refuses the user or password"),
    ("max number of clients", "has no connection left for us (maxclients)"),
)
#: Of a Redis where another record's jobs are listed.
TAKEN: Final = "lists jobs of another MongoDB database under this DTQ_NAMESPACE"
#: What each reason of a StoreUnavailable means.
_REASONS: Final[Mapping[Reason, str]] = {
    "away": "does not answer",
    "electing": "is electing a primary",
    "refused": "refuses writes",
    "not_allowed": "does not allow its user what is needed",
    "misconfigured": "is not set up as it must be",
    "unsupported": "is of a version that is not supported",
}


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one look has found. Ages are in seconds."""

    #: Why a store cannot be used, as the end of a sentence that begins with its name; None: it can.
    mongodb: str | None = None
    redis: str | None = None
    mongodb_wrote_s: float | None = None
    redis_wrote_s: float | None = None
    #: Workers that beat lately. This and what follows is known only while Redis answers.
    workers: tuple[Heartbeat, ...] = ()
    beat_s: float | None = None
    #: How long no worker has led recovery; 0: one does.
    vacant_s: float = 0.0
    waiting: Mapping[Priority, int] = {}


def judge(seen: Seen, heartbeat_s: float) -> Health:
    """What follows for jobs."""
    reasons: list[str] = []
    if seen.mongodb is not None:
        reasons.append(f"MongoDB {seen.mongodb}: submits are refused")
    if seen.redis == TAKEN:
        reasons.append(f"Redis {TAKEN}: submits are refused")
    elif seen.redis is not None:
        also = "" if seen.mongodb is not None else " are accepted, and"
        reasons.append(f"Redis {seen.redis}: jobs{also} wait until it takes writes")
    known = seen.redis is None
    leader = seen.vacant_s <= _VACANT_BEATS * heartbeat_s
    serving = {lane for worker in seen.workers if worker.status != "stopping" for lane in worker.lanes}
    unserved: tuple[Priority, ...] = tuple(
        lane for lane in PRIORITIES if seen.waiting.get(lane) and lane not in serving
    )
    if known and not seen.workers:
        reasons.append("no worker is alive: jobs wait until one starts")
    elif known:
        if not leader:
            reasons.append("no worker leads recovery: delayed jobs, and jobs of workers that died, wait")
        reasons += [
            f"no live worker serves the lane {lane}, where {seen.waiting[lane]:,} jobs wait" for lane in unserved
        ]
    return Health(
        status="down" if seen.mongodb is not None or seen.redis == TAKEN else "degraded" if reasons else "ok",
        redis="up" if seen.redis is None else "down",
        mongodb="up" if seen.mongodb is None else "down",
        workers=len(seen.workers) if known else None,
        leader=leader and bool(seen.workers) if known else None,
        unserved=unserved if known else None,
        mongodb_wrote_s=seen.mongodb_wrote_s,
        redis_wrote_s=seen.redis_wrote_s,
        beat_s=seen.beat_s if known else None,
        reasons=tuple(reasons),
    )


def trouble_of(error: Exception) -> str:
    """Why a store cannot be used, without its address: /health is open to everybody."""
    if isinstance(error, NamespaceTaken):
        return TAKEN
    if isinstance(error, StoreUnavailable):
        if error.store == "Redis":
            for said, means in _REDIS:
                if re.search(said, str(error)):
                    return means
        return _REASONS[error.reason]
    return "does not answer" if isinstance(error, TimeoutError) else "refuses what is needed"


class HealthMonitor:
    """Looks at most once each second, however often it is asked: one script in Redis, one operation of MongoDB."""

    def __init__(self, settings: Settings, broker: Broker, store: Store, opened: Callable[[], Awaitable[None]]) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store
        self._opened = opened
        self._health: tuple[float, Health] | None = None
        self._lock = asyncio.Lock()
        self._mongodb_wrote = self._redis_wrote = float("-inf")
        self._led_at: float | None = None
        #: What workers last said, and when that was read.
        self._beats: tuple[float, tuple[Heartbeat, ...]] = (float("-inf"), ())

    def wrote(self) -> None:
        """MongoDB has taken a write of this process."""
        self._mongodb_wrote = asyncio.get_running_loop().time()

    async def health(self) -> Health:
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._health is None or loop.time() - self._health[0] > FRESH_S:
                self._health = (loop.time(), await self._look())
            return self._health[1]

    async def _look(self) -> Health:
        clock = asyncio.get_running_loop().time
        redis, mongodb = await asyncio.gather(_tried(self._look_at_redis), _tried(self._try_mongodb))
        if mongodb == TAKEN:  # as opening the stores says
            redis, mongodb = TAKEN, None
        now = clock()
        seen = Seen(
            mongodb=mongodb if isinstance(mongodb, str) else None,
            redis=redis if isinstance(redis, str) else None,
            mongodb_wrote_s=_age(now, self._mongodb_wrote),
            redis_wrote_s=_age(now, self._redis_wrote),
        )
        if isinstance(redis, Look):
            seen = self._with(seen, redis, now)
        return judge(seen, self._settings.heartbeat_s)

    def _with(self, seen: Seen, look: Look, now: float) -> Seen:
        if look.led or self._led_at is None:
            self._led_at = now
        ages = {worker: (look.now_ms - score) / 1000 for worker, score in look.scores.items()}
        return msgspec.structs.replace(
            seen,
            workers=tuple(w for w in self._beats[1] if ages.get(w.id, float("inf")) <= self._settings.silence_s),
            beat_s=round(max(0.0, min(ages.values())), 3) if ages else None,
            vacant_s=now - self._led_at,
            waiting=look.depths,
        )

    async def _look_at_redis(self) -> Look:
        clock = asyncio.get_running_loop().time
        look = await self._broker.look(self._settings.lock_s)
        self._redis_wrote = clock()
        read_at, beats = self._beats
        if set(look.scores) - {beat.id for beat in beats} or (look.scores and clock() - read_at > _BEATS_S):
            self._beats = (clock(), tuple(await self._broker.workers()))
        return look

    async def _try_mongodb(self) -> None:
        await self._opened()
        clock = asyncio.get_running_loop().time
        if clock() - self._mongodb_wrote <= WRITE_S:
            await self._store.ping()
            return
        await self._store.probe()
        self._mongodb_wrote = clock()


async def _tried(ask: Callable[[], Awaitable[Look | None]]) -> Look | str | None:
    """What it brought; or why the store cannot be used."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await ask()
    except (DtqError, TimeoutError) as error:
        return trouble_of(error)
    except Exception as error:
        log.warning("a look at a store failed: %s", type(error).__name__, exc_info=error)
        return trouble_of(error)


def _age(now: float, at: float) -> float | None:
    return None if at == float("-inf") else round(max(0.0, now - at), 3)
