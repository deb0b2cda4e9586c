"""Pauses: what is asked, and the rows of the table of operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar, cast

import msgspec

from dtqkit.control.operations import OPERATIONS
from dtqkit.control.table import Operation
from dtqkit.model.jobs import PRIORITIES
from dtqkit.model.pause_errors import InvalidPause
from dtqkit.model.pauses import MAX_TEXT, MAX_WHERE, Pause, Reason, Scalar, Where
from dtqkit.model.values import NotSerializable, shown, wire

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
    where: object = fields.get("where", {})
    if not isinstance(where, dict):
        raise InvalidPause("where", f"is {shown(where)}; it is a dict, as in where={{'customer': 7}}")
    for name in ("lane", "task", "until", "reason"):
        _check_type(name, fields.get(name))
    given_values = cast("dict[object, object]", where)
    fields["where"] = {name: _scalar(name, value) for name, value in given_values.items()}
    asked = kind(**fields)
    _check_texts(asked)
    return asked


def _scalar(name: object, value: object) -> Scalar:
    """As it is in a payload. Raises InvalidPause for what no payload has, or what is not compared."""
    if not isinstance(name, str):
        raise InvalidPause("where", f"names {shown(name)}; the name of a parameter is a text")
    try:
        found = wire(value)
    except NotSerializable as unfit:
        raise InvalidPause("where", f"has a value for {shown(name)} that no payload has: {unfit.detail}") from None
    if not isinstance(found, Scalar):
        what = f"{value}, which is equal to no number" if isinstance(value, float) else shown(value)
        raise InvalidPause("where", f"has {what}, for {shown(name)}; {_VALUES}")
    return found


def _check_texts(asked: PauseTarget) -> None:
    """Raises InvalidPause for a text that MongoDB cannot hold, or one that is too long; each claim carries them."""
    texts: dict[str, object] = {"lane": asked.lane, "task": asked.task}
    if isinstance(asked, PauseRequest):
        texts["reason"] = asked.reason
    for name, text in texts.items():
        _check_text(name, text)
    if len(asked.where) > MAX_WHERE:
        raise InvalidPause("where", f"has {len(asked.where)} parameters; at most {MAX_WHERE} are compared")
    for name, value in asked.where.items():
        _check_text("where", name)
        _check_text("where", _scalar(name, value))


def _check_text(field: str, text: object) -> None:
    if isinstance(text, str) and len(text) > MAX_TEXT:
        raise InvalidPause(field, f"has a text of {len(text):,} characters; at most {MAX_TEXT} are kept: shorten it")
    try:
        wire(text)
    except NotSerializable as unfit:
        raise InvalidPause(field, f"cannot be kept: {unfit.detail}") from None


_VALUES: Final = "a parameter is compared with a text, a number, true, false or null"
_TYPES: Final[Mapping[str, tuple[type[Any], str]]] = {
    "lane": (str, "a text"),
    "task": (str, "a text"),
    "until": (datetime, "a datetime with a time zone"),
    "reason": (str, "a text"),
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
    if wrong := next((name for name in asked.where if not name.isidentifier()), None):
        raise InvalidPause("where", f"names {wrong[:60]!r}, which cannot be a parameter")


def check_until(until: datetime | None, now: datetime) -> None:
    """Raises InvalidPause for a time without a zone, or one that is over by MongoDB's clock."""
    if until is None:
        return
    if until.tzinfo is None:
        raise InvalidPause("until", f"is {until.isoformat()}, without a time zone: datetime(…, tzinfo=UTC)")
    if until <= now:
        raise InvalidPause("until", f"is {until.isoformat()}, which is over: it is {now:%Y-%m-%dT%H:%M:%S} UTC")


def defaults_of(task: str, where: Iterable[str], schema: Mapping[str, Any], *, allow_unknown: bool) -> dict[str, Any]:
    """Of these parameters, the task's own defaults. Raises InvalidPause for one that the task does not have.

    A default that no value of a pause can equal is left out: a claim may not be able to carry it.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    for name in where:
        if name not in properties and not schema.get("additionalProperties") and not allow_unknown:
            there = ", ".join(properties) or "none"
            raise InvalidPause("where", f"names {name[:60]!r}, which task {task!r} does not have; it has {there}")
    defaults = {name: properties[name]["default"] for name in where if "default" in properties.get(name, {})}
    return {name: value for name, value in defaults.items() if _comparable(name, value)}


def _comparable(name: str, value: object) -> bool:
    try:
        _check_text(name, _scalar(name, value))
    except InvalidPause:
        return False
    return True
