"""`dtqkit jobs --follow` misses no change between its listing and its subscription, and prints none twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import msgspec
import pytest

from dtqkit import AsyncTaskQueue, Job, Settings, TaskQueue
from dtqkit.cli.follow import follow_events
from dtqkit.control import Page
from dtqkit.model.events import JobEvent
from dtqkit.run.supervisor import environment_of
from tests import sample
from tests.workers import Workers


def test_a_job_that_is_submitted_while_the_jobs_are_listed_is_followed_from_its_first_change(
    queue: TaskQueue, worker: Workers, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    before = sample.add.submit(1)
    before.result(timeout=20)
    listed = AsyncTaskQueue.jobs
    between: list[str] = []

    async def jobs(self: AsyncTaskQueue, **filters: Any) -> Page[Job]:
        page = await listed(self, **filters)
        if not between:
            job = await asyncio.to_thread(sample.add.submit, 2)
            between.append(job.id)
            await asyncio.to_thread(job.result, 20)
            asyncio.get_running_loop().call_later(2, os.kill, os.getpid(), signal.SIGINT)
        return page

    monkeypatch.setattr(AsyncTaskQueue, "jobs", jobs)
    asyncio.run(follow_events({"task": "add", "limit": 20}, json=True))

    events = [msgspec.json.decode(line, type=JobEvent) for line in capsys.readouterr().out.splitlines()]
    statuses = [event.status for event in events if event.id == between[0]]
    assert (statuses[0], statuses[-1]) == ("pending", "completed")
    assert max(Counter((event.id, event.rev) for event in events).values()) == 1
    assert events[0].id == before.id
