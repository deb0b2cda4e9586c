"""A small world that may break: stores of its own, proxies before them, worker processes, and a client's record."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit, urlunsplit

import redis
from bson.codec_options import CodecOptions
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from dtqkit import OutcomeUnknown, Priority, Settings, StoreUnavailable, TaskQueue
from dtqkit.broker.keys import Keys
from dtqkit.local import LocalStores
from dtqkit.model.failpoints import LOG_VARIABLE, VARIABLE
from dtqkit.run.supervisor import environment_of
from dtqkit.tasks.task import Call
from tests.command import living, state_of
from tests.faults.check import Evidence, violations
from tests.faults.ledger import Entry, read
from tests.faults.proxy import Proxy
from tests.faults.work import Nursery
from tests.wait import in_time, wait_until

Mongo = MongoClient[dict[str, Any]]

#: A tenth of the real times, or less. Heartbeats are missed after 0.9 s, a round is 2 s.
SCALED = {"heartbeat_s": 0.2, "lease_s": 6.0, "grace_s": 2.0}


def through(url: str, port: int) -> str:
    """`url` with another port."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    host = f"{parts.hostname}:{port}"
    return urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host))


def resident_mb(pid: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class WorkerProcess:
    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid

    @property
    def alive(self) -> bool:
        return bool(living({self.pid}))

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not self.alive)

    def pause(self) -> None:
        """SIGSTOP; returns when it stands."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: state_of(self.pid) == "T")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self, timeout_s: float = 30) -> None:
        """Ask it to stop; returns when it has."""
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: not self.alive, timeout_s)


class World:
    """One namespace on `stores`; workers reach them through `redis_proxy` and `mongo_proxy`, the client too.

    `look` and `redis` reach the stores directly, to see what is there.
    """

    def __init__(self, stores: LocalStores, nursery: Nursery, directory: Path, **settings: Any) -> None:
        self.stores = stores
        self._nursery = nursery
        self.directory = directory
        self.namespace = f"f{secrets.token_hex(5)}"
        self.ledger_path = directory / f"{self.namespace}.ledger"
        self.fired_path = directory / f"{self.namespace}.fired"
        self._settings = {**SCALED, "children": 1, **settings}
        self._stack = ExitStack()
        self.workers: dict[str, WorkerProcess] = {}
        self.accepted: dict[int, str] = {}
        self.unknown: set[int] = set()
        self.refused: set[int] = set()
        self.expected: dict[int, set[str]] = {}
        self.requeued: set[str] = set()
        self._next = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.settings = self._connect()
        self.keys = Keys.of(self.namespace)
        self.mongo = self._stack.enter_context(Mongo(self.stores.atlas_uri, serverSelectionTimeoutMS=20_000))
        # A call after the server's restart must not meet a connection from before.
        self.redis = redis.Redis.from_url(self.stores.redis_url, decode_responses=True, encoding_errors="replace")
        self._stack.callback(self.redis.close)
        self.queue = self._stack.enter_context(TaskQueue(self.settings))
        self.queue.include("tests.faults.jobs")
        self.queue.include("tests.faults.child_jobs")
        self.observer = self._stack.enter_context(Observer(self))
        self._stack.callback(self._end_workers)
        return self

    def _connect(self) -> Settings:
        """The proxies, and the addresses that workers and clients get."""
        redis_port = urlsplit(self.stores.redis_url).port or 0
        mongo_port = urlsplit(self.stores.atlas_uri).port or 0
        self.redis_proxy = self._stack.enter_context(Proxy(redis_port))
        self.mongo_proxy = self._stack.enter_context(Proxy(mongo_port))
        return Settings(
            redis_url=through(self.stores.redis_url, self.redis_proxy.port),
            atlas_uri=through(self.stores.atlas_uri, self.mongo_proxy.port),
            namespace=self.namespace,
            **self._settings,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.redis_proxy.set("pass")
        self.mongo_proxy.set("pass")
        self._stack.close()
        with Mongo(self.stores.atlas_uri) as client:
            client.drop_database(self.settings.database_name)

    # -- workers

    def start(
        self,
        name: str = "w1",
        *,
        fail: str = "",
        naive: str = "",
        lanes: Iterable[Priority] = ("high", "medium", "low"),
        settings: Mapping[str, Any] | None = None,
        children: bool = False,
        wait: bool = True,
    ) -> WorkerProcess:
        """A worker process, which beats by the time that this returns; `fail` are failpoints, `naive` a mutation."""
        own = self.settings.replace(**settings) if settings else self.settings
        environment = self._environment(own, fail)
        tasks = "tests.faults.jobs,tests.faults.child_jobs" if children else "tests.faults.jobs"
        arguments = ["worker", "--name", name, "--lanes", ",".join(lanes), "--naive", naive, "--tasks", tasks]
        worker = WorkerProcess(name, self._nursery.start(arguments, environment, self.log(name)))
        self.workers[name] = worker
        if wait:
            wait_until(lambda: self.beating(name) or not worker.alive, timeout_s=30)
        return worker

    def _environment(self, settings: Settings, fail: str) -> dict[str, str]:
        return {**os.environ, **environment_of(settings), LOG_VARIABLE: str(self.fired_path), VARIABLE: fail}

    def client(self, what: str, n: int, *, fail: str) -> None:
        """A client in a process of its own submits, cancels or requeues job `n`; returns when it is gone."""
        arguments = ["client", what, self.accepted.get(n, ""), str(n), self.ledger]
        pid = self._nursery.start(arguments, self._environment(self.settings, fail), self.log("client"))
        wait_until(lambda: not living({pid}), timeout_s=30)

    def number(self) -> int:
        """The next job's number."""
        with self._lock:
            self._next += 1
            return self._next - 1

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def beating(self, name: str) -> bool:
        """Whether this incarnation has beaten: its last heartbeat has its pid."""
        pid = f'"pid":{self.workers[name].pid},'
        ids = [w for w in self.worker_ids() if w.rpartition("-")[0] == name]
        return any(pid in (cast("str | None", self.redis.hget(self.keys.worker(w), "beat")) or "") for w in ids)

    def worker_ids(self) -> list[str]:
        try:
            return cast("list[str]", self.redis.zrange(self.keys.workers, 0, -1))
        except redis.RedisError:
            return []

    def leader(self) -> str | None:
        """The name of the worker whose process leads."""
        try:
            holder = cast("str | None", self.redis.get(self.keys.leader))
        except redis.RedisError:
            return None
        return holder.rpartition("-")[0] if holder else None

    def wait_for_leader(self, name: str | None = None) -> str:
        return wait_until(
            lambda: (leader := self.leader()) is not None and (name is None or leader == name) and leader, timeout_s=20
        )  # pyright: ignore[reportReturnType]

    def _end_workers(self) -> None:
        for worker in self.workers.values():
            if worker.alive:
                worker.kill()

    def fresh(self) -> None:
        """Forget the jobs that there were; workers and connections live on."""
        self.ledger_path = self.directory / f"{self.namespace}-{self._next}.ledger"
        for collection in ("jobs", "deadletter"):
            self.mongo[self.settings.database_name][collection].delete_many({})
        for kept in (self.accepted, self.unknown, self.refused, self.expected, self.requeued, self.observer.seen):
            kept.clear()

    # -- the client and its record

    def submit(self, make: Callable[[int], Call[Any]], *, ends: set[str] | None = None) -> int:
        """Submit one job, whose number `make` is given; the outcome is noted. Returns the number."""
        return self.submit_many(make, 1, ends=ends)[0]

    def submit_many(self, make: Callable[[int], Call[Any]], count: int, *, ends: set[str] | None = None) -> list[int]:
        with self._lock:
            numbers = list(range(self._next, self._next + count))
            self._next += count
        if ends is not None:
            self.expected.update(dict.fromkeys(numbers, ends))
        try:
            jobs = self.queue.submit_many([make(n) for n in numbers])
        except OutcomeUnknown:
            self.unknown.update(numbers)
        except StoreUnavailable:
            self.refused.update(numbers)
        else:
            self.accepted.update(zip(numbers, (job.id for job in jobs), strict=True))
        return numbers

    # -- what is there

    @property
    def ledger(self) -> str:
        return str(self.ledger_path)

    def entries(self, what: str | None = None) -> list[Entry]:
        return [entry for entry in read(self.ledger_path) if what is None or entry.what == what]

    def fired(self, place: str) -> bool:
        lines = self.fired_path.read_text().splitlines() if self.fired_path.exists() else []
        return any(line.split()[1] == place for line in lines)

    def documents(self) -> list[dict[str, Any]]:
        jobs = self.mongo[self.settings.database_name]["jobs"]
        return list(jobs.with_options(CodecOptions(tz_aware=True)).find())

    def statuses(self) -> dict[int, str]:
        return {doc["payload"]["n"]: doc["status"] for doc in self.documents()}

    def at_rest(self) -> bool:
        """Nothing waits or runs, and the dead letters are the failed jobs."""
        database = self.mongo[self.settings.database_name]
        try:
            busy = database["jobs"].count_documents({"status": {"$in": ["pending", "scheduled", "running"]}})
            failed = database["jobs"].count_documents({"status": "failed"})
            return not busy and failed == database["deadletter"].count_documents({})
        except PyMongoError:
            return False

    def evidence(self, *, at_rest: bool = True) -> Evidence:
        # Before the documents: what is seen after them is no past of theirs.
        seen = list(self.observer.seen)
        dead_letters = self.mongo[self.settings.database_name]["deadletter"].find()
        return Evidence(
            accepted=set(self.accepted),
            unknown=set(self.unknown),
            documents=self.documents(),
            dead_letters={str(doc["_id"]): doc["death_seq"] for doc in dead_letters},
            ledger=self.entries(),
            expected=self.expected,
            beats=self.observer.beats(),
            seen=seen,
            requeued=self.requeued,
            silence_s=self.settings.silence_s,
            lease_s=self.settings.lease_s,
            at_rest=at_rest,
        )

    def come_to_rest(self, timeout_s: float = 40) -> None:
        """Wait for it, and hold everything that was promised against what is there."""
        in_time(self.at_rest, timeout_s, 0.1)
        assert violations(self.evidence()) == []

    def endings(self) -> list[str]:
        """How every attempt but the last of each job ended."""
        return [attempt["ending"] for doc in self.documents() for attempt in doc.get("earlier", ())]

    def starts(self) -> int:
        return len(self.entries("start"))


