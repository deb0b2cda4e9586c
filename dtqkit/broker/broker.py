"""Everything that is asked of Redis, for one namespace, on one event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from redis.commands.core import AsyncScript

from dtqkit.broker.client import connect, told
from dtqkit.broker.keys import Keys, member, split_member
from dtqkit.events import Batch, Depths, Heartbeat, ProgressEvent, decode_batch, encode_batch
from dtqkit.jobs import PRIORITIES, Priority
from dtqkit.settings import Settings

#: How long a cancel stays listed; the leader lists it again while it is needed.
CANCEL_S: Final = 60.0
#: The longest blocking pop.
BLOCK_S: Final = 10.0
#: How long the progress of a job is kept after it was last shown.
LIVE_S: Final = 120.0
#: Quiet seconds after which a subscription is tested.
ANSWER_POLL_S: Final = 20.0
#: Ids in one RPUSH.
_CHUNK: Final = 5000


@cache
def script(name: str) -> str:
    """The text of one of our Lua scripts."""
    return (Path(__file__).parent / "lua" / f"{name}.lua").read_text()


class Tick(msgspec.Struct, frozen=True):
    """What the leader's tick found: ids put back, ids that were due, and the workers' last beats by id (ms)."""

    leads: bool
    now_ms: float
    swept: int
    moved: int
    #: Keys of a wrong type that were removed.
    mended: int
    #: Redis's run_id when the lanes were last known to be complete, and now.
    epoch: str
    run_id: str
    scores: dict[str, str]


class Look(msgspec.Struct, frozen=True):
    """A look at Redis, which has just taken a write: whether somebody leads, jobs by lane, and the last beats (ms)."""

    now_ms: float
    led: bool
    depths: dict[Priority, int]
    scores: dict[str, float]


class Listed(msgspec.Struct, frozen=True):
    """What Redis lists: ids in the lanes, and members with scores (ms) in the sets."""

    #: Redis's clock, by which `inflight` is scored; `scheduled` is by MongoDB's.
    now_ms: float
    lanes: set[str]
    inflight: dict[str, float]
    scheduled: dict[str, float]


class Broker:
    """Redis as the queue uses it. Methods raise StoreUnavailable when it is away."""

    def __init__(self, settings: Settings) -> None:
        self.keys: Final = Keys.of(settings.namespace)
        #: How long a popped id may stay unclaimed before the sweeper puts it back, in seconds.
        self.inflight_s: Final = settings.inflight_s
        self._url = settings.redis_url
        self._redis = connect(self._url)
        self._fetch = self._script("fetch")
        self._take = self._script("take")
        self._lead = self._script("lead")
        self._forget = self._script("forget")
        self._prune = self._script("prune")
        self._epoch = self._script("epoch")
        self._resign = self._script("resign")
        self._put_back = self._script("put_back")
        self._ask_to_stop = self._script("ask_to_stop")
        self._look = self._script("look")

    def _script(self, name: str) -> AsyncScript:
        return self._redis.register_script(script(name))

    async def close(self) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        with told(self._url):
            await cast(Any, self._redis).ping()

    async def look(self, lock_s: float) -> Look:
        """Whether it takes writes, and who is there, in one command. Raises StoreUnavailable with Redis's words."""
        keys = self.keys
        with told(self._url):
            now, led, depths, scores = cast(
                tuple[int, int, list[int], list[str]],
                await self._look(
                    keys=[keys.probe, keys.leader, keys.workers, *keys.lanes()], args=[int(lock_s * 1000)]
                ),
            )
        by_worker = {worker: float(score) for worker, score in zip(scores[::2], scores[1::2], strict=True)}
        return Look(now, bool(led), dict(zip(PRIORITIES, depths, strict=True)), by_worker)

    async def eviction(self) -> str | None:
        """Under which policy keys may be evicted when memory runs short; None: never, or Redis does not tell."""
        with told(self._url):
            memory = cast("dict[str, Any]", await cast(Any, self._redis).info("memory"))
        policy = memory.get("maxmemory_policy", "noeviction")
        return None if policy == "noeviction" else str(policy)

    # -- lanes

    async def push(
        self,
        ready: Mapping[Priority, Sequence[str]],
        scheduled: Mapping[str, float] | None = None,
        events: bytes | None = None,
    ) -> None:
        """Append ids to their lanes, note those due later (member -> ms), and publish, in one round trip."""
        keys = self.keys
        pipe = cast(Any, self._redis.pipeline(transaction=False))
        for priority, ids in ready.items():
            lane = keys.lane(priority)
            for start in range(0, len(ids), _CHUNK):
                pipe.rpush(lane, *ids[start : start + _CHUNK])
        if scheduled:
            pipe.zadd(keys.scheduled, dict(scheduled))
        if events is not None:
            pipe.publish(keys.events, events)
        with told(self._url, "push"):
            await pipe.execute()

    async def put_back(self, members: Mapping[str, float]) -> None:
        """List jobs that have had their turn already: at the front of their lanes, so many ms from now."""
        with told(self._url, "put_back"):
            await self._put_back(keys=[self.keys.inflight], args=[x for pair in members.items() for x in pair])

    async def fetch(self, lanes: Sequence[Priority], limit: int, claimed: Sequence[str]) -> list[str]:
        """Pop up to `limit` members in the order of `lanes`, noted as in flight; forget the `claimed` ones."""
        with told(self._url, "fetch"):
            members = await self._fetch(
                keys=[self.keys.inflight, *self.keys.lanes(lanes)],
                args=[limit, int(self.inflight_s * 1000), *lanes, *claimed],
            )
        return cast(list[str], members)

    async def unpop(self, members: Sequence[str]) -> None:
        """Put back what was popped and cannot run here now: to the front of its lane, in the order given."""
        lanes: dict[Priority, list[str]] = {}
        for name in members:
            priority, job_id = split_member(name)
            lanes.setdefault(priority, []).append(job_id)
        pipe = cast(Any, self._redis.pipeline(transaction=False))
        for priority, ids in lanes.items():
            pipe.lpush(self.keys.lane(priority), *reversed(ids))
        pipe.zrem(self.keys.inflight, *members)
        with told(self._url, "unpop"):
            await pipe.execute()

    async def peek(self, lanes: Sequence[Priority], start: int, count: int) -> list[str]:
        """Up to `count` members of each lane from position `start` on, in the order of `lanes`; they stay there."""
        pipe = cast(Any, self._redis.pipeline(transaction=False))
        for lane in self.keys.lanes(lanes):
            pipe.lrange(lane, start, start + count - 1)
        with told(self._url):
            found = cast("list[list[str]]", await pipe.execute())
        return [member(lane, job_id) for lane, ids in zip(lanes, found, strict=True) for job_id in ids]

    async def take(self, members: Sequence[str]) -> list[str]:
        """Take these out of their lanes, noted as in flight; returns those that were there."""
        parts = [split_member(name) for name in members]
        lanes: list[Priority] = list(dict.fromkeys(priority for priority, _ in parts))
        args = [str(x) for (p, job), name in zip(parts, members, strict=True) for x in (lanes.index(p) + 2, name, job)]
        with told(self._url, "take"):
            taken = await self._take(
                keys=[self.keys.inflight, *self.keys.lanes(lanes)], args=[int(self.inflight_s * 1000), *args]
            )
        return cast("list[str]", taken)

    def popper(self, lanes: Sequence[Priority]) -> Popper:
        """The blocking pop of an idle worker, on a connection of its own."""
        return Popper(self._url, self.keys, lanes)

    async def depths(self) -> Depths:
        """Lengths of lanes and of the schedule; what runs and waits longest is MongoDB's to say."""
        pipe = cast(Any, self._redis.pipeline(transaction=False))
        for lane in self.keys.lanes():
            pipe.llen(lane)
        pipe.zcard(self.keys.scheduled)
        with told(self._url):
            high, medium, low, scheduled = cast(list[int], await pipe.execute())
        return Depths(high=high, medium=medium, low=low, scheduled=scheduled)

    # -- liveness

    async def lead(
        self, candidate: str, lock_s: float, *, due_ms: float | None = None, move_limit: int = 10_000
    ) -> Tick:
        """Take or keep the leader's lock; if held, put back what is overdue and move what is due.

        What is scheduled is due by `due_ms`, MongoDB's clock: Redis's own may be another one.
        """
        keys = self.keys
        with told(self._url, "lead"):
            leads, now, swept, moved, mended, epoch, run_id, scores = cast(
                tuple[int, int, int, int, int, str, str, list[str]],
                await self._lead(
                    keys=[
                        keys.leader,
                        keys.inflight,
                        keys.scheduled,
                        keys.workers,
                        keys.cancels,
                        keys.epoch,
                        *keys.lanes(),
                    ],
                    args=[candidate, int(lock_s * 1000), move_limit, *(() if due_ms is None else (due_ms,))],
                ),
            )
        by_worker = dict(zip(scores[::2], scores[1::2], strict=True))
        return Tick(bool(leads), now, swept, moved, mended, epoch, run_id, by_worker)

    async def resign(self, candidate: str) -> None:
        with told(self._url):
            await self._resign(keys=[self.keys.leader], args=[candidate])

    async def forget(self, worker_id: str, score: str) -> bool:
        """Drop a worker whose score is still `score`."""
        with told(self._url, "forget"):
            gone = await self._forget(keys=[self.keys.workers, self.keys.worker(worker_id)], args=[worker_id, score])
        return bool(gone)

    async def workers(self) -> tuple[Heartbeat, ...]:
        """What each known worker last said of itself, with the age of its beat."""
        with told(self._url):
            pipe = cast(Any, self._redis.pipeline(transaction=False))
            pipe.time()
            pipe.zrange(self.keys.workers, 0, -1, withscores=True)
            (seconds, micros), scored = cast(tuple[tuple[int, int], list[tuple[str, float]]], await pipe.execute())
            pipe = cast(Any, self._redis.pipeline(transaction=False))
            for worker_id, _ in scored:
                pipe.hmget(self.keys.worker(worker_id), "beat", "tasks")
            texts = cast("list[tuple[str | None, str | None]]", await pipe.execute())
        now = seconds + micros / 1e6
        beats: list[Heartbeat] = []
        for (_, score), (text, tasks) in zip(scored, texts, strict=True):
            try:
                beat = msgspec.json.decode(text or "", type=Heartbeat)
                names = msgspec.json.decode(tasks, type=tuple[str, ...]) if tasks else None
            except msgspec.DecodeError:
                continue
            beats.append(msgspec.structs.replace(beat, tasks=names, age_s=max(0.0, now - score / 1000)))
        return tuple(sorted(beats, key=lambda b: b.name))

    # -- audit

    async def listed(self) -> Listed:
        """Every id in the lanes and in the sets, a piece at a time: what moves meanwhile may be missed or seen twic."""
        keys = self.keys
        lanes: set[str] = set()
        with told(self._url):
            seconds, micros = cast(tuple[int, int], await cast(Any, self._redis).time())
            for lane in keys.lanes():
                for start in range(0, int(await cast(Any, self._redis.llen(lane))), _CHUNK):
                    lanes.update(await cast(Any, self._redis.lrange(lane, start, start + _CHUNK - 1)))
            inflight = cast(
                list[tuple[str, float]], await cast(Any, self._redis).zrange(keys.inflight, 0, -1, withscores=True)
            )
            scheduled = cast(
                list[tuple[str, float]], await cast(Any, self._redis).zrange(keys.scheduled, 0, -1, withscores=True)
            )
        return Listed(seconds * 1000 + micros / 1000, lanes, dict(inflight), dict(scheduled))

    async def listed_count(self) -> int:
        """How many ids there are in the lanes and in the sets."""
        pipe = cast(Any, self._redis.pipeline(transaction=False))
        for lane in self.keys.lanes():
            pipe.llen(lane)
        pipe.zcard(self.keys.inflight)
        pipe.zcard(self.keys.scheduled)
        with told(self._url):
            return sum(cast(list[int], await pipe.execute()))

    async def prune(self, *, inflight: Mapping[str, float], scheduled: Mapping[str, float]) -> int:
        """Drop members whose score is still as given; returns how many."""
        dropped = 0
        with told(self._url, "prune"):
            for key, members in ((self.keys.inflight, inflight), (self.keys.scheduled, scheduled)):
                flat = [str(x) for m, score in members.items() for x in (m, f"{score:.17g}")]
                for start in range(0, len(flat), 2 * _CHUNK):
                    part = flat[start : start + 2 * _CHUNK]
                    dropped += cast(int, await self._prune(keys=[key], args=part))
        return dropped

    async def begin_epoch(self, nonce: str) -> None:
        with told(self._url, "epoch.begin"):
            await cast(Any, self._redis.set(self.keys.epoch_building, nonce, ex=3600))

    async def finish_epoch(self, nonce: str, run_id: str) -> bool:
        """Say that the lanes are complete; False when Redis was emptied, or another leader began, in between."""
        with told(self._url, "epoch.finish"):
            done = await self._epoch(keys=[self.keys.epoch, self.keys.epoch_building], args=[nonce, run_id])
        return bool(done)

    async def note_rounds(self, rounds: bytes) -> None:
        """Keep what the leader's rounds did, for whoever asks how recovery fares."""
        with told(self._url):
            await cast(Any, self._redis.set(self.keys.rounds, rounds, ex=3600))

    async def rounds(self) -> str | None:
        """What `note_rounds` kept."""
        with told(self._url):
            return cast("str | None", await cast(Any, self._redis.get(self.keys.rounds)))

    # -- bus

    async def ask_to_stop(self, job_ids: Iterable[str]) -> None:
        """List jobs whose running attempt is to be stopped; workers read the list with each beat."""
        if ids := list(job_ids):
            with told(self._url, "ask_to_stop"):
                await self._ask_to_stop(keys=[self.keys.cancels], args=[int(CANCEL_S * 1000), *ids])

    async def show(self, news: Sequence[ProgressEvent]) -> None:
        """Keep the progress and the log's tail of running jobs where a late watcher finds them, and publish them."""
        pipe = cast(Any, self._redis.pipeline(transaction=False))
        for event in news:
            pipe.set(self.keys.live(event.id), msgspec.json.encode(event), px=int(LIVE_S * 1000))
        pipe.publish(self.keys.events, encode_batch(progress=news))
        with told(self._url):
            await pipe.execute()

    async def lives(self, job_ids: Sequence[str]) -> dict[str, ProgressEvent]:
        """What these running jobs last showed, by id, as far as they did."""
        with told(self._url):
            texts = cast("list[str | None]", await cast(Any, self._redis.mget([self.keys.live(i) for i in job_ids])))
        found: dict[str, ProgressEvent] = {}
        for text in texts:
            try:
                event = msgspec.json.decode(text, type=ProgressEvent) if text else None
            except msgspec.DecodeError:
                continue
            if event is not None:
                found[event.id] = event
        return found

    async def publish(self, events: bytes) -> None:
        with told(self._url, "publish"):
            await cast(Any, self._redis).publish(self.keys.events, events)

    async def listen(self) -> AsyncIterator[Batch | None]:
        """Batches of events, for ever. Yields None first, whenever it has just subscribed: events before that are lost.

        Raises StoreUnavailable when the connection is lost.
        """
        with told(self._url):
            async with self._redis.pubsub() as pubsub:  # pyright: ignore[reportUnknownMemberType]
                await pubsub.subscribe(self.keys.events)
                while True:
                    message = cast(dict[str, Any] | None, await pubsub.get_message(timeout=ANSWER_POLL_S))
                    if message is None:
                        # A quiet line is tested, so that a dead one is noticed.
                        await cast(Any, pubsub).ping()
                    elif message["type"] == "subscribe":
                        yield None
                    elif message["type"] == "message":
                        yield decode_batch(message["data"].encode())


