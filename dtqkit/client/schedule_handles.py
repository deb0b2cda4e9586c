"""Schedules for threads and notebooks: what a TaskQueue does with them, and their handles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar, cast

from dtqkit.client.driver import Driver
from dtqkit.client.handles import JobHandle
from dtqkit.client.schedules import AsyncScheduleHandle, definition, shown_as
from dtqkit.control.schedules import Applied, Backfilled
from dtqkit.model.jobs import Job
from dtqkit.model.schedules import CatchUpRuns, Overlap, Schedule
from dtqkit.tasks.task import Call, Task

F = TypeVar("F", bound=Callable[..., Any])


class SchedulingQueue(Driver, ABC):
    """What a TaskQueue does with schedules."""

    _works_here: bool = False

    @abstractmethod
    def task(self, function: Callable[..., Any], /) -> Any: ...

    @abstractmethod
    def require_workers_for(self, tasks: Iterable[Task[..., Any, Any]]) -> None: ...

    def schedule(
        self,
        name: str,
        call: Call[Any],
        *,
        cron: str | None = None,
        every_s: float | None = None,
        tz: str = "UTC",
        overlap: Overlap = "allow",
        catch_up: str | float = "1h",
        catch_up_runs: CatchUpRuns = "last",
        jitter_s: float = 0.0,
    ) -> ScheduleHandle:
        """Run `call` at the times of a cron expression in the zone `tz`, or every so many seconds.

            queue.schedule("nightly", report.bind(day="yesterday"), cron="0 3 * * 1-5", tz="Europe/Berlin")
            queue.schedule("pulse", ping.bind(), every_s=10)

        The workers' leader enqueues a job each time; it has `ctx.scheduled_for`. A schedule of this name is changed, if
        it runs the same task. `overlap`: what happens to a run that is due while the one before is not over: allow,
        skip, queue_one (one waits) or cancel_running. `catch_up`: runs that could not start in time are made up for
        when they are not older: the last one, or `catch_up_runs="all"`. `jitter_s`: each starts up to so much later.

        Raises InvalidSchedule, InvalidCron or UnknownZone, which name the field; UnknownTask; InvalidPayload; and
        ScheduleTaken when the name belongs to another task or to an app's code.
        """
        if isinstance(call, Call):  # pyright: ignore[reportUnnecessaryIsInstance] - the core says what is wrong
            self.require_workers_for([call.task])
        made = self.core.schedule(
            name,
            call,
            cron=cron,
            every_s=every_s,
            tz=tz,
            overlap=overlap,
            catch_up=catch_up,
            catch_up_runs=catch_up_runs,
            jitter_s=jitter_s,
        )
        return ScheduleHandle(self, self.run(made))

    def scheduled(
        self,
        cron: str | None = None,
        *,
        every_s: float | None = None,
        name: str | None = None,
        payload: Mapping[str, Any] | None = None,
        tz: str = "UTC",
        overlap: Overlap = "allow",
        catch_up: str | float = "1h",
        catch_up_runs: CatchUpRuns = "last",
        jitter_s: float = 0.0,
    ) -> Callable[[F], F]:
        """Declare a schedule beside its task; workers put it into the record when they start.

            @queue.scheduled("0 3 * * 1-5", tz="Europe/Berlin")
            @queue.task
            def nightly() -> None: ...

        Its name is the task's, unless `name` is given; `payload` has the arguments. See `schedule` for the others. A
        function that is no task yet becomes one. Raises InvalidSchedule, and ScheduleTaken for a name that is declared
        twice.
        """

        def declare(function: F) -> F:
            task = cast("Any", function) if isinstance(function, Task) else self.task(function)
            checked = task.check_payload(payload or {})
            wanted = definition(
                task.name if name is None else name,
                Call(task, checked),
                cron=cron,
                every_s=every_s,
                tz=tz,
                overlap=overlap,
                catch_up=catch_up,
                catch_up_runs=catch_up_runs,
                jitter_s=jitter_s,
            )
            self.registry.scheduled.add(wanted, task)
            if self._works_here:
                self.apply_schedules()
            return task

        return declare

    def schedules(self) -> list[ScheduleHandle]:
        """All schedules, by name."""
        return [ScheduleHandle(self, one) for one in self.run(self.core.schedules())]

    def schedule_of(self, name: str) -> ScheduleHandle:
        """The schedule of this name. Raises ScheduleNotFound."""
        return ScheduleHandle(self, self.run(self.core.schedule_of(name)))

    def apply_schedules(self, *, prune: bool = False, force: bool = False) -> Applied:
        """Put the schedules that `scheduled` has declared into the record, as workers do when they start.

        `prune` removes those that this app has declared before and does not declare any more. `force` also puts back a
        definition that a newer one has replaced.
        """
        return self.run(self.core.apply_schedules(prune=prune, force=force))


class ScheduleHandle:
    """A schedule. `record` is what it was when it was last asked for: by `refresh()`, or by what changed it."""

    __slots__ = ("__weakref__", "_queue", "asynchronous")

    def __init__(self, queue: Driver, handle: AsyncScheduleHandle) -> None:
        self._queue = queue
        #: The asynchronous handle, which lives on the queue's private loop.
        self.asynchronous: AsyncScheduleHandle = handle

    @property
    def record(self) -> Schedule:
        return self.asynchronous.record

    @property
    def name(self) -> str:
        return self.record.name

    def refresh(self) -> Self:
        """Ask for the schedule as it is now. Raises ScheduleNotFound."""
        return self._after(self.asynchronous.refresh())

    def pause(self, reason: str = "") -> Self:
        """Enqueue nothing until `resume`. Times in between are skipped, and counted."""
        return self._after(self.asynchronous.pause(reason))

    def resume(self) -> Self:
        return self._after(self.asynchronous.resume())

    def run_now(self) -> JobHandle[Any]:
        """Enqueue a job now, whatever `overlap` says, and also while it is paused."""
        return JobHandle(self._queue, self._queue.run(self.asynchronous.run_now()))

    def backfill(self, start: datetime, end: datetime) -> Backfilled:
        """Enqueue a job for each time from `start` to before `end` that has none. At most 1,000."""
        return self._queue.run(self.asynchronous.backfill(start, end))

    def remove(self) -> None:
        """Remove it; its jobs stay. One that code declares comes again when a worker starts."""
        self._queue.run(self.asynchronous.remove())

    def next_runs(self, count: int = 5) -> Sequence[datetime]:
        """The next times, without jitter, as long as nothing is changed; also of a paused one."""
        return self._queue.run(self.asynchronous.next_runs(count))

    def runs(self, limit: int = 50) -> Sequence[Job]:
        """Its last jobs, the latest first."""
        return self._queue.run(self.asynchronous.runs(limit))

    def _after(self, work: Coroutine[Any, Any, Any]) -> Self:
        self._queue.run(work)
        return self

    def __repr__(self) -> str:
        return shown_as(self.record)
