"""Whether jobs can be accepted and run: from the last look at the stores and the workers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, TypeVar

import msgspec

from dtqkit.broker import Broker
from dtqkit.broker.found import Look
from dtqkit.control import Health
from dtqkit.model.errors import DtqError, NamespaceTaken, Reason, StoreUnavailable
from dtqkit.model.events import Heartbeat
from dtqkit.model.jobs import PRIORITIES, Priority
from dtqkit.model.settings import Settings
from dtqkit.store import Store

_T = TypeVar("_T")

log = logging.getLogger("dtqkit.queue")

#: How long a look is used, in seconds.
FRESH_S: Final = 1.0
#: How long a write to MongoDB proves that it takes writes, in seconds: then a small one is made.
WRITE_S: Final = 10.0
#: How long one store may take to answer, and how long an answer that came later counts, while the next is late too.
_ANSWER_S: Final = 2.0
_LATE_S: Final = 15.0
_NO_ANSWER: Final = "does not answer"
#: How long the workers' reports are used, while nothing about them changes.
_BEATS_S: Final = 15.0
#: Beats without a leader after which there is none: another candidate takes over within two.
_VACANT_BEATS: Final = 4.0

#: Of a Redis where another record's jobs are listed.
TAKEN: Final = "lists jobs of another MongoDB database under this DTQ_NAMESPACE"
#: What each reason of a StoreUnavailable means.
_REASONS: Final[Mapping[Reason, str]] = {
    "away": _NO_ANSWER,
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
    #: Pauses in force; None: not known.
    pauses: int | None = None
    #: Workers that beat lately. This and what follows is known only while Redis answers.
    workers: tuple[Heartbeat, ...] = ()
    beat_s: float | None = None
    #: For how long no worker has led recovery, and whether one was seen leading before.
    vacant_s: float = 0.0
    led: bool = True
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
    vacant = seen.vacant_s > _VACANT_BEATS * heartbeat_s
    serving = {lane for worker in seen.workers if worker.status != "stopping" for lane in worker.lanes}
    unserved: tuple[Priority, ...] = tuple(
        lane for lane in PRIORITIES if seen.waiting.get(lane) and lane not in serving
    )
    if known and not seen.workers:
        reasons.append("no worker is alive: jobs wait until one starts")
    elif known:
        if vacant:
            reasons.append("no worker leads recovery: delayed jobs, and jobs of lost workers, wait")
        reasons += [
            f"no live worker serves the lane {lane}, where {seen.waiting[lane]:,} jobs wait" for lane in unserved
        ]
    return Health(
        status="down" if seen.mongodb is not None or seen.redis == TAKEN else "degraded" if reasons else "ok",
        redis="up" if seen.redis is None else "down",
        mongodb="up" if seen.mongodb is None else "down",
        workers=len(seen.workers) if known else None,
        leader=_leader(seen, vacant=vacant) if known else None,
        unserved=unserved if known else None,
        pauses=seen.pauses,
        mongodb_wrote_s=seen.mongodb_wrote_s,
        redis_wrote_s=seen.redis_wrote_s,
        beat_s=seen.beat_s if known else None,
        reasons=tuple(reasons),
    )


def _leader(seen: Seen, *, vacant: bool) -> bool | None:
    """Whether a worker leads; None: not known yet."""
    if vacant or not seen.workers:
        return False
    return True if seen.led else None


def trouble_of(error: Exception) -> str:
    """Why a store cannot be used, without its address: /health is open to everybody."""
    if isinstance(error, NamespaceTaken):
        return TAKEN
    if isinstance(error, StoreUnavailable):
        return error.brief or _REASONS[error.reason]
    return "refuses what is needed"


class Asked(Generic[_T]):
    """A question to a store, which is never cancelled: that would close its connection, and the next would start over.

    Callers that ask while one is under way share it.
    """

    def __init__(self, ask: Callable[[], Awaitable[_T]]) -> None:
        self._ask = ask
        self._task: asyncio.Task[tuple[float, _T | str]] | None = None
        #: The process is stopping: an error now says nothing about the store.
        self.leaving = False

    async def answer(self) -> _T | str:
        """The answer, or why the store cannot be used."""
        #: What the last question brought, if it was answered after its caller had gone.
        earlier: tuple[float, _T | str] | None = None
        if self._task is None or self._task.done():
            earlier = None if self._task is None else self._task.result()
            self._task = asyncio.create_task(self._tried(), name="look at a store")
        await asyncio.wait({self._task}, timeout=_ANSWER_S)
        if self._task.done():
            (_, found), self._task = self._task.result(), None
            return found
        if earlier is not None and asyncio.get_running_loop().time() - earlier[0] <= _LATE_S:
            return earlier[1]
        return _NO_ANSWER

    async def close(self) -> None:
        """After the store was closed, which ends what is under way."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_ANSWER_S)
            self._task.cancel()

    async def _tried(self) -> tuple[float, _T | str]:
        try:
            found = await self._ask()
        except DtqError as error:
            found = trouble_of(error)
        except Exception as error:
            if not self.leaving:
                log.warning("a check of a store failed: %s", type(error).__name__, exc_info=error)
            found = trouble_of(error)
        return asyncio.get_running_loop().time(), found