class Observer:
    """Sees every beat's score, and each job's status now and then, directly from the stores."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._scores: dict[str, list[float]] = {}
        self.seen: list[tuple[str, str, int]] = []
        self._known: set[tuple[str, int]] = set()
        #: How often it has looked into MongoDB.
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def beats(self) -> dict[str, list[float]]:
        return {worker: list(scores) for worker, scores in self._scores.items()}

    def _run(self) -> None:
        world = self._world
        with (
            redis.Redis.from_url(
                world.stores.redis_url, decode_responses=True, encoding_errors="replace", socket_timeout=1
            ) as client,
            # No client got an answer for writes that only the old primary of an election has.
            Mongo(world.stores.atlas_uri, timeoutMS=1000, readConcernLevel="majority") as mongo,
        ):
            jobs = mongo[world.settings.database_name]["jobs"]
            look_at = 0.0
            interval_s = world.settings.heartbeat_s / 2
            while not self._stop.wait(interval_s):
                try:
                    scored = cast("list[tuple[str, float]]", client.zrange(world.keys.workers, 0, -1, withscores=True))
                except (redis.RedisError, OSError):
                    scored = []
                for worker, score in scored:
                    scores = self._scores.setdefault(worker, [])
                    if not scores or scores[-1] < score / 1000 < 4e9:
                        scores.append(score / 1000)
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + 1.0
                    try:
                        self._look(jobs.find({}, {"status": 1, "rev": 1}))
                    except PyMongoError:
                        continue

    def _look(self, docs: Iterable[dict[str, Any]]) -> None:
        """Ends are kept once; the checker compares them with the record as it is in the end."""
        self.looks += 1
        for doc in docs:
            job = str(doc["_id"])
            if doc["status"] in ("completed", "cancelled", "failed") and (job, doc["rev"]) not in self._known:
                self._known.add((job, doc["rev"]))
                self.seen.append((job, doc["status"], doc["rev"]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
