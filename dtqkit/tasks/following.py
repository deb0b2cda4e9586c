"""The tasks that `on_failure` and `on_success` name: checked where they are given. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Protocol, TypeAlias

from msgspec import Meta

from dtqkit.model.errors import InvalidOption, InvalidPayload
from dtqkit.model.followups import EXAMPLES
from dtqkit.model.values import shown

TASK_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.-]{0,127}"
TaskName = Annotated[str, Meta(min_length=1, max_length=128, pattern=f"^{TASK_NAME}$")]


class FollowingTask(Protocol):
    """A Task, as far as it is needed here."""

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> Mapping[str, Any]: ...

    def check_payload(self, payload: Mapping[str, Any]) -> dict[str, Any]: ...


#: What `on_failure` and `on_success` take.
Following: TypeAlias = str | FollowingTask


def name_of_follower(option: str, given: Any) -> str:
    """The name of a task, which may be given by its name. Raises InvalidOption when it could not follow on a job."""
    if isinstance(given, str):
        if not re.fullmatch(TASK_NAME, given):
            raise InvalidOption(f"{option} is {shown(given)}; it is a task or the name of one")
        return given
    name, schema = getattr(given, "name", None), getattr(given, "schema", None)
    if not isinstance(name, str) or schema is None:
        raise InvalidOption(f"{option} is {shown(given)}; it is a task or the name of one")
    names = list(schema.get("properties", {}))
    for end in EXAMPLES if names else ():
        try:
            given.check_payload({names[0]: end.as_argument()})
        except InvalidPayload as error:
            raise InvalidOption(
                f"{option}: write a task that takes one argument, `end: dtqkit.JobEnd`, and submits {name} with the "
                f"arguments that it needs, and name that task here; {name} cannot follow on a job by itself: "
                f"{error.detail} (at {error.path})"
            ) from None
    return name
