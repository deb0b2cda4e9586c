"""Which payloads have certain values, as the `where` of a pause and of a bulk asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

from msgspec import Meta

#: What a parameter may be compared with.
Scalar: TypeAlias = str | int | float | bool | None
#: Parameters that are compared at most, and characters of a text.
MAX_WHERE: Final = 10
MAX_TEXT: Final = 500
Where = Annotated[dict[str, Scalar], Meta(max_length=MAX_WHERE)]

_ABSENT: Final = object()


class WrongWhere(ValueError):
    """A `where` that cannot be, or that no job can match: what is wrong, and the cure. Its caller names the field."""


class PayloadMatch(NamedTuple):
    """The values, and what a payload means that leaves one out: of each task, those defaults that are that value."""

    where: Mapping[str, Scalar]
    defaults: Mapping[str, Mapping[str, Scalar]]

    def has(self, task: str, payload: Mapping[str, Any]) -> bool:
        """Whether a job of this task with this payload matches."""
        return has_values(payload, self.where, self.defaults.get(task, {}))


def has_values(payload: Mapping[str, Any], where: Mapping[str, Scalar], defaults: Mapping[str, Any]) -> bool:
    """Whether `payload` has all these values; a parameter that it leaves out has its default."""
    return all(same(payload.get(name, defaults.get(name, _ABSENT)), value) for name, value in where.items())


def same(found: object, value: Scalar) -> bool:
    """As MongoDB compares: 7 and 7.0 are the same, 1 and true are not."""
    return isinstance(found, bool) == isinstance(value, bool) and found == value
