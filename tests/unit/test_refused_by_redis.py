"""What a refusal of Redis leaves behind, and calls that it answers late. No server is asked anything here."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId

from dtqkit import Job, NamespaceTaken, Settings, StoreUnavailable
from dtqkit.broker import Broker, background
from dtqkit.broker.background import Background, LiveProgress
from dtqkit.broker.keys import member
from dtqkit.broker.link import Link
from dtqkit.broker.popper import BLOCK_S, Popper
from dtqkit.broker.refusals import UnusableServer
from dtqkit.control import Submission
from dtqkit.direct import opening
from dtqkit.direct.opening import Opening
from dtqkit.model.events import ProgressEvent
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Lost, Released
from dtqkit.store.inserts import Inserted
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import Task
from dtqkit.transitions import announce
from dtqkit.transitions.enqueue import Enqueuer
from dtqkit.transitions.lose import LostJobs
from dtqkit.worker.attempt_log import AttemptLog
from dtqkit.worker.claim import Claimed, Claimer
from dtqkit.worker.settle import Settler
from tests.wait import wait_until_async


class Redis:
    """Refuses scripts while `error` is set, answers them once `open` is, and keeps what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broker = Broker(Settings())
        self.error: BaseException | None = None
        self.asked: list[tuple[str, list[Any]]] = []
        self.cancelled = 0
        self.open = asyncio.Event()
        self.open.set()
        link: Any = self.broker._link  # pyright: ignore[reportPrivateUsage]
        link._route.made = 1

        async def run(name: str, _keys: list[str], args: list[Any]) -> list[Any]:
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            if self.error is not None:
                raise self.error
            self.asked.append((name, args))
            return []

        monkeypatch.setattr(link, "run", run)

    async def until(self, name: str) -> list[Any]:
        def found() -> list[list[Any]]:
            return [args for asked, args in self.asked if asked == name]

        first, *_ = await wait_until_async(found, timeout_s=20)
        return first


def away() -> StoreUnavailable:
    return StoreUnavailable("Redis", "redis://127.0.0.1", "refuses for now")


def running(**more: Any) -> Job:
    return Job(
        id=str(ObjectId()),
        task="t",
        payload={},
        status="running",
        created_at=datetime.now(UTC),
        claim_number=1,
        rev=2,
        **more,
    )


async def all_stored(*_: object) -> Inserted:
    return Inserted(set(), {})


async def none(*_: object, **__: object) -> list[Any]:
    return []


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def now() -> datetime:
    return datetime.now(UTC)


def test_what_could_not_be_put_back_is_put_back_once_redis_takes_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        redis = Redis(monkeypatch)
        redis.error = away()
        with pytest.raises(StoreUnavailable):
            await redis.broker.put_back({"high:a": 0.0, "low:b": 60_000.0})
        redis.error = None
        name, ms, other, later_ms = await redis.until("put_back")
        assert (name, ms, other) == ("high:a", 0.0, "low:b")
        assert 0 < later_ms <= 60_000
        await redis.broker.close()

    asyncio.run(scenario())


def test_what_another_environment_has_taken_is_not_put_back_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        redis = Redis(monkeypatch)
        redis.error = UnusableServer("taken", "taken")
        with pytest.raises(NamespaceTaken):
            await redis.broker.put_back({"high:a": 0.0})
        assert not len(redis.broker._unlisted)  # pyright: ignore[reportPrivateUsage]
        await redis.broker.close()

    asyncio.run(scenario())


def test_an_end_that_cannot_be_published_still_puts_the_job_back() -> None:
    put_back: list[str] = []
    job = running()

    async def push(*_: object) -> None:
        raise away()

    async def back(members: Mapping[str, float]) -> None:
        put_back.extend(members)

    async def scenario() -> None:
        store: Any = SimpleNamespace(jobs=SimpleNamespace(settle=none, find=none), now=now)
        broker: Any = SimpleNamespace(push=push, put_back=back)
        settler = Settler(broker, store, settled=lambda _: None, rng=random.Random(1))
        settler.put(Claimed(ObjectId(job.id), ObjectId(), job, 0.0, 0.0), Released(None), None, AttemptLog())
        settler.finish()
        await settler.run()

    asyncio.run(scenario())
    assert put_back == [member(job.priority, job.id)]


