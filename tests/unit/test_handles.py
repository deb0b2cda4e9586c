"""Handles against a record whose events are lost, late, doubled and out of order, and whose looks take their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dtqkit import AsyncTaskQueue, Job, JobConflict, JobError, JobFailed, StoreUnavailable
from dtqkit.client import aio as queue_module
from dtqkit.client import async_handle as handle_module
from dtqkit.client import wait as wait_module
from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.control import JobRequest, JobsRequest, JobStatus
from dtqkit.model.events import Batch, JobEvent, Line, ProgressEvent, event_of
from dtqkit.model.jobs import Status
from dtqkit.model.lifecycle import TRANSITIONS
from dtqkit.testing import TestQueue
from tests.stub import StubControl
from tests.virtual import VirtualLoop

ID = "a" * 24


def record(rev: int, status: Status, claim_number: int) -> Job:
    """A record in which every field shows its rev."""
    return Job(
        id=ID,
        task="f",
        payload={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        rev=rev,
        status=status,
        claim_number=claim_number,
        result=f"result {rev}" if status == "completed" else None,
        error=JobError("exception", "ValueError", f"error {rev}") if status == "failed" else None,
    )


class Store(StubControl):
    """A record and its history; looks see it as it was when they began, and come back later."""

    def __init__(self) -> None:
        self.history: dict[int, Job] = {1: record(1, "pending", 0)}
        self.now = self.history[1]
        self.latency_s = 0.0
        self.away = False
        self.looks = 0
        self._listeners: list[Callable[[Batch | Line], None]] = []

    def change(self, status: Status, *, by: int = 1) -> JobEvent:
        claim_number = self.now.claim_number + (status == "running")
        self.now = record(self.now.rev + by, status, claim_number)
        self.history[self.now.rev] = self.now
        return event_of(self.now)

    def send(self, event: Batch | Line) -> None:
        for listener in self._listeners:
            listener(event)

    # -- as Control has it

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    async def records(self, asked: JobsRequest) -> list[Job]:
        self.looks += 1
        if self.away:
            raise StoreUnavailable("MongoDB", "", "away")
        seen = self.now
        await asyncio.sleep(self.latency_s)  # virtual
        return [seen] if ID in asked.ids else []

    async def statuses(self, asked: JobsRequest) -> list[JobStatus]:
        return [JobStatus(job.id, job.status, job.rev) for job in await self.records(asked)]

    async def get(self, asked: JobRequest) -> Job:
        return (await self.records(JobsRequest(ids=[asked.id])))[0]

    async def requeue(self, _: JobRequest) -> Job:
        if self.now.status != "failed":
            raise JobConflict("not failed")
        self.change("pending")
        return self.now

    async def close(self) -> None: ...


class World:
    """A store, a queue and handles on it, in virtual time."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.store = Store()
        self.clock = pytest.MonkeyPatch()
        self.clock.setattr(handle_module, "time", SimpleNamespace(monotonic=self.loop.time))
        self.queue = self.run(self._queue())

    async def _queue(self) -> AsyncTaskQueue:
        return AsyncTaskQueue(control=self.store)

    def handle(self) -> AsyncJobHandle[Any]:
        return AsyncJobHandle(self.queue, self.store.history[1])

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def read(self, handle: AsyncJobHandle[Any]) -> Job:
        async def read() -> Job:
            return handle.record

        return self.run(read())

    def send(self, event: Batch | Line) -> None:
        async def send() -> None:
            self.store.send(event)

        self.run(send())

    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))  # virtual

    def close(self) -> None:
        self.run(self.queue.close())
        self.clock.undo()
        self.loop.close()


