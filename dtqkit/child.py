"""The program of a child process: it imports the same APP as its worker, and its tasks submit to the worker's queue."""

from __future__ import annotations

import socket
import sys
from typing import Any, NoReturn

import msgspec

from dtqkit.client.decorators import QueuedTask, adopt
from dtqkit.client.queue import TaskQueue
from dtqkit.model.settings import Settings, inherit
from dtqkit.tasks.task import Task
from dtqkit.worker.child import Child


def main(descriptor: int) -> NoReturn:
    """Run as `python -c`, with `descriptor` as the child's end of a socket pair."""
    child = Child(socket.socket(fileno=descriptor))
    setup = child.setup()
    sys.argv[:] = setup.argv
    settings = msgspec.convert(setup.settings, Settings)
    # A queue without settings of its own uses the worker's, as in the worker.
    inherit(settings)
    queue = TaskQueue(settings)
    adopt(queue)

    def attach(task: Task[..., Any]) -> None:
        """The tasks that the worker serves submit to its queue here too."""
        if isinstance(task, QueuedTask) and not task.submits_to(settings):
            queue.add(task)

    child.warm(setup, attach, queue.hooks)
    child.run()
