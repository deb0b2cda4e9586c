"""The tasks of a queue, by name; and how another process finds one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Final, cast

from dtqkit.model.errors import TaskAlreadyRegistered, UnknownTask
from dtqkit.support.nearest import nearest
from dtqkit.tasks import origin
from dtqkit.tasks.isolation import HOOKED, in_threads, no_process
from dtqkit.tasks.scheduled import DeclaredSchedules
from dtqkit.tasks.task import RunsAs, Task


class TaskRegistry:
    """The tasks of a queue, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        #: What `queue.scheduled` has declared for them.
        self.scheduled: Final = DeclaredSchedules()
        #: Grows with each change.
        self.version: int = 0
        #: The APP whose import created this registry, such as "shop.tasks:queue": a child that imports it has the same.
        self.app: str | None = None
        self._of_app: frozenset[Task[..., Any]] = frozenset()
        #: The queue has hooks, and no APP whose import would bring them to a child process: none gets its tasks.
        self.confined: bool = False
        #: What `in_threads` has named, and of which version.
        self._named: set[Task[..., Any]] = set()
        self._named_version = 0

    def came_from(self, app: str) -> None:
        """Record that the tasks registered so far came with the import of `app`."""
        self.app = app
        self._of_app = frozenset(self)
        self.confined = False

    @property
    def declarer(self) -> str:
        """Who declares its schedules: the APP, or the module of the tasks where there is none."""
        return self.app or next(iter(self.scheduled.homes), "__main__")

    def confine(self) -> None:
        """The queue has a hook now, which child processes have only by the import of an APP."""
        if not self.confined and self.app is None:
            self.confined = True
            self.version += 1

    def importable(self, task: Task[..., Any]) -> bool:
        """Whether a child process can have the task: from the APP, by name, or from its module."""
        return task in self._of_app or (not self.confined and task.ref is not None)

    def runs_as(self, task: Task[..., Any]) -> RunsAs:
        """Where its jobs run."""
        return "coroutine" if task.is_async else task.runs_where(importable=self.importable(task))

    def in_threads(self) -> list[str]:
        """A line for the log about the tasks that run in a thread without having asked for one, for each reason; and
        one about each task that cannot run. Each task is named once."""
        if self.version == self._named_version:
            return []
        self._named_version = self.version
        news = [task for task in self if not (task.is_async or task in self._named or self.importable(task))]
        self._named.update(news)
        threads: dict[str, list[str]] = {}
        for task in news:
            if task.defaults.isolation == "auto":
                why = HOOKED if self.confined and task.ref is not None else task.why_not_importable()
                threads.setdefault(why, []).append(task.name)
        lost = [f"task {self.no_process(task)}" for task in news if task.defaults.isolation == "process"]
        return [in_threads(names, why) for why, names in threads.items()] + lost

    def no_process(self, task: Task[..., Any]) -> str:
        """Why a task that asks for a process cannot have one, and what to do."""
        if self.confined and task.ref is not None:
            return no_process(task.name)
        return task.no_process()

    def add(self, task: Task[..., Any]) -> None:
        """Register; the same function again (a notebook cell run again) replaces the earlier one.

        Raises TaskAlreadyRegistered when another function has the name.
        """
        known = self._tasks.get(task.name)
        if known is task:
            return
        if known is not None and (old := origin.home_of(known.function)) != (new := origin.home_of(task.function)):
            raise TaskAlreadyRegistered(
                f"{':'.join(old)} is already registered as {task.name!r}; give {':'.join(new)} another name=…"
            )
        self._tasks[task.name] = task
        self.version += 1

    def find(self, name: str) -> Task[..., Any] | None:
        return self._tasks.get(name)

    def get(self, name: str) -> Task[..., Any]:
        """UnknownTask, with similar names, or without any the registered ones."""
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTask(name, self.near(name), there=tuple(self._tasks)) from None

    def near(self, name: str) -> list[str]:
        """Registered names that look like `name`, at most three."""
        return nearest(name, self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[Task[..., Any]]:
        """A snapshot: tasks may be added during the iteration."""
        return iter(tuple(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)


def find_task(ref: str, name: str) -> Task[..., Any]:
    """The task at `ref`; imports its module if necessary.

    Raises what the import raises, and UnknownTask when no callable is found there.
    """
    module, _, qualname = ref.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    inner: Any = found
    while inner is not None:
        if isinstance(inner, Task):
            return cast("Task[..., Any]", inner)
        inner = getattr(inner, "__wrapped__", None)
    if not callable(found):
        raise UnknownTask(name)
    return Task(found, name)
