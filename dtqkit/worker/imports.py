"""Import the APP and the tasks' modules in a child."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

from dtqkit.model.errors import TaskDefinitionError
from dtqkit.tasks.hooks import Hooks
from dtqkit.tasks.registry import TaskRegistry, find_task
from dtqkit.tasks.task import Task
from dtqkit.worker.child_messages import Setup
from dtqkit.worker.report import traceback_of

Attach: TypeAlias = Callable[[Task[..., Any]], None]

#: Lines of a traceback that are shown when a module could not be imported.
_LINES: Final = 12


class Tasks:
    """The tasks of this process by name, imported when first needed."""

    def __init__(self, attach: Attach) -> None:
        #: Called with each task of the worker's once it is loaded.
        self._attach = attach
        self._found: dict[str, Task[..., Any]] = {}
        self._of_app: TaskRegistry | None = None
        #: Of the APP's queue.
        self.hooks = Hooks()

    def get(self, name: str, ref: str) -> Task[..., Any]:
        """From the APP, by name, else from where `ref` leads to.

        Raises UnknownTask, or whatever importing its module raises.
        """
        if name not in self._found:
            task = self._of_app.find(name) if self._of_app is not None else None
            if task is None and not ref:
                raise TaskDefinitionError(
                    f"{name}: no child process can import it: put it in a module, at its top level"
                )
            self._found[name] = find_task(ref, name) if task is None else task
            self._attach(self._found[name])
        return self._found[name]

    def warm(self, setup: Setup) -> dict[str, str]:
        """Import the APP as the worker did, then the tasks' modules: what could not be imported, and why."""
        errors: dict[str, str] = {}
        broken: dict[str, str] = {}
        if setup.app is not None:
            try:
                queue = _queue_of(setup.app)
                self._of_app, self.hooks = cast(TaskRegistry, queue.registry), cast(Hooks, queue.hooks)
            except BaseException as error:
                return {setup.app: _last_lines(error)}
        for name, ref in setup.tasks.items():
            module = ref.partition(":")[0]
            if module in broken:  # else it would be imported once more for each of its tasks
                errors[name] = broken[module]
                continue
            try:
                self.get(name, ref)
            except BaseException as error:
                errors[name] = _last_lines(error)
                if module and module not in sys.modules:
                    broken[module] = errors[name]
        for ref in setup.known:
            found = _loaded(ref)
            if isinstance(found, Task):
                self._attach(cast("Task[..., Any]", found))
        return errors


def _queue_of(app: str) -> Any:
    """The queue that `package.module:queue` names."""
    module, _, path = app.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _loaded(ref: str) -> Any:
    """The object at `ref`, if its module is loaded."""
    module, _, qualname = ref.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _last_lines(error: BaseException) -> str:
    return "\n".join(traceback_of(error).rstrip().splitlines()[-_LINES:])