class HealthMonitor:
    """Looks at most once each second, however often it is asked: one script in Redis, two operations of MongoDB."""

    def __init__(self, settings: Settings, broker: Broker, store: Store, opened: Callable[[], Awaitable[None]]) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store
        self._opened = opened
        self._redis = Asked(self._look_at_redis)
        self._mongodb = Asked(self._try_mongodb)
        self._pauses = Asked(self._count_pauses)
        self._health: tuple[float, Health] | None = None
        self._lock = asyncio.Lock()
        self._redis_wrote = float("-inf")
        #: Whether a leader was seen since Redis answers, and since when it is seen that there is none.
        self._led = False
        self._vacant_at: float | None = None
        #: What workers last said, and when that was read.
        self._beats: tuple[float, tuple[Heartbeat, ...]] = (float("-inf"), ())

    async def health(self) -> Health:
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._health is None or loop.time() - self._health[0] > FRESH_S:
                self._health = (loop.time(), await self._look())
            return self._health[1]

    def leave(self) -> None:
        """Before the stores are closed: what that does to a look is not logged."""
        self._redis.leaving = self._mongodb.leaving = self._pauses.leaving = True

    async def close(self) -> None:
        await asyncio.gather(self._redis.close(), self._mongodb.close(), self._pauses.close())

    async def _look(self) -> Health:
        clock = asyncio.get_running_loop().time
        asked = (self._redis.answer(), self._mongodb.answer(), self._pauses.answer())
        redis, mongodb, pauses = await asyncio.gather(*asked)
        if mongodb == TAKEN:  # as opening the stores says
            redis, mongodb = TAKEN, None
        now = clock()
        seen = Seen(
            mongodb=mongodb if isinstance(mongodb, str) else None,
            redis=redis if isinstance(redis, str) else None,
            mongodb_wrote_s=_age(time.monotonic(), self._store.inserted_at),
            redis_wrote_s=_age(now, self._redis_wrote),
            pauses=None if isinstance(pauses, str) else pauses,
        )
        if isinstance(redis, Look):
            seen = self._with(seen, redis, now)
        else:  # it may be back before another worker has taken over
            self._led, self._vacant_at = False, None
        return judge(seen, self._settings.heartbeat_s)

    def _with(self, seen: Seen, look: Look, now: float) -> Seen:
        if look.led:
            self._led, self._vacant_at = True, None
        elif self._vacant_at is None:
            self._vacant_at = now
        ages = {worker: (look.now_ms - score) / 1000 for worker, score in look.scores.items()}
        return msgspec.structs.replace(
            seen,
            workers=tuple(w for w in self._beats[1] if ages.get(w.id, float("inf")) <= self._settings.silence_s),
            beat_s=round(max(0.0, min(ages.values())), 3) if ages else None,
            vacant_s=0.0 if self._vacant_at is None else now - self._vacant_at,
            led=self._led,
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
        if time.monotonic() - self._store.inserted_at <= WRITE_S:
            await self._store.ping()
        else:
            await self._store.probe()

    async def _count_pauses(self) -> int:
        await self._opened()
        return len((await self._store.pauses.read()).at(self._store.now()).pauses)


def _age(now: float, at: float) -> float | None:
    return None if at == float("-inf") else round(max(0.0, now - at), 3)
