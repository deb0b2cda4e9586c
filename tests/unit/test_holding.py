"""What a worker holds, at the moments when two things happen at once; no server is asked anything here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId

from dtqkit import Job, OutcomeUnknown, Settings
from dtqkit.broker import Broker
from dtqkit.store import Store
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.worker import fetch
from dtqkit.worker.claim import Claimed, Claimer, Wanted
from dtqkit.worker.fetch import Fetcher
from dtqkit.worker.kinds import Kinds
from dtqkit.worker.lookahead import LookAhead
from dtqkit.worker.slots import Slots
from dtqkit.worker.worker import Worker


def claimed(job: ObjectId) -> Claimed:
    created_at = job.generation_time
    record = Job(id=str(job), task="unknown", payload={}, status="running", claim_number=1, created_at=created_at)
    now = asyncio.get_running_loop().time()
    return Claimed(job, ObjectId(), record, now, now)


class Worked:
    """A worker that does not run; its stores are never connected to."""

    async def __aenter__(self) -> Worker:
        settings = Settings()
        self._broker, self._store = Broker(settings), Store(settings)
        lanes: Any = ("high",)
        return Worker(settings, self._broker, self._store, TaskRegistry(), name="w", lanes=lanes)

    async def __aexit__(self, *_: object) -> None:
        await self._broker.close()
        await self._store.close()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Redis:
    """Lanes that hold nothing, and what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def popper(self, _lanes: object) -> Redis:
        return self

    async def fetch(self, _lanes: object, limit: int, claimed: Sequence[str]) -> list[str]:
        self.asked.append((limit, *claimed))
        return []

    async def pop(self, *_: object) -> None:
        self.asked.append("pop")


def full_fetcher(redis: Any, lease_s: float = 6.0) -> tuple[Fetcher, Slots, Claimer]:
    """One slot, and it is taken."""
    slots = Slots(1, ready=lambda: 0)
    slots.take("loop")
    nobody: Any = None
    claimer = Claimer(
        redis,
        nobody,
        worker="w",
        lease_s=lease_s,
        start=nobody,
        holds=nobody,
        refused=nobody,
        rng=random.Random(1),
    )
    kinds = Kinds(TaskRegistry(), dict)
    fetcher = Fetcher(redis, nobody, slots, kinds, claimer, lanes=("high",), lease_s=lease_s, awaited=list)
    return fetcher, slots, claimer


def test_a_change_that_frees_no_slot_does_not_pop() -> None:
    async def scenario() -> list[Any]:
        redis = Redis()
        fetcher, slots, _ = full_fetcher(redis)
        going = asyncio.ensure_future(fetcher._round())
        await turns()
        slots.settled(0)
        await going
        return redis.asked

    assert asyncio.run(scenario()) == []


def test_a_full_worker_forgets_what_it_has_claimed_and_pops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FORGET_S", 0.01)

    async def scenario() -> list[Any]:
        redis = Redis()
        fetcher, *_ = full_fetcher(redis)
        fetcher._claimed = ["high:1"]
        await fetcher._round()
        return redis.asked

    assert asyncio.run(scenario()) == [(0, "high:1")]


def test_a_full_worker_still_looks_for_claims_that_came_late() -> None:
    async def scenario() -> int:
        looked = 0

        async def look() -> None:
            nonlocal looked
            looked += 1

        fetcher, _, claimer = full_fetcher(Redis(), lease_s=0.06)
        claimer._release_strays = look
        now = asyncio.get_running_loop().time()
        claimer._look_at, claimer._doubtful_until = now + 0.02, now + 0.12
        while asyncio.get_running_loop().time() < now + 0.12:
            await fetcher._round()
        return looked

    assert asyncio.run(scenario()) >= 1


class Elected:
    """The jobs of a set whose new primary has a claim that no majority read shows before a write is acknowledged."""

    def __init__(self, job: ObjectId) -> None:
        self._job = job
        self._shown = False

    async def claim_one(self, *_: object, **__: object) -> None:
        raise OutcomeUnknown("MongoDB", "mongodb://h/", "the primary stepped down", reason="electing")

    async def renew(self, ids: list[ObjectId], *_: object) -> set[ObjectId]:
        self._shown = True
        return set(ids)

    async def held(self, ids: list[ObjectId], claim: ObjectId) -> list[dict[str, Any]]:
        doc = {"_id": self._job, "claim": claim, "task": "t", "payload": {}, "status": "running", "token": 1}
        times = {"created_at": self._job.generation_time, "losses": 0, "rev": 2}
        return [{**doc, **times}] if self._shown and self._job in ids else []