class Handles(RuleBasedStateMachine):
    """Whatever comes in whatever order, a handle shows one record of the job, never an older one, and soon the last."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.handles = [self.world.handle() for _ in range(2)]
        self.events: list[JobEvent] = []
        self.shown = [1, 1]
        #: Waits that were begun, each with the rev that its handle had shown.
        self.waits: list[tuple[asyncio.Task[Job], int]] = []

    def teardown(self) -> None:
        for wait, _ in self.waits:
            wait.cancel()
        self.world.close()

    @precondition(lambda self: not self.world.store.now.is_final)
    @rule(choice=st.integers(0, 5), by=st.integers(1, 2), lost=st.booleans())
    def change(self, choice: int, by: int, lost: bool) -> None:
        store = self.world.store
        ways = sorted(TRANSITIONS[store.now.status])
        event = store.change(ways[choice % len(ways)], by=by)
        if not lost:
            self.events.append(event)

    @precondition(lambda self: self.events)
    @rule(data=st.data(), again=st.booleans())
    def hear(self, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, len(self.events) - 1))
        event = self.events[at] if again else self.events.pop(at)
        self.world.send(Batch([event]))

    @rule(claim_number=st.integers(0, 3), fraction=st.floats(0, 1))
    def hear_of_progress(self, claim_number: int, fraction: float) -> None:
        self.world.send(Batch([], [ProgressEvent(id=ID, claim_number=claim_number, progress=fraction)]))

    @rule(line=st.sampled_from(Line))
    def line(self, line: Line) -> None:
        self.world.send(line)

    @rule(latency_s=st.sampled_from([0.0, 0.05, 0.7]))
    def looks_take(self, latency_s: float) -> None:
        self.world.store.latency_s = latency_s

    @rule(away=st.booleans())
    def store_is(self, away: bool) -> None:
        self.world.store.away = away

    @rule(which=st.integers(0, 1))
    def read(self, which: int) -> None:
        self.world.read(self.handles[which])

    @rule(which=st.integers(0, 1))
    def wait(self, which: int) -> None:
        handle = self.handles[which]
        self.waits.append((self.world.loop.create_task(handle.over()), handle.known.rev))

    @rule(which=st.integers(0, 1))
    def requeue(self, which: int) -> None:
        try:
            self.world.run(self.handles[which].requeue())
        except JobConflict:
            pass

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.12, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def all_is_well_for_a_while(self) -> None:
        """With and without events: a reader ends with the last record, and every wait for a finished job ends."""
        store = self.world.store
        store.away = False
        store.latency_s = 0.05
        for _ in range(48):
            for handle in self.handles:
                self.world.read(handle)
            self.world.pass_time(0.25)
        assert [handle.known.rev for handle in self.handles] == [store.now.rev] * 2
        if store.now.is_over:
            assert all(wait.done() for wait, _ in self.waits)

    @invariant()
    def what_is_shown_is_one_record_and_never_an_older_one(self) -> None:
        for i, handle in enumerate(self.handles):
            job = handle.known
            assert job.rev >= self.shown[i]
            self.shown[i] = job.rev
            plain = self.world.store.history[job.rev]
            assert (job.status, job.result, job.error, job.claim_number) == (
                plain.status,
                plain.result,
                plain.error,
                plain.claim_number,
            )
        for wait, shown in self.waits:
            if wait.done():
                job = wait.result()
                assert job.is_over
                assert job.rev >= shown


class StatusesFirst(Handles):
    """The same, where each look asks for statuses before it reads records, as it does for many jobs."""

    def __init__(self) -> None:
        super().__init__()
        for module in (wait_module, queue_module):
            self.world.clock.setattr(module, "FEW", 0)


Handles.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
StatusesFirst.TestCase.settings = Handles.TestCase.settings
test_handles_in_any_order_of_things = Handles.TestCase
test_handles_in_any_order_of_things_when_statuses_are_asked_for_first = StatusesFirst.TestCase


@pytest.fixture
def world() -> Any:
    world = World()
    yield world
    world.close()


def test_an_event_does_not_complete_a_handle_and_makes_it_look(world: World) -> None:
    handle = world.handle()
    world.read(handle)
    world.pass_time(0.2)
    world.store.latency_s = 0.3
    world.send(Batch([world.store.change("running")]))
    world.send(Batch([world.store.change("completed", by=2)]))
    world.pass_time(0.2)
    assert handle.known.status == "pending"  # the look is under way
    world.pass_time(0.6)
    assert (handle.known.status, handle.known.result) == ("completed", "result 4")


def test_a_failed_job_that_is_requeued_is_waited_for_again(world: World) -> None:
    handle = world.handle()
    world.store.change("running")
    world.store.change("failed")
    with pytest.raises(JobFailed, match="error 3"):
        world.run(handle.result())
    world.store.change("pending")
    world.store.change("running")
    again = world.loop.create_task(handle.result())
    world.pass_time(1)
    assert not again.done()
    world.store.change("completed")
    assert world.run(again) == "result 6"


def test_a_failure_is_still_raised_while_the_store_is_unreachable(world: World) -> None:
    handle = world.handle()
    world.store.change("running")
    world.store.change("failed")
    with pytest.raises(JobFailed):
        world.run(handle.result())
    world.store.away = True
    with pytest.raises(JobFailed, match="error 3"):
        world.run(handle.result(timeout=5))


def test_a_handle_that_is_not_read_costs_no_query(world: World) -> None:
    handles = [world.handle() for _ in range(50)]
    world.pass_time(60)
    assert world.store.looks == 0
    assert len(handles) == 50


@pytest.mark.parametrize(("line", "most"), [(Line.UP, 14), (Line.DOWN, 45)])
def test_reading_in_a_loop_looks_a_few_times_a_second_at_most(world: World, line: Line, most: int) -> None:
    handles = [world.handle() for _ in range(20)]
    world.read(handles[0])
    world.send(line)

    async def poll() -> None:
        for _ in range(2_000):
            assert {handle.status for handle in handles} == {"pending"}
            await asyncio.sleep(0.005)  # virtual, as all time of this loop

    world.run(poll())
    assert 5 <= world.store.looks <= most


def test_progress_stays_while_the_same_attempt_runs_and_goes_with_it(world: World) -> None:
    handle = world.handle()
    world.store.change("running")
    world.read(handle)
    world.pass_time(0.3)
    world.send(Batch([], [ProgressEvent(id=ID, claim_number=1, progress=0.5, message="half")]))
    assert (handle.known.progress, handle.known.progress_message) == (0.5, "half")
    world.run(handle.refresh())
    assert handle.known.progress == 0.5
    world.store.change("pending")
    world.run(handle.refresh())
    assert handle.known.progress is None


def test_what_changes_a_job_returns_its_handle() -> None:
    with TestQueue() as queue:

        @queue.task(max_attempts=1)
        def divide(a: int) -> float:
            return 1 / a

        job, other = divide.submit(0), divide.submit(1)
        handle = other.asynchronous
        assert queue.run(handle.update({"tags": ["x"]}, priority="low")) is handle
        assert (handle.known.tags, handle.known.priority) == (("x",), "low")
        assert queue.run(handle.cancel()) is handle
        queue.run_until_idle()
        assert queue.run(job.asynchronous.refresh()) is job.asynchronous
        assert queue.run(job.asynchronous.requeue()) is job.asynchronous
        assert job.update(priority="high") is job
