"""Which tasks this worker can run, and in which kind of slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from dtqkit.support.formatting import counted
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.worker.slots import Kind

KINDS: Final[tuple[Kind, ...]] = ("loop", "process")


class _Known(NamedTuple):
    """The tasks of one version of the registry. Replaced as a whole."""

    version: int
    missing: Mapping[str, str]
    of: Mapping[str, Kind]
    names: Mapping[Kind, tuple[str, ...]]


class Kinds:
    """The registered tasks by kind of slot; those whose module no child can import are left out."""

    def __init__(self, registry: TaskRegistry, unusable: Callable[[], Mapping[str, str]]) -> None:
        """`unusable` names the tasks that children cannot import, each with the reason."""
        self.registry: Final = registry
        self._unusable = unusable
        self._known = _Known(-1, {}, {}, dict.fromkeys(KINDS, ()))

    def _refreshed(self) -> _Known:
        """What is registered by now. The loop and the thread of the heartbeat ask: both see all of it, or what was."""
        known, missing, version = self._known, self._unusable(), self.registry.version
        if missing is not known.missing or version != known.version:
            of: dict[str, Kind] = {
                task.name: "process" if self.registry.runs_as(task) == "process" else "loop"
                for task in self.registry
                if task.name not in missing
            }
            names = {kind: tuple(sorted(name for name, its in of.items() if its == kind)) for kind in KINDS}
            known = self._known = _Known(version, missing, of, names)
        return known

    def of(self, task: str) -> Kind | None:
        """The kind of slot that `task` needs, as of the last look at all of them; None when it cannot run here."""
        return self._known.of.get(task)

    def why_not(self, task: str) -> str:
        """Why `task` cannot run here, for the log."""
        if (reason := self._unusable().get(task)) is not None:
            return f"no child process can import it ({reason})"
        known = counted(len(self._known.of), "task", "tasks")
        return (
            f"this worker does not know it (it knows {known}); a worker that does will run them (if you have just "
            "added it, restart the workers, or start them with --reload)"
        )

    def names(self, *kinds: Kind) -> list[str]:
        """The tasks that run in slots of these kinds."""
        known = self._refreshed()
        return [name for kind in kinds for name in known.names[kind]]

    def served(self) -> list[str]:
        """All of them, for people."""
        return self.names(*KINDS)

    def present(self) -> tuple[Kind, ...]:
        """The kinds of slot that some task needs."""
        known = self._refreshed()
        return tuple(kind for kind in KINDS if known.names[kind])
