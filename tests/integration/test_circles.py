"""Tasks that follow on each other in a circle."""

from __future__ import annotations

import pytest

from dtqkit import TaskQueue
from dtqkit.transitions import followup
from tests.wait import wait_until
from tests.workers import Workers


def test_a_circle_of_tasks_ends_and_the_last_job_says_why(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followup, "MAX_DEPTH", 5)

    @queue.task(on_success="pong")
    async def ping() -> None: ...

    @queue.task(on_success="ping")
    async def pong() -> None: ...

    with Workers(queue):
        first = ping.submit()
        wait_until(lambda: any(job.not_followed for job in queue.jobs(status="completed").items))
        done = sorted(queue.jobs().items, key=lambda job: job.follow_depth or 0)
    assert [job.follow_depth for job in done] == [None, 1, 2, 3, 4, 5]
    assert {job.status for job in done} == {"completed"}
    assert done[0].id == first.id
    assert [job.followed_by[-1:] for job in done[:-1]] == [(job.id,) for job in done[1:]]
    assert done[-1].not_followed == (
        "on_success names 'ping', and 5 jobs have followed on each other already, as in a circle of tasks: no more do; "
        "use a schedule for what runs again and again"
    )
    assert not done[-1].followed_by
    # A requeued or resubmitted job begins a chain of its own.
    assert ping.submit().record.follow_depth is None
