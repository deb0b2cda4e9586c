"""Pause, resume and list pauses: what both kinds of queue do, each in its way."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

from dtqkit.control import Control
from dtqkit.control.pauses import PAUSE, PAUSES, RESUME, PausesRequest, pause_request, pause_target
from dtqkit.model.jobs import Priority
from dtqkit.model.pauses import Pause
from dtqkit.model.where import Scalar

T = TypeVar("T")


class PausingAsyncQueue:
    """For an AsyncTaskQueue."""

    control: Control

    async def pause(
        self,
        *,
        lane: Priority | None = None,
        task: str | None = None,
        where: Mapping[str, Scalar] | None = None,
        until: datetime | None = None,
        reason: str = "",
        allow_unknown: bool = False,
    ) -> Pause:
        """Start no job of a lane, of a task, or of a task with these values of parameters; see TaskQueue.pause."""
        given = {"lane": lane, "task": task, "where": where, "until": until, "reason": reason}
        return await self.control.ask(PAUSE, pause_request({**given, "allow_unknown": allow_unknown}))

    async def resume(
        self, *, lane: Priority | None = None, task: str | None = None, where: Mapping[str, Scalar] | None = None
    ) -> Pause:
        """End the pause that was begun with the same arguments. Raises NotPaused, which says what is paused."""
        return await self.control.ask(RESUME, pause_target({"lane": lane, "task": task, "where": where}))

    async def pauses(self) -> tuple[Pause, ...]:
        """What is paused, each with the number of jobs that wait because of it."""
        return await self.control.ask(PAUSES, PausesRequest())


class PausingQueue:
    """For a TaskQueue."""

    @property
    def core(self) -> PausingAsyncQueue:
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    def pause(
        self,
        *,
        lane: Priority | None = None,
        task: str | None = None,
        where: Mapping[str, Scalar] | None = None,
        until: datetime | None = None,
        reason: str = "",
        allow_unknown: bool = False,
    ) -> Pause:
        """Start no job of a lane, of a task, or of a task with these values of parameters, until `resume`.

            queue.pause(lane="low")
            queue.pause(task="render", where={"customer": 7}, until=tomorrow, reason="the printer is down")

        In force within two heartbeats on every worker; kept in MongoDB. Jobs that run go on; paused ones wait, and no
        attempt of theirs counts. `until` is a time with a zone, when the pause ends by itself. Raises InvalidPause,
        also for a task that no worker has published, unless `allow_unknown`.
        """
        return self.run(
            self.core.pause(lane=lane, task=task, where=where, until=until, reason=reason, allow_unknown=allow_unknown)
        )

    def resume(
        self, *, lane: Priority | None = None, task: str | None = None, where: Mapping[str, Scalar] | None = None
    ) -> Pause:
        """End the pause that was begun with the same arguments. Raises NotPaused, which says what is paused."""
        return self.run(self.core.resume(lane=lane, task=task, where=where))

    def pauses(self) -> tuple[Pause, ...]:
        """What is paused, each with the number of jobs that wait because of it."""
        return self.run(self.core.pauses())
