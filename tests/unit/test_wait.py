"""Waiting for jobs, on a control that misbehaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from dtqkit.client.wait import Waiter
from dtqkit.control import JobsRequest, JobStatus
from dtqkit.model.errors import AccessDenied
from dtqkit.model.events import Batch, Line, event_of
from dtqkit.model.jobs import Job
from tests.stub import StubControl
from tests.virtual import VirtualLoop


class Refusing(StubControl):
    """Accepts no token."""

    async def records(self, asked: JobsRequest) -> list[Job]:  # noqa: ARG002
        raise AccessDenied("no such token")


def test_a_look_that_is_refused_ends_the_wait_and_the_next_wait_too() -> None:
    async def wait_twice() -> None:
        waiter = Waiter(Refusing())
        try:
            for _ in range(2):
                with pytest.raises(AccessDenied):
                    await asyncio.wait_for(waiter.wait({"a" * 24: ()}, lambda _: None), 5)
        finally:
            await waiter.close()

    asyncio.run(wait_twice())


class Counting(StubControl):
    """Jobs that run until they are ended; counts what is asked for."""

    def __init__(self, n: int) -> None:
        created = datetime(2026, 1, 1, tzinfo=UTC)
        self.jobs = {f"{i:024x}": Job(id=f"{i:024x}", task="f", payload={}, created_at=created) for i in range(n)}
        self.read: Counter[str] = Counter()
        self.statuses_asked = 0
        self.notify: Callable[[Batch | Line], None] = lambda _: None

    def end(self, job_id: str) -> Job:
        self.jobs[job_id] = msgspec.structs.replace(self.jobs[job_id], status="completed", rev=3, result="x")
        return self.jobs[job_id]

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        self.notify = callback
        return lambda: None

    async def records(self, asked: JobsRequest) -> list[Job]:
        assert not asked.payload
        self.read.update(asked.ids)
        return [self.jobs[job_id] for job_id in asked.ids]

    async def statuses(self, asked: JobsRequest) -> list[JobStatus]:
        self.statuses_asked += 1
        return [JobStatus(i, self.jobs[i].status, self.jobs[i].rev) for i in asked.ids]


@pytest.mark.parametrize("line", Line)
def test_waiting_asks_for_statuses_and_reads_each_record_once_when_it_is_over(line: Line) -> None:
    loop = VirtualLoop()
    control = Counting(1_000)
    ended = Counter[str]()

    async def story() -> None:
        waiter = Waiter(control)
        waiting = asyncio.create_task(
            waiter.wait(dict.fromkeys(control.jobs, ()), lambda job_id: ended.update([job_id]))
        )
        await asyncio.sleep(0)
        control.notify(line)
        # For a minute, nothing ends
        await asyncio.sleep(60)  # virtual
        assert not control.read
        assert 10 <= control.statuses_asked <= 70
        # Then one after the other, with and without an event
        for i, job_id in enumerate(list(control.jobs)):
            job = control.end(job_id)
            if line is Line.UP and i % 2:
                control.notify(Batch([event_of(job)]))
            if i % 100 == 0:
                await asyncio.sleep(1)  # virtual
        await waiting
        await waiter.close()

    loop.run_until_complete(story())
    loop.close()
    assert set(control.read.values()) == {1}
    assert ended == control.read
