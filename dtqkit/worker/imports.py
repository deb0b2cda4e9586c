"""Import the APP and the tasks' modules in a child."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

from dtqkit.errors import UnknownTask
from dtqkit.tasks import Task
from dtqkit.worker.report import traceback_of
from dtqkit.worker.wire import Setup

Attach: TypeAlias = Callable[[Task[..., Any]], None]

#: Lines of a traceback that say why a module could not be imported.
_LINES: Final = 12


class Tasks:
    """The tasks of this process by their refs, imported when first needed."""

    def __init__(self, attach: Attach) -> None:
        #: Called with each task of the worker's once it is loaded.
        self._attach = attach
        self._found: dict[str, Task[..., Any]] = {}

    def get(self, ref: str) -> Task[..., Any]:
        """Raises UnknownTask, or whatever importing its module raises."""
        if ref not in self._found:
            module, _, qualname = ref.partition(":")
            found: Any = importlib.import_module(module)
            for part in qualname.split("."):
                found = getattr(found, part)
            if not isinstance(found, Task):
                raise UnknownTask(ref)
            task = self._found[ref] = cast("Task[..., Any]", found)
            self._attach(task)
        return self._found[ref]

    def warm(self, setup: Setup) -> dict[str, str]:
        """Import the APP as the worker did, then the tasks' modules: what could not be imported, and why."""
        errors: dict[str, str] = {}
        broken: dict[str, str] = {}
        if setup.app is not None:
            try:
                importlib.import_module(setup.app.partition(":")[0])
            except BaseException as error:
                return {setup.app: _last_lines(error)}
        for ref in setup.refs:
            module = ref.partition(":")[0]
            if module not in broken:  # else it would be imported once more for each of its tasks
                try:
                    self.get(ref)
                    continue
                except BaseException as error:
                    errors[ref] = _last_lines(error)
                    if module not in sys.modules:
                        broken[module] = errors[ref]
            else:
                errors[ref] = broken[module]
        for ref in setup.known:
            found = _loaded(ref)
            if isinstance(found, Task):
                self._attach(cast("Task[..., Any]", found))
        return errors


def _loaded(ref: str) -> Any:
    """What stands there, if its module is loaded."""
    module, _, qualname = ref.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _last_lines(error: BaseException) -> str:
    return "\n".join(traceback_of(error).rstrip().splitlines()[-_LINES:])
