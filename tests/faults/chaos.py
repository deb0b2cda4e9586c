"""A random run: hundreds of jobs while things break by a schedule that a seed decides; then the checker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
import redis
from pymongo.errors import PyMongoError

from dtqkit import DtqError, JobConflict, Priority
from dtqkit.tasks.task import Call
from tests.faults import jobs
from tests.faults.check import violations
from tests.faults.world import World, resident_mb
from tests.wait import in_time, wait_until

LANES: Final[tuple[Priority, ...]] = ("high", "medium", "low")


@dataclass
class Fault:
    """What was done, when, and what shows that it hit."""

    name: str
    at_s: float
    hit: str


@dataclass
class Report:
    """The result of one run."""

    seed: int
    stores: str = "local"
    jobs: int = 0
    attempts: int = 0
    lost: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    #: By kind of round: the repairs that leaders reported (as far as their reports were read).
    repairs: dict[str, int] = field(default_factory=dict[str, int])
    violations: list[str] = field(default_factory=list[str])
    took_s: float = 0.0
    #: Resident MB of the worker that is never killed, at the end, and whether it led then.
    resident_mb: float = 0.0
    led: bool = False

    @property
    def hits(self) -> int:
        return sum(bool(fault.hit) for fault in self.faults)


class Chaos:
    """Breaks `world` by the schedule of `seed`; its workers are called w1 to w3, and w1 is never killed."""

    def __init__(
        self, world: World, seed: int, *, count: int = 300, faults: int = 6, order: Sequence[str] | None = None
    ) -> None:
        """`order` are the faults of the menu to come, in turn; None: all, as the seed decides."""
        self._world = world
        self._order = order
        self._rng = random.Random(seed)
        self._count = count
        self._faults = faults
        self.report = Report(seed)
        #: A unit of time: real runs have longer ones.
        self._beat_s = world.settings.heartbeat_s
        self._started = time.monotonic()
        self._seen_rounds: dict[tuple[str, str], int] = {}

    def run(self) -> Report:
        report, rng = self.report, self._rng
        self._revive(wait=True)
        menu = self._menu()
        # Every kind comes in turn, in an order that the seed decides.
        order = rng.sample(list(menu), len(menu)) if self._order is None else self._order
        share = self._count // (self._faults + 1)
        for turn in range(self._faults + 1):
            self._revive()
            self._submit(share if turn else self._count - share * self._faults)
            self._meddle()
            if turn < self._faults:
                name = order[turn % len(order)]
                time.sleep(rng.uniform(0.1, 3) * self._beat_s)  # until the next fault
                hit = menu[name]()
                report.faults.append(Fault(name, time.monotonic() - self._started, hit))
            self._note_rounds()
        self._come_to_rest()
        return report

    def _revive(self, *, wait: bool = False) -> None:
        """Start again what has ended: a worker that finds no store at its start exits. A supervisor does this."""
        for name in ("w1", "w2", "w3"):
            worker = self._world.workers.get(name)
            if worker is None or not worker.alive:
                self._world.start(name, wait=wait)

    # -- load

    def _submit(self, count: int) -> None:
        rng, world = self._rng, self._world
        while count > 0:
            part = min(count, rng.choice([1, 1, 5, 20, 50]))
            world.submit_many(self._call, part, ends={"completed", "cancelled"})
            count -= part

    def _call(self, n: int) -> Call[Any]:
        rng = self._rng
        options: dict[str, Any] = {"priority": rng.choice(LANES), "max_attempts": 3}
        if rng.random() < 0.15:
            options["delay_s"] = rng.uniform(0.5, 10) * self._beat_s
        failures = 1 if rng.random() < 0.1 else 0
        # Lost attempts count as attempts of the body, which then fails no more; three failures cannot come together.
        seconds = 0.0 if rng.random() < 0.3 else rng.uniform(0.1, 10) * self._beat_s
        return jobs.note.options(**options).bind(n, self._world.ledger, seconds, failures=failures)

    def _meddle(self) -> None:
        """A client cancels a few jobs at random."""
        rng, world = self._rng, self._world
        for n in rng.sample(sorted(world.accepted), min(3, len(world.accepted))):
            try:
                world.queue.get(world.accepted[n]).cancel()
            except JobConflict:
                continue
            except DtqError:
                continue  # a store is away

    # -- faults: each returns what shows that it hit, or nothing

    def _menu(self) -> dict[str, Callable[[], str]]:
        rng = self._rng
        return {
            "kill -9 of a worker": lambda: self._kill(leader=False),
            "kill -9 of the leader": lambda: self._kill(leader=True),
            "SIGTERM of a worker": self._terminate,
            "a short pause": lambda: self._pause(0.4),
            "a long pause": lambda: self._pause(rng.uniform(1.5, 3)),
            "FLUSHALL": self._flush,
            "Redis restarted empty": lambda: self._restart_redis(empty=True),
            "Redis restarted with its data": lambda: self._restart_redis(empty=False),
            "kill -9 of mongod": self._restart_mongo,
            "kill -9 of both stores": self._restart_both,
            "kill -9 of a worker and FLUSHALL": lambda: self._kill(leader=False) and self._flush(),
            "Redis cut off": lambda: self._proxy("redis", "cut", rng.uniform(2, 12)),
            "Redis stalls": lambda: self._proxy("redis", "stall", rng.uniform(2, 12)),
            "MongoDB cut off": lambda: self._proxy("mongo", "cut", rng.uniform(2, 12)),
            "MongoDB stalls": lambda: self._proxy("mongo", "stall", rng.uniform(2, 12)),
            "MongoDB's replies swallowed": lambda: self._proxy("mongo", "swallow", rng.uniform(1, 5)),
            "Redis's replies swallowed": lambda: self._proxy("redis", "swallow", rng.uniform(1, 5)),
            "MongoDB slow": lambda: self._proxy("mongo", "delay", rng.uniform(5, 10)),
            "rubbish in Redis": self._rubbish,
            "ids gone from Redis": self._steal,
        }

    def _victim(self, *, leader: bool) -> str:
        """A worker that may be killed; a leader that may not be stands aside first."""
        led = self._world.leader()
        if leader and led in ("w2", "w3"):
            return led
        return self._rng.choice(["w2", "w3"])

    def _kill(self, *, leader: bool) -> str:
        world = self._world
        if leader and world.leader() == "w1":
            # The one that must not be killed gives way: its lock is deleted, and the first candidate takes it.
            world.redis.delete(world.keys.leader)
            for name in ("w2", "w3"):
                wait_until(lambda name=name: not world.workers[name].alive or world.leader() is not None)
        name = self._victim(leader=leader)
        led = world.leader() == name
        victim = world.workers[name]
        if not victim.alive:
            return ""
        victim.kill()
        world.start(name, wait=False)
        return f"{name} (pid {victim.pid}{', which led' if led else ''}) is gone"

    def _terminate(self) -> str:
        name = self._victim(leader=False)
        worker = self._world.workers[name]
        if not worker.alive:
            return ""
        worker.end(60)
        self._world.start(name, wait=False)
        return f"{name} stopped"

    def _pause(self, silences: float) -> str:
        name = self._rng.choice(["w1", "w2", "w3"])
        worker = self._world.workers[name]
        if not worker.alive:
            return ""
        worker.pause()
        time.sleep(silences * self._world.settings.silence_s)  # how long it stands
        worker.resume()
        return f"{name} stood for {silences:.1f} silences"

    def _flush(self) -> str:
        redis = self._world.redis
        keys = redis.dbsize()
        redis.flushall()
        return f"{keys} keys gone" if keys else ""

    def _restart_redis(self, *, empty: bool) -> str:
        stores = self._world.stores
        before = stores.pids["redis"]
        stores.kill_redis()
        time.sleep(self._rng.uniform(0, 10) * self._beat_s)  # how long it is away
        stores.restart_redis(empty=empty)
        return f"redis-server {before} became {stores.pids['redis']}"

    def _restart_mongo(self) -> str:
        stores = self._world.stores
        before = stores.pids["mongod"]
        stores.kill_mongo()
        self._submit(5)
        time.sleep(self._rng.uniform(0, 5) * self._beat_s)  # how long it is away
        stores.restart_mongo()
        return f"mongod {before} became {stores.pids['mongod']}"

    def _restart_both(self) -> str:
        self._world.stores.kill_redis()
        mongo = self._restart_mongo()
        self._world.stores.restart_redis(empty=self._rng.random() < 0.5)
        return mongo

    def _proxy(self, store: Literal["redis", "mongo"], mode: Any, beats: float) -> str:
        proxy = self._world.redis_proxy if store == "redis" else self._world.mongo_proxy
        before = proxy.hits()
        proxy.set(mode, delay_s=0.05)
        try:
            deadline = time.monotonic() + beats * self._beat_s
            self._submit(2)
            time.sleep(max(0.0, deadline - time.monotonic()))  # until the fault ends
        finally:
            proxy.set("pass")
        hits = proxy.hits() - before
        return f"{hits} times" if hits else ""

    def _rubbish(self) -> str:
        """Wrong types, ids of nothing, scores that never come, bytes that are no text."""
        world, rng = self._world, self._rng
        keys = world.keys
        waiting = [str(doc["_id"]) for doc in world.documents() if doc["status"] in ("pending", "scheduled")]
        pipe = world.redis.pipeline(transaction=False)
        for key in rng.sample([keys.scheduled, keys.inflight, keys.workers, keys.leader, keys.cancels], 2):
            pipe.delete(key)
            pipe.lpush(key, "rubbish")
        lane = keys.lane(rng.choice(LANES))
        pipe.delete(lane)
        pipe.set(lane, "rubbish")
        for other in LANES:
            if keys.lane(other) != lane:
                pipe.rpush(keys.lane(other), "0" * 24, b"\xff\xfe", "no id", *waiting[:5])
        pipe.execute(raise_on_error=False)
        for job in waiting[:5]:
            for key in (keys.scheduled, keys.inflight):
                try:
                    world.redis.zadd(key, {f"medium:{job}": 4e15})
                except redis.ResponseError:
                    continue
        return f"2 keys and a lane of a wrong type, {len(waiting[:5])} jobs with a score that never comes"

    def _steal(self) -> str:
        world = self._world
        stolen = 0
        for lane in world.keys.lanes():
            for _ in range(10):
                stolen += world.redis.lpop(lane) is not None
        stolen += len(world.redis.zpopmin(world.keys.scheduled, 5))  # pyright: ignore[reportArgumentType]
        return f"{stolen} ids" if stolen else ""

    # -- the end

    def _note_rounds(self) -> None:
        """What the present leader says of its rounds; a leader counts from its beginning."""
        try:
            text = self._world.redis.get(self._world.keys.rounds)
        except redis.RedisError:
            return
        if not text:
            return
        said = msgspec.json.decode(str(text))
        for name, round_ in said["rounds"].items():
            key = said["leader"], name
            self._seen_rounds[key] = max(self._seen_rounds.get(key, 0), round_["repaired"])

    def _rests(self) -> bool:
        self._revive()
        return self._world.at_rest()

    def _come_to_rest(self) -> None:
        world, report = self._world, self.report
        settings = world.settings
        # What was promised: a lease and 75 s, in the scale of these times; and what a busy machine needs besides.
        promised_s = settings.lease_s * (1 + 75 / 180) + 30 + 5 * settings.round_s
        in_time(self._rests, promised_s, 0.2)
        self._note_rounds()
        try:
            evidence = world.evidence()
        except PyMongoError as error:
            report.violations.append(f"the record cannot be read: {error}")
            return
        report.violations = violations(evidence)
        report.jobs = len(evidence.documents)
        report.attempts = world.starts()
        report.lost = world.endings().count("lost")
        for (_, name), repaired in self._seen_rounds.items():
            report.repairs[name] = report.repairs.get(name, 0) + repaired
        report.took_s = time.monotonic() - self._started
        report.resident_mb = resident_mb(world.workers["w1"].pid)
        report.led = world.leader() == "w1"
