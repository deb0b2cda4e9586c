"""All operations on Redis, for one namespace and one event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from redis.exceptions import ResponseError

from dtqkit.broker.bus import listen
from dtqkit.broker.client import unavailable
from dtqkit.broker.found import Listed, RedisState, Tick, beats_of
from dtqkit.broker.keys import Keys, member, split_member
from dtqkit.broker.link import Condition, RedisLink
from dtqkit.broker.parking import Parking
from dtqkit.broker.popper import Popper
from dtqkit.broker.rights import check_rights
from dtqkit.broker.unlisted import Ready, Scheduled, Unlisted
from dtqkit.model.errors import NamespaceTaken, StoreUnavailable
from dtqkit.model.events import Batch, Depths, Heartbeat, ProgressEvent, encode_batch
from dtqkit.model.jobs import PRIORITIES, Priority
from dtqkit.model.settings import Settings

#: How long a cancel request stays listed, in seconds; the leader lists it again while it is needed.
CANCEL_S: Final = 60.0
#: How long the progress of a job is kept after its last update, in seconds.
LIVE_S: Final = 120.0
#: Ids in one call of a script.
_CHUNK: Final = 5000


class Broker:
    """Redis as the queue uses it. Methods raise StoreUnavailable when it is away."""

    def __init__(self, settings: Settings) -> None:
        #: How long a popped id may stay unclaimed before the sweeper puts it back, in seconds.
        self.inflight_s: Final = settings.inflight_s
        self._link = RedisLink(settings.redis_url, settings.namespace)
        self.parking = Parking(self._link)
        self._unlisted = Unlisted(self._push, self._put_back)

    @property
    def keys(self) -> Keys:
        """The key names on this server; known for certain after its first answer."""
        return self._link.keys

    @property
    def record(self) -> str:
        """The id of the record whose jobs are listed here; empty before `open`."""
        return self._link.record

    @property
    def condition(self) -> Condition:
        """How the latest writes of this process to Redis went."""
        return self._link.condition

    async def open(self, record: str) -> None:
        """Use Redis for the jobs of this record. Raises NamespaceTaken when it lists the jobs of another record."""
        self._link.record = record
        await self.ask_owner()

    @property
    def owned(self) -> bool:
        """Whether Redis, by its last answer, lists the jobs of our record."""
        return self._link.owned

    def check_owner(self) -> None:
        """Raises NamespaceTaken if Redis, by its last answer, lists the jobs of another record."""
        if self._link.taken is not None:
            raise unavailable(self._link.url, self._link.taken)

    async def ask_owner(self) -> None:
        """Ask Redis which record's jobs it lists. Raises NamespaceTaken when it is another record."""
        async with self._link.asking():
            await self._link.run("check", [], [])

    async def check_rights(self) -> None:
        """Raises StoreUnavailable, which names the missing rights, when the user may not run all necessary commands."""
        async with self._link.asking() as keys:
            await check_rights(self._link.redis, keys)

    async def close(self) -> None:
        await self._unlisted.close()
        await self._link.close()

    async def look(self, lock_s: float) -> RedisState:
        """In one command: check that Redis takes writes; depths, leader and workers. Raises StoreUnavailable."""
        async with self._link.asking(writes=True) as keys:
            now, led, depths, scores = cast(
                tuple[int, int, list[int], list[str]],
                await self._link.run(
                    "look", [keys.probe, keys.leader, keys.workers, *keys.lanes()], [int(lock_s * 1000)]
                ),
            )
        by_worker = {worker: float(score) for worker, score in zip(scores[::2], scores[1::2], strict=True)}
        return RedisState(now, bool(led), dict(zip(PRIORITIES, depths, strict=True)), by_worker)

    async def eviction(self) -> str | None:
        """The policy by which keys may be evicted; None: no eviction, or Redis does not report it."""
        async with self._link.asking():
            try:
                memory = cast("dict[str, Any]", await self._link.raw.info("memory"))
            except ResponseError:  # the user may lack the right to INFO, which is not required
                return None
        policy = memory.get("maxmemory_policy", "noeviction")
        return None if policy == "noeviction" else str(policy)

    # -- lanes

    async def push(self, ready: Ready, scheduled: Scheduled | None = None, events: bytes | None = None) -> None:
        """Append ids to their lanes, schedule those due later (member -> ms), and publish.

        Ids that are refused are listed as soon as Redis takes writes, while this process runs.
        """
        try:
            await self._push(ready, scheduled or {}, events)
        except NamespaceTaken:
            raise
        except (StoreUnavailable, asyncio.CancelledError):
            self.push_later(ready, scheduled or {})
            raise

    def push_later(self, ready: Ready, scheduled: Scheduled) -> None:
        """List them as soon as Redis takes writes: it has just refused a write."""
        self._unlisted.add(ready, scheduled)

    async def _push(self, ready: Ready, scheduled: Scheduled, events: bytes | None = None) -> None:
        lanes = list(ready)
        pairs = list(scheduled.items())
        longest = max([len(pairs), *map(len, ready.values())], default=0)
        async with self._link.asking("push", writes=True) as keys:
            for start in range(0, max(1, longest), _CHUNK):
                some = pairs[start : start + _CHUNK]
                args: list[Any] = [keys.events, events or "", len(some), *(x for m, ms in some for x in (ms, m))]
                for lane in lanes:
                    ids = ready[lane][start : start + _CHUNK]
                    args += [len(ids), *ids]
                await self._link.run("push", [keys.scheduled, *keys.lanes(lanes)], args)
                events = None

    async def put_back(self, members: Mapping[str, float]) -> None:
        """List jobs that were popped before: at the front of their lanes, so many ms from now.

        Ids that are refused are put back as soon as Redis takes writes, while this process runs.
        """
        try:
            await self._put_back(members)
        except NamespaceTaken:
            raise
        except (StoreUnavailable, asyncio.CancelledError):
            self._unlisted.add_again(members)
            raise

    async def _put_back(self, members: Mapping[str, float]) -> None:
        async with self._link.asking("put_back") as keys:
            await self._link.run("put_back", [keys.inflight], [x for pair in members.items() for x in pair])

    async def fetch(self, lanes: Sequence[Priority], limit: int, claimed: Sequence[str]) -> list[str]:
        """Pop up to `limit` members in the order of `lanes`, noted as in flight; unlist `claimed` ones there."""
        async with self._link.asking("fetch") as keys:
            members = await self._link.run(
                "fetch",
                [keys.inflight, *keys.lanes(lanes)],
                [limit, int(self.inflight_s * 1000), *lanes, *claimed],
            )
        return cast(list[str], members)

    async def unpop(self, members: Sequence[str]) -> None:
        """Put back popped members that cannot run here now: to the front of their lanes, in the order given."""
        lanes: dict[Priority, list[str]] = {}
        for name in members:
            priority, job_id = split_member(name)
            lanes.setdefault(priority, []).append(job_id)
        args: list[Any] = []
        for ids in lanes.values():
            args += [len(ids), *reversed(ids)]
        async with self._link.asking("unpop") as keys:
            await self._link.run("unpop", [keys.inflight, *keys.lanes(lanes)], [*args, *members])

    async def peek(self, lanes: Sequence[Priority], starts: Sequence[int], count: int) -> list[list[str]]:
        """For each position: up to `count` members of each lane from there on, in the order of `lanes`. Pops none."""
        places: list[tuple[int, Priority]] = [(start, lane) for start in starts for lane in lanes]
        async with self._link.asking() as keys:
            pipe = self._link.pipeline()
            for (start, _), key in zip(places, keys.lanes(lanes) * len(starts), strict=True):
                pipe.lrange(key, start, start + count - 1)
            found = cast("list[list[str]]", await pipe.execute())
        seen: dict[int, list[str]] = {start: [] for start in starts}
        for (start, lane), ids in zip(places, found, strict=True):
            seen[start] += [member(lane, job_id) for job_id in ids]
        return list(seen.values())

    async def take(self, members: Sequence[str]) -> list[str]:
        """Remove these from their lanes and note them as in flight; returns those that were listed."""
        parts = [split_member(name) for name in members]
        lanes: list[Priority] = list(dict.fromkeys(priority for priority, _ in parts))
        args = [str(x) for (p, job), name in zip(parts, members, strict=True) for x in (lanes.index(p) + 2, name, job)]
        async with self._link.asking("take") as keys:
            taken = await self._link.run(
                "take", [keys.inflight, *keys.lanes(lanes)], [int(self.inflight_s * 1000), *args]
            )
        return cast("list[str]", taken)

    def popper(self, lanes: Sequence[Priority]) -> Popper:
        """The blocking pop of an idle worker, on a connection of its own."""
        return Popper(self._link, lanes)

    async def depths(self) -> Depths:
        """Lengths of lanes and of the schedule. MongoDB knows what runs, and what has waited longest."""
        async with self._link.asking() as keys:
            pipe = self._link.pipeline()
            for lane in keys.lanes():
                pipe.llen(lane)
            pipe.zcard(keys.scheduled)
            high, medium, low, scheduled = cast(list[int], await pipe.execute())
        return Depths(high=high, medium=medium, low=low, scheduled=scheduled)

    # -- liveness

    async def lead(
        self, candidate: str, lock_s: float, *, due_ms: float | None = None, move_limit: int = 10_000
    ) -> Tick:
        """Take or renew the leader's lock; if held, put back overdue ids in flight and move scheduled ids that are due.

        Scheduled ids are due up to `due_ms` by MongoDB's clock, which may differ from that of Redis.
        """
        async with self._link.asking("lead", writes=True) as keys:
            leads, now, swept, moved, mended, epoch, run_id, scores, parked, pauses, schedules = cast(
                tuple[int, int, int, int, int, str, str, list[str], int, str, str],
                await self._link.run(
                    "lead",
                    [
                        *(keys.leader, keys.inflight, keys.scheduled, keys.workers, keys.cancels, keys.epoch),
                        *(*keys.lanes(), keys.parked, keys.pauses, keys.schedules),
                    ],
                    [candidate, int(lock_s * 1000), move_limit, *(() if due_ms is None else (due_ms,))],
                ),
            )
        by_worker = dict(zip(scores[::2], scores[1::2], strict=True))
        run_id = run_id or self._link.connection_id
        return Tick(bool(leads), now, swept, moved, mended, epoch, run_id, by_worker, parked, pauses, schedules)

    async def note_schedules(self) -> None:
        """A schedule has changed: the leader looks at them with its next tick."""
        async with self._link.asking() as keys:
            await self._link.raw.set(keys.schedules, secrets.token_hex(8), ex=3600)

    async def resign(self, candidate: str) -> None:
        async with self._link.asking() as keys:
            await self._link.run("resign", [keys.leader], [candidate])

    async def forget(self, worker_id: str, score: str) -> bool:
        """Remove a worker if its score is still `score`."""
        async with self._link.asking("forget") as keys:
            gone = await self._link.run("forget", [keys.workers, keys.worker(worker_id)], [worker_id, score])
        return bool(gone)

    async def workers(self) -> tuple[Heartbeat, ...]:
        """The last heartbeat of each known worker, with its age."""
        async with self._link.asking() as keys:
            pipe = self._link.pipeline()
            pipe.time()
            pipe.zrange(keys.workers, 0, -1, withscores=True)
            (seconds, micros), scored = cast(tuple[tuple[int, int], list[tuple[str, float]]], await pipe.execute())
            pipe = self._link.pipeline()
            for worker_id, _ in scored:
                pipe.hmget(keys.worker(worker_id), "beat", "tasks")
            texts = cast("list[tuple[str | None, str | None]]", await pipe.execute())
        return beats_of(seconds + micros / 1e6, scored, texts)

    # -- audit

    async def listed(self, progressed: Callable[[], None]) -> Listed:
        """Every id in the lanes and in the sets, read in pieces: ids that move meanwhile may be missed or seen twice.

        `progressed` is called after each piece.
        """
        lanes: set[str] = set()
        async with self._link.asking() as keys:
            seconds, micros = cast(tuple[int, int], await self._link.raw.time())
            for lane in keys.lanes():
                for start in range(0, int(await self._link.raw.llen(lane)), _CHUNK):
                    lanes.update(await self._link.raw.lrange(lane, start, start + _CHUNK - 1))
                    progressed()
            inflight = await self._scores(keys.inflight, progressed)
            scheduled = await self._scores(keys.scheduled, progressed)
            parked = await self._scores(keys.parked, progressed)
        return Listed(seconds * 1000 + micros / 1000, lanes, inflight, scheduled, parked)

    async def _scores(self, key: str, progressed: Callable[[], None]) -> dict[str, float]:
        redis = self._link.raw
        found: dict[str, float] = {}
        for start in range(0, int(await redis.zcard(key)), _CHUNK):
            some = await redis.zrange(key, start, start + _CHUNK - 1, withscores=True)
            found.update(cast("list[tuple[str, float]]", some))
            progressed()
        return found

    async def listed_count(self) -> int:
        """The number of ids in the lanes and in the sets."""
        async with self._link.asking() as keys:
            pipe = self._link.pipeline()
            for lane in keys.lanes():
                pipe.llen(lane)
            for key in (keys.inflight, keys.scheduled, keys.parked):
                pipe.zcard(key)
            return sum(cast(list[int], await pipe.execute()))

    async def prune(
        self, *, inflight: Mapping[str, float], scheduled: Mapping[str, float], parked: Mapping[str, float]
    ) -> int:
        """Remove members whose score is still as given; returns how many."""
        dropped = 0
        async with self._link.asking("prune") as keys:
            for key, members in (
                (keys.inflight, inflight),
                (keys.scheduled, scheduled),
                (keys.parked, parked),
            ):
                flat = [str(x) for m, score in members.items() for x in (m, f"{score:.17g}")]
                for start in range(0, len(flat), 2 * _CHUNK):
                    part = flat[start : start + 2 * _CHUNK]
                    dropped += cast(int, await self._link.run("prune", [key], part))
        return dropped

    async def begin_epoch(self, nonce: str) -> None:
        async with self._link.asking("epoch.begin") as keys:
            await self._link.raw.set(keys.epoch_building, nonce, ex=3600)

    async def finish_epoch(self, nonce: str, run_id: str) -> bool:
        """Mark the lanes as complete; False when Redis was emptied, or another leader began, in between."""
        async with self._link.asking("epoch.finish") as keys:
            done = await self._link.run("epoch", [keys.epoch, keys.epoch_building], [nonce, run_id])
        return bool(done)

    async def note_rounds(self, rounds: bytes) -> None:
        """Store what the leader's rounds did, so that it can be inspected."""
        async with self._link.asking() as keys:
            await self._link.raw.set(keys.rounds, rounds, ex=3600)

    async def rounds(self) -> str | None:
        """What `note_rounds` stored."""
        async with self._link.asking() as keys:
            return cast("str | None", await self._link.raw.get(keys.rounds))

    # -- bus

    async def ask_to_stop(self, job_ids: Iterable[str]) -> None:
        """List jobs whose running attempt is to be stopped; workers read the list with each heartbeat."""
        if ids := list(job_ids):
            async with self._link.asking("ask_to_stop") as keys:
                await self._link.run("ask_to_stop", [keys.cancels], [int(CANCEL_S * 1000), *ids])

    async def show(self, updates: Sequence[ProgressEvent]) -> None:
        """Store the progress and the end of the log of running jobs for later readers, and publish them."""
        async with self._link.asking() as keys:
            pipe = self._link.pipeline()
            for event in updates:
                pipe.set(keys.live(event.id), msgspec.json.encode(event), px=int(LIVE_S * 1000))
            pipe.publish(keys.events, encode_batch(progress=updates))
            await pipe.execute()

    async def live_progress(self, job_ids: Sequence[str]) -> dict[str, ProgressEvent]:
        """The latest progress of these running jobs, by id, for those that have reported any."""
        async with self._link.asking() as keys:
            texts = cast("list[str | None]", await self._link.raw.mget([keys.live(i) for i in job_ids]))
        found: dict[str, ProgressEvent] = {}
        for text in texts:
            try:
                event = msgspec.json.decode(text, type=ProgressEvent) if text else None
            except msgspec.DecodeError:
                continue
            if event is not None and (event.started_at is None or event.started_at.tzinfo is not None):
                found[event.id] = event
        return found

    async def publish(self, events: bytes) -> None:
        async with self._link.asking("publish") as keys:
            await self._link.raw.publish(keys.events, events)

    async def listen(self) -> AsyncIterator[Batch | None]:
        """Batches of events, until the iterator is closed.

        Yields None first, when the subscription has begun: earlier events are lost.
        Raises StoreUnavailable when the connection is lost.
        """
        client = self._link.another()
        try:
            async with self._link.asking() as keys:
                async for batch in listen(client, keys.events):
                    yield batch
        finally:
            await self._link.close(client)
