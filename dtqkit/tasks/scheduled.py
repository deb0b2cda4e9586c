"""Schedules that code declares beside its tasks: `@queue.scheduled("0 * * * *")`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from dtqkit.model.schedule_changes import check
from dtqkit.model.schedule_errors import InvalidSchedule, ScheduleTaken
from dtqkit.model.schedules import Definition
from dtqkit.tasks import origin
from dtqkit.tasks.options import JobOptions
from dtqkit.tasks.task import Task

#: Options of a call that a schedule decides itself.
_ITS_OWN: Final = {
    "idempotency_key": "it gives each of its runs a key of its own",
    "delay_s": "shift its times instead, or use jitter_s",
    "starts_at": "its times say when its jobs start",
    "wait_s": "the leader tries again until MongoDB takes the job",
    **dict.fromkeys(
        ("unique", "unique_for_s", "unique_key", "unique_by", "on_duplicate", "debounce_s", "debounce_max_s"),
        "its overlap says what happens while the run before is not over",
    ),
}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raises InvalidSchedule for options that the jobs of a schedule cannot have."""
    for option, why in _ITS_OWN.items():
        if option in options:
            raise InvalidSchedule("options", f"schedule {name!r} cannot have the option {option}: {why}")
    try:
        msgspec.convert(dict(options), JobOptions)
    except msgspec.ValidationError as error:
        raise InvalidSchedule("options", f"the options of schedule {name!r} are not right: {error}") from None


class DeclaredSchedules:
    """The schedules that are declared for the tasks of one registry."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[Definition, Task[..., Any, Any]]] = {}

    def add(self, definition: Definition, task: Task[..., Any, Any]) -> None:
        """Raises InvalidSchedule; ScheduleTaken when another function has declared one of this name.

        The same function again, as in a notebook's cell that is run again, replaces what it had declared.
        """
        check(definition)
        check_options(definition.name, definition.options)
        if (known := self._by_name.get(definition.name)) is not None:
            homes = [origin.home_of(one.function) for one in (known[1], task)]
            if homes[0] != homes[1] or (known[1] is task and known[0] != definition):
                first, second = (":".join(home) for home in homes)
                raise ScheduleTaken(
                    f"schedule {definition.name!r} is declared twice, for {first} and for {second}: give one of them "
                    "another name=…"
                )
        self._by_name[definition.name] = definition, task

    def take(self, other: DeclaredSchedules) -> None:
        """Have those of `other`, too."""
        self._by_name |= other._by_name

    @property
    def homes(self) -> list[str]:
        """The modules of the tasks."""
        return [origin.home_of(task.function)[0] for _, task in self._by_name.values()]

    def __iter__(self) -> Iterator[Definition]:
        return iter([definition for definition, _ in self._by_name.values()])

    def __len__(self) -> int:
        return len(self._by_name)