def test_a_dead_workers_jobs_are_listed_once_redis_takes_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        redis = Redis(monkeypatch)
        store: Any = SimpleNamespace(now=now)
        lost: Any = LostJobs(redis.broker, store, random.Random(1))
        job = ObjectId()
        doc = {
            "_id": job, "task": "t", "payload": {}, "priority": "high", "status": "running", "worker": "w", "token": 1,
            "created_at": job.generation_time, "losses": 0, "rev": 2, "max_attempts": 3, "timeout_s": 60,
        }  # fmt: skip
        change = decide(running(), Lost(), random.Random(1))
        redis.error = away()
        await lost._announce([(doc, change)])
        redis.error = None
        assert (await redis.until("put_back"))[0] == f"high:{job}"
        await redis.broker.close()

    asyncio.run(scenario())


def test_a_claim_that_arrived_late_is_given_back_once_redis_takes_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        redis = Redis(monkeypatch)
        job = ObjectId()
        doc = {
            "_id": job, "task": "t", "payload": {}, "priority": "low", "status": "running", "worker": "w", "token": 1,
            "created_at": job.generation_time, "losses": 0, "rev": 2, "claim": ObjectId(),
        }  # fmt: skip
        looks = [[doc], []]

        async def running_of(_: str) -> list[Any]:
            return looks.pop(0)

        store: Any = SimpleNamespace(jobs=SimpleNamespace(running_of=running_of, settle=none), now=now)
        unused: Any = None
        claimer: Any = Claimer(
            redis.broker, store, worker="w", lease_s=6.0, start=unused,
            holds=lambda *_: False, refused=unused, rng=random.Random(1),
        )  # fmt: skip
        redis.error = away()
        await claimer._release_strays()
        redis.error = None
        assert (await redis.until("put_back"))[0] == f"low:{job}"
        await redis.broker.close()

    asyncio.run(scenario())


# -- late answers


def test_a_late_call_continues_and_its_error_is_dropped() -> None:
    async def scenario() -> None:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def ask() -> int:
            return await answer

        calls = Background()
        with pytest.raises(TimeoutError):
            await calls.within(0.01, ask())
        assert calls.late
        assert not answer.cancelled()
        answer.set_exception(away())
        await turns()
        assert not calls.late
        await calls.close()

    asyncio.run(scenario())


def test_a_late_look_at_running_jobs_is_left_alone_and_others_do_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LIVE_S", 0.05)
    asked: list[Sequence[str]] = []
    shown = ProgressEvent(id="a", claim_number=1)

    async def scenario() -> None:
        answered = asyncio.Event()

        async def read(ids: Sequence[str]) -> dict[str, ProgressEvent]:
            asked.append(ids)
            await answered.wait()  # would raise if it were cancelled: then it is asked once more
            return {"a": shown}

        live = LiveProgress(read)
        assert await live.get(["a"]) == {}
        assert await live.get(["a"]) == {}
        answered.set()
        await turns()
        assert await live.get(["a"]) == {"a": shown}
        await live.close()

    asyncio.run(scenario())
    assert asked == [["a"], ["a"]]


def test_looks_at_running_jobs_that_come_at_once_are_one_or_two() -> None:
    asked: list[Sequence[str]] = []

    async def read(ids: Sequence[str]) -> dict[str, ProgressEvent]:
        asked.append(ids)
        await asyncio.sleep(0)
        return {i: ProgressEvent(id=i, claim_number=1) for i in ids}

    async def scenario() -> list[dict[str, ProgressEvent]]:
        live = LiveProgress(read)
        found = await asyncio.gather(*(live.get([str(n)]) for n in range(20)))
        await live.close()
        return found

    found = asyncio.run(scenario())
    assert all(str(n) in one for n, one in enumerate(found))
    assert len(asked) <= 2


def one_task() -> TaskRegistry:
    def t() -> None: ...

    registry = TaskRegistry()
    registry.add(Task(t, "t"))
    return registry


