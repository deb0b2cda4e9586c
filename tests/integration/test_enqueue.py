"""Every process with the stores can enqueue, also recovery and workers, without the code of the task."""

from __future__ import annotations

import asyncio
from typing import Any

from dtqkit import Job, Settings, TaskQueue
from dtqkit.broker import Broker
from dtqkit.control import Submission
from dtqkit.model.errors import InvalidPayload, UnknownTask
from dtqkit.store import Store
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.transitions.enqueue import Enqueuer


def test_without_the_tasks_code_a_job_gets_the_options_that_were_published(settings: Settings) -> None:
    queue = TaskQueue(settings)

    @queue.task(priority="high", max_attempts=7, backoff_s=2.5)
    def render(page: int) -> int:
        return page

    async def scenario() -> list[Any]:
        store, broker = Store(settings), Broker(settings)
        enqueuer = Enqueuer(settings, broker, store, TaskRegistry())
        try:
            await store.open()
            await store.catalogue.publish([render.info])
            answers = await enqueuer.enqueue(
                [
                    Submission(task="render", payload={"page": 3}, idempotency_key="next"),
                    Submission(task="rendr", payload={"page": 3}),
                    Submission(task="render", payload={"page": "three"}),
                    Submission(task="render", payload={"page": 3}, idempotency_key="next"),
                ]
            )
            assert (await broker.depths()).high == 1
            return answers
        finally:
            await enqueuer.close()
            await broker.close()
            await store.close()

    first, unknown, invalid, again = asyncio.run(scenario())
    queue.close()
    assert isinstance(first, Job)
    assert (first.priority, first.max_attempts, first.backoff_s, first.payload) == ("high", 7, 2.5, {"page": 3})
    assert isinstance(unknown, UnknownTask)
    assert "render" in str(unknown)
    assert isinstance(invalid, InvalidPayload)
    assert again.id == first.id
