"""Which tasks this worker can run, and in which kind of slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dtqkit.support.formatting import counted
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.worker.slots import Kind

KINDS: Final[tuple[Kind, ...]] = ("loop", "process")


class Kinds:
    """The registered tasks by kind of slot; those whose module no child can import are left out."""

    def __init__(self, registry: TaskRegistry, unusable: Callable[[], Mapping[str, str]]) -> None:
        """`unusable` names the tasks that children cannot import, each with the reason."""
        self.registry: Final = registry
        self._unusable = unusable
        self._version = -1
        self._missing: Mapping[str, str] = {}
        self._of: dict[str, Kind] = {}
        self._names: dict[Kind, list[str]] = {}

    def _refreshed(self) -> None:
        missing = self._unusable()
        if missing is self._missing and self.registry.version == self._version:
            return
        self._version, self._missing = self.registry.version, missing
        self._of = {}
        for task in self.registry:
            if task.name not in missing:
                self._of[task.name] = "process" if self.registry.runs_as(task) == "process" else "loop"
        self._names = {kind: sorted(name for name, of in self._of.items() if of == kind) for kind in KINDS}

    def of(self, task: str) -> Kind | None:
        """The kind of slot that `task` needs, as of the last look at all of them; None when it cannot run here."""
        return self._of.get(task)

    def why_not(self, task: str) -> str:
        """Why `task` cannot run here, for the log."""
        if (reason := self._unusable().get(task)) is not None:
            return f"no child process can import it ({reason})"
        known = counted(len(self._of), "task", "tasks")
        return f"this worker does not know it (it knows {known}); a worker that does will run them"

    def names(self, *kinds: Kind) -> list[str]:
        """The tasks that run in slots of these kinds."""
        self._refreshed()
        return [name for kind in kinds for name in self._names[kind]]

    def served(self) -> list[str]:
        """All of them, for people."""
        return self.names(*KINDS)

    def present(self) -> tuple[Kind, ...]:
        """The kinds of slot that some task needs."""
        self._refreshed()
        return tuple(kind for kind in KINDS if self._names[kind])
