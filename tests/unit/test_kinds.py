"""Which tasks a worker can run, asked from two threads: its loop's and that of its heartbeat."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from typing_extensions import override

from dtqkit.tasks.options import options_of
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import Task
from dtqkit.worker.kinds import Kinds


def render() -> None: ...


class Interrupted(TaskRegistry):
    """While one thread reads the tasks for the first time, another one asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = Kinds(self, lambda: missing)
        self.seen: list[tuple[str, ...]] = []
        self._first = True

    @override
    def __iter__(self) -> Iterator[Task[..., Any]]:
        if self._first:
            self._first = False
            other = threading.Thread(target=lambda: self.seen.append(self.kinds.present()))
            other.start()
            other.join(10)
        return super().__iter__()


missing: dict[str, str] = {}


def test_a_thread_that_asks_while_another_one_reads_the_registry_sees_all_of_it() -> None:
    registry = Interrupted()
    registry.add(Task(render, "render", options_of("render", {"isolation": "thread"})))
    assert registry.kinds.present() == ("loop",)
    assert registry.seen == [("loop",)]
    assert registry.kinds.of("render") == "loop"