def test_a_claim_that_an_election_has_interrupted_is_held_if_the_new_primary_has_it() -> None:
    async def scenario() -> None:
        job = ObjectId()
        store: Any = SimpleNamespace(jobs=Elected(job))
        started: list[Claimed] = []
        unused: Any = None
        claimer = Claimer(
            unused,
            store,
            worker="w",
            lease_s=6.0,
            start=started.extend,
            holds=unused,
            refused=unused,
            rng=random.Random(1),
        )
        with pytest.raises(OutcomeUnknown):
            await claimer.claim(Wanted([job], ["t"]))
        assert await claimer.resolve() == {job}
        assert [one.id for one in started] == [job]

    asyncio.run(scenario())


def test_an_attempt_that_is_stopped_before_its_first_step_ends() -> None:
    async def scenario() -> tuple[list[str | None], int]:
        async with Worked() as worker:
            one = claimed(ObjectId())
            worker._start([one])
            worker._held[one.job.id].attempt.stop("cancel")
            await turns()
            return [end.change.ending for _, end in worker._settler._ends], worker._slots.running

    assert asyncio.run(scenario()) == (["cancelled"], 0)


def test_a_job_that_is_claimed_again_belongs_to_its_second_claim() -> None:
    async def scenario() -> tuple[str | None, list[ObjectId], ObjectId]:
        async with Worked() as worker:
            job = ObjectId()
            first, second = claimed(job), claimed(job)
            worker._start([first])
            before = worker._held[str(job)].attempt
            await turns()
            worker._start([second])
            settled: Any = worker._settler._settled
            settled([first])
            return before.reason, [held.claimed.claim for held in worker._held.values()], second.claim

    reason, held, second = asyncio.run(scenario())
    assert (reason, held) == ("gone", [second])


def test_a_job_that_is_over_and_not_recorded_yet_is_not_shown_as_running() -> None:
    async def scenario() -> tuple[int, int, int]:
        async with Worked() as worker:
            one = claimed(ObjectId())
            worker._start([one])
            held = worker._held[one.job.id]
            held.attempt.begin()
            before = len(worker._begun_ones())
            await turns()
            assert one.job.id in worker._held  # its end is not recorded
            return before, len(worker._begun_ones()), worker._compose().load

    assert asyncio.run(scenario()) == (1, 0, 0)


def test_looks_ahead_that_find_nothing_are_paced_by_what_they_cost() -> None:
    async def scenario() -> list[float]:
        nothing: Any = None
        look_ahead = LookAhead(nothing, nothing, nothing, nothing, ("high",))
        loop = asyncio.get_running_loop()
        pauses: list[float] = []
        for took_s in (0.0, 0.0, 0.0, 0.0, 0.0, 0.015, 10.0):
            look_ahead.pause(loop.time() - took_s)
            pauses.append(look_ahead.next_at - loop.time())
        return pauses

    pauses = asyncio.run(scenario())
    assert pauses[:5] == pytest.approx([0.05, 0.1, 0.2, 0.25, 0.25], abs=0.03)
    assert pauses[5] == pytest.approx(40 * 0.015, abs=0.2)
    assert pauses[6] == pytest.approx(1.0, abs=0.03)


class Claiming:
    """A worker with a claim that MongoDB does not answer, of an id that was popped."""

    def __init__(self, worker: Worker) -> None:
        self.worker: Any = worker
        self.popped = f"high:{ObjectId()}"
        self.unpopped: list[str] = []
        self.deregistered: list[bool] = []
        self.asked = asyncio.Event()

    async def give_back(self) -> None:
        worker = self.worker

        async def nothing(*_: object, **__: object) -> Any:
            return None

        async def silence(*_: object, **__: object) -> None:
            self.asked.set()
            await asyncio.Event().wait()

        async def unpop(members: Sequence[str]) -> None:
            self.unpopped += members

        async def beat(*, deregister: bool) -> None:
            self.deregistered.append(deregister)

        fetcher = worker._fetcher
        fetcher._round = lambda: fetcher._claim([self.popped], ["t"])
        fetcher._popper = SimpleNamespace(interrupt=nothing, close=nothing)
        worker._store = fetcher._claimer._store = SimpleNamespace(jobs=SimpleNamespace(claim_one=silence))
        fetcher._broker = SimpleNamespace(unpop=unpop)
        worker._beat = SimpleNamespace(stop=beat)
        worker._loop = asyncio.get_running_loop()
        worker._fetching = asyncio.create_task(fetcher.run())
        worker._settling = asyncio.create_task(worker._settler.run())
        await self.asked.wait()
        await worker.give_back()


def test_a_worker_that_stops_at_once_with_a_claim_under_way_stays_listed_and_puts_its_ids_back() -> None:
    async def scenario() -> Claiming:
        async with Worked() as worker, asyncio.timeout(20):
            claiming = Claiming(worker)
            await claiming.give_back()
            return claiming

    claiming = asyncio.run(scenario())
    assert claiming.deregistered == [False]
    assert claiming.unpopped == [claiming.popped]
    assert claiming.worker._fetching.done()
    assert claiming.worker._compose().status == "stopping"