@pytest.mark.parametrize("fails", [False, True])
def test_a_late_push_goes_on_and_is_listed_later_only_if_it_fails(
    monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    monkeypatch.setattr(announce, "PUSH_S", 0.05)

    async def scenario() -> None:
        redis = Redis(monkeypatch)
        unlisted: Any = redis.broker._unlisted  # pyright: ignore[reportPrivateUsage]
        store: Any = SimpleNamespace(inserts=SimpleNamespace(insert=all_stored), now=now)
        one = Enqueuer(Settings(), redis.broker, store, one_task())
        redis.open.clear()
        (job,) = await one.enqueue([Submission(task="t")])
        assert isinstance(job, Job)
        assert not len(unlisted)
        redis.error = away() if fails else None
        redis.open.set()
        if fails:
            await turns()
            assert len(unlisted) == 1
            redis.error = None
        assert job.id in await redis.until("push")
        assert not redis.cancelled
        await one.close()
        await redis.broker.close()

    asyncio.run(scenario())


# -- another environment


def test_a_push_into_another_environments_redis_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        redis = Redis(monkeypatch)
        store: Any = SimpleNamespace(inserts=SimpleNamespace(insert=all_stored), now=now)
        one = Enqueuer(Settings(), redis.broker, store, one_task())
        redis.error = UnusableServer("taken", "taken")
        await one.enqueue([Submission(task="t")])
        with pytest.raises(NamespaceTaken):
            redis.broker.check_owner()
        await one.close()
        await redis.broker.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert "not listed" in caplog.text
    assert "will be listed" not in caplog.text


class Owner:
    """A Redis that stores whose jobs it lists."""

    def __init__(self) -> None:
        self.owned = False
        self.looks = 0
        self.error: StoreUnavailable | None = None
        self.taken: NamespaceTaken | None = None

    async def open(self, _: str) -> None:
        await self.ask_owner()

    async def ask_owner(self) -> None:
        self.looks += 1
        if self.error is not None:
            self.taken = self.error if isinstance(self.error, NamespaceTaken) else self.taken
            raise self.error
        self.owned, self.taken = True, None

    def check_owner(self) -> None:
        if self.taken is not None:
            raise self.taken


def opened(check: Callable[[Owner, Opening], Any]) -> None:
    async def scenario() -> None:
        owner: Any = Owner()
        store: Any = SimpleNamespace(open=none, identity=none)
        one = Opening(store, owner)
        owner.error = away()
        await one.open()
        await one.check()
        await check(owner, one)
        await one.close()

    asyncio.run(scenario())


def test_a_redis_that_comes_back_with_another_environments_jobs_is_refused_until_it_has_ours() -> None:
    async def check(owner: Owner, one: Opening) -> None:
        owner.error = NamespaceTaken("Redis", "", "taken")
        with pytest.raises(NamespaceTaken):
            await one.check()
        owner.error = away()  # it stays until Redis answers otherwise
        with pytest.raises(NamespaceTaken):
            await one.check()
        owner.error = None
        await one.check()
        assert owner.owned

    opened(check)


def test_a_server_ends_when_its_redis_lists_another_environments_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LOOK_S", 0.01)

    async def check(owner: Owner, one: Opening) -> None:
        before = owner.looks
        looking = asyncio.create_task(one.until_taken())
        await wait_until_async(lambda: owner.looks >= before + 3)
        assert not looking.done()
        owner.error = NamespaceTaken("Redis", "", "taken")
        async with asyncio.timeout(20):
            with pytest.raises(NamespaceTaken):
                await looking

    opened(check)


# -- the blocking pop


@pytest.mark.parametrize(
    ("url", "longest_s"), [("redis://127.0.0.1", BLOCK_S), ("redis+sentinel://127.0.0.1:26379/m/0", 7.0)]
)
def test_behind_sentinels_a_pop_leaves_a_primary_that_is_cut_off_within_ten_seconds(url: str, longest_s: float) -> None:
    waits: list[float] = []

    class Connection:
        async def blpop(self, *_: object, timeout: float) -> None:
            waits.append(timeout)

        async def aclose(self) -> None: ...

    async def scenario() -> None:
        link: Any = Link(url, "n")
        link._route.made = 1
        popper: Any = Popper(link, ["high"])
        answer_s = popper._redis.connection_pool.connection_kwargs["socket_timeout"]
        popper._redis = Connection()
        await popper.pop()
        assert waits[0] < answer_s
        assert longest_s == BLOCK_S or answer_s <= longest_s
        await link.close()

    asyncio.run(scenario())
