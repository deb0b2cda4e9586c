"""Pauses: what is asked, and the rows of the table of operations."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

from dtqkit.control.operations import OPERATIONS
from dtqkit.control.table import Operation
from dtqkit.control.where import (
    check_names,
    check_parameters,
    check_text,
    check_where,
    comparable_defaults,
    where_of,
)
from dtqkit.model.jobs import PRIORITIES
from dtqkit.model.pause_errors import InvalidPause
from dtqkit.model.pauses import Pause, Reason
from dtqkit.model.values import shown
from dtqkit.model.where import Where, WrongWhere

T = TypeVar("T", bound="PauseTarget")

#: A lane by its name; another name is an InvalidPause, which says which there are.
LaneName = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(PRIORITIES)})]


class PausesRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is paused; with the number of jobs that each pause holds, unless `counted` is false."""

    counted: bool = True


class PauseTarget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A lane, a task, or the jobs of a task whose payload has these values."""

    lane: LaneName | None = None
    task: str | None = None
    where: Where = {}


class PauseRequest(PauseTarget, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A pause to begin. Without `until` it lasts until somebody ends it."""

    #: With a time zone.
    until: datetime | None = None
    reason: Reason = ""
    #: Accept a task that no worker has published, and parameters that it does not have.
    allow_unknown: bool = False


PAUSES: Final = OPERATIONS.add(
    Operation(
        name="pauses",
        path="/pauses",
        summary="What is paused, and how many jobs wait because of it.",
        request=PausesRequest,
        response=tuple[Pause, ...],
    )
)

PAUSE: Final = OPERATIONS.add(
    Operation(
        name="pause",
        method="POST",
        path="/pauses",
        scope="write",
        summary="Pause a lane, a task, or a task's jobs with certain values; in force within two heartbeats.",
        request=PauseRequest,
        response=Pause,
    )
)

RESUME: Final = OPERATIONS.add(
    Operation(
        name="resume",
        method="POST",
        path="/pauses/resume",
        scope="write",
        summary="End a pause.",
        request=PauseTarget,
        response=Pause,
    )
)


def pause_request(given: Mapping[str, Any]) -> PauseRequest:
    """The record of keyword arguments, None meaning not given. Raises InvalidPause, which names the argument."""
    return _record(PauseRequest, given)


def pause_target(given: Mapping[str, Any]) -> PauseTarget:
    """The same of what to resume."""
    return _record(PauseTarget, given)


def _record(kind: type[T], given: Mapping[str, Any]) -> T:
    fields = {name: value for name, value in given.items() if value is not None}
    for name in _TYPES:
        _check_type(name, fields.get(name))
    with refused("where"):
        fields["where"] = where_of(fields.get("where", {}))
    asked = kind(**fields)
    _check_texts(asked)
    return asked


@contextmanager
def refused(field: str) -> Generator[None]:
    """WrongWhere is an InvalidPause, which names this field."""
    try:
        yield
    except WrongWhere as wrong:
        raise InvalidPause(field, str(wrong)) from None


def _check_texts(asked: PauseTarget) -> None:
    """Raises InvalidPause for a text that MongoDB cannot hold, or one that is too long; each claim carries them."""
    texts: dict[str, object] = {"lane": asked.lane, "task": asked.task}
    if isinstance(asked, PauseRequest):
        texts["reason"] = asked.reason
    for name, text in texts.items():
        with refused(name):
            check_text(text)
    with refused("where"):
        check_where(asked.where)


_TYPES: Final[Mapping[str, tuple[type[Any], str]]] = {
    "lane": (str, "a text"),
    "task": (str, "a text"),
    "until": (datetime, "a datetime with a time zone"),
    "reason": (str, "a text"),
    "allow_unknown": (bool, "True or False"),
}


def _check_type(name: str, value: object) -> None:
    kind, wanted = _TYPES[name]
    if value is not None and not isinstance(value, kind):
        raise InvalidPause(name, f"is {shown(value)}; it is {wanted}")


def check_target(asked: PauseTarget) -> None:
    """Raises InvalidPause unless exactly one of a lane and a task is given, the lane exists, and each value fits."""
    _check_texts(asked)
    if asked.lane is None and asked.task is None:
        raise InvalidPause("lane", "or task is needed: lane='low', task='render', or task='render' with where={…}")
    if asked.lane is not None and asked.task is not None:
        raise InvalidPause("lane", f"is given beside the task {asked.task[:60]!r}: pause one after the other")
    if asked.lane is not None and asked.lane not in PRIORITIES:
        raise InvalidPause("lane", f"is {asked.lane[:60]!r}; there are {', '.join(PRIORITIES)}")
    if asked.lane is not None and asked.where:
        raise InvalidPause("where", "goes with a task: a lane is paused as a whole")
    with refused("where"):
        check_names(asked.where)


def check_until(until: datetime | None, now: datetime) -> datetime | None:
    """The same in UTC. Raises InvalidPause for a time without a zone, or one that is over by MongoDB's clock."""
    if until is None:
        return None
    if until.tzinfo is None:
        raise InvalidPause("until", f"is {until.isoformat()}, without a time zone: datetime(…, tzinfo=UTC)")
    if until <= now:
        raise InvalidPause("until", f"is {until.isoformat()}, which is over: it is {now:%Y-%m-%dT%H:%M:%S} UTC")
    try:
        return until.astimezone(UTC)
    except OverflowError:
        raise InvalidPause(
            "until", f"is {until.isoformat()}, after the year 9999 in UTC: leave it out for a pause without an end"
        ) from None


def defaults_of(task: str, where: Iterable[str], schema: Mapping[str, Any], *, allow_unknown: bool) -> dict[str, Any]:
    """Of these parameters, the task's own defaults. Raises InvalidPause for one that the task does not have."""
    if not allow_unknown:
        with refused("where"):
            check_parameters(task, where, schema)
    return comparable_defaults(where, schema)