class Popper:
    """One idle worker's blocking pop; `interrupt()` ends it without losing an id."""

    def __init__(self, url: str, keys: Keys, lanes: Sequence[Priority]) -> None:
        self._url = url
        self._lanes: dict[str, Priority] = {keys.lane(p): p for p in lanes}
        self._redis = connect(url, answer_s=BLOCK_S + 3.0, single=True)
        self._side = connect(url)
        self._client_id: int | None = None

    async def pop(self, timeout_s: float = BLOCK_S) -> str | None:
        """The next member by priority, or None after `timeout_s`. A pop that is lost is found by the audit."""
        with told(self._url, "pop"):
            if self._client_id is None:
                self._client_id = int(cast(int, await cast(Any, self._redis).client_id()))
            try:
                answer = cast(
                    "tuple[str, str] | None",
                    await cast(Any, self._redis.blpop(list(self._lanes), timeout=timeout_s)),
                )
            except BaseException:
                self._client_id = None  # the connection may be another one next time
                raise
        return None if answer is None else member(self._lanes[answer[0]], answer[1])

    async def interrupt(self) -> None:
        """Make a `pop` that is under way return None (or the id that it has got) now."""
        if self._client_id is not None:
            with told(self._url):
                await cast(Any, self._side).client_unblock(self._client_id)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._side.aclose()
