"""What a running task can know and say of itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol


class Context(Protocol):
    """What a running task can know and say of itself: `def build(ctx: Context, n: int)`.

    It is injected, and so must be the first parameter; it is no part of the payload.
    """

    job_id: str
    #: The task's name.
    task: str
    #: 1 for the job's first attempt.
    attempt: int
    #: Id of the worker that runs it.
    worker: str
    #: What the queue's lifespan yielded in this process; None without one.
    state: Any
    #: The time at which the job's schedule should run, in UTC; None for what no schedule made.
    scheduled_for: datetime | None

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop: long loops in threads should look."""
        ...

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far it is, from 0 to 1; shown on boards at once, kept when the job ends."""
        ...

    def log(self, message: str) -> None:
        """Add a line to the job's log."""
        ...
