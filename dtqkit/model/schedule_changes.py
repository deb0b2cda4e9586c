"""How schedules are defined and changed: the check of a definition, and who may put which in another's place. Pure."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from dtqkit.model.plain import shown
from dtqkit.model.schedule_errors import InvalidCron, InvalidSchedule, ScheduleTaken, UnknownZone
from dtqkit.model.schedules import (
    DAY_S,
    MAX_NAME,
    CatchUpRuns,
    Declared,
    Definition,
    Overlap,
    Paused,
    Schedule,
    before,
    due_at,
    timing_of,
)
from dtqkit.model.timing import cron

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|m|h|d)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EXAMPLES: Final = {"name": "nightly", "cron": "0 3 * * 1-5", "tz": "Europe/Berlin"}
#: Fields in which 60 and 60.0 are the same.
_SECONDS: Final = ("every_s", "catch_up_s", "jitter_s")
YEAR_S: Final = 366 * 86_400.0
#: How long a declaration counts as the present one after the last visit of its workers: until then an older one, of
#: workers that a deploy has not replaced yet, does not take its place. Longer than two of their visits.
ALIVE_S: Final = 300.0
#: How often the workers that declare a schedule say so, in seconds.
VISIT_S: Final = 120.0
#: Hashes of replaced definitions that are remembered.
MAX_BEFORE: Final = 20
#: Characters of the reason of a pause.
MAX_REASON: Final = 500

#: What a declaration does to the schedule of its name; `older`: nothing, since a newer definition is in force.
Effect: TypeAlias = Literal["made", "changed", "unchanged", "older"]


def effect_of(known: Schedule | None, wanted: Definition, app: str, now: datetime, *, force: bool = False) -> Effect:
    """What the declaration `wanted` of `app` does. Raises ScheduleTaken when the schedule is not this app's.

    A definition that was replaced before is an older one, unless nobody has declared the present one for ALIVE_S, as
    after a rollback. So during a rolling deploy the newer one stays, in whatever order the workers start.
    """
    if known is None:
        return "made"
    if known.declared is None:
        raise ScheduleTaken(
            f"schedule {wanted.name!r} was made at run time, so {app} cannot declare it: remove that one with "
            f"`dtqkit schedules remove {wanted.name}`, or give one of them another name"
        )
    if known.declared.app != app:
        raise ScheduleTaken(
            f"schedule {wanted.name!r} is declared by {known.declared.app}, so {app} cannot declare it too: give one "
            f"of them another name, or remove it with `dtqkit schedules remove {wanted.name}`"
        )
    mine = hash_of(wanted)
    if known.declared.hash == mine:
        return "unchanged"
    replaced = mine in known.declared.before
    alive = now - known.declared.at < timedelta(seconds=ALIVE_S)
    return "older" if replaced and alive and not force else "changed"


def declaration(known: Schedule | None, wanted: Definition, app: str, now: datetime) -> Declared:
    """What the schedule remembers of its declaration once `wanted` is in force."""
    mine = hash_of(wanted)
    replaced: tuple[str, ...] = ()
    if known is not None and known.declared is not None:
        replaced = (*known.declared.before, known.declared.hash)
    return Declared(app=app, hash=mine, at=now, before=tuple(one for one in replaced if one != mine)[-MAX_BEFORE:])


def check_free(known: Schedule, wanted: Definition) -> None:
    """Raises ScheduleTaken unless `wanted`, of run time, may take the place of `known`."""
    if known.declared is not None:
        raise ScheduleTaken(
            f"schedule {wanted.name!r} is declared in the code of {known.declared.app}: change it there, or choose "
            "another name"
        )
    if known.task != wanted.task:
        raise ScheduleTaken(
            f"schedule {wanted.name!r} runs task {known.task!r} already: choose another name for task "
            f"{wanted.task!r}, or remove that one first"
        )


def made(wanted: Definition, now: datetime, declared: Declared | None = None) -> Schedule:
    """A new schedule: its first nominal time comes after `now`."""
    fields = {name: getattr(wanted, name) for name in Definition.__struct_fields__}
    new = Schedule(
        **fields, created_at=now, anchor_at=now, declared=declared, next_at=timing_of(wanted, now).after(now)
    )
    return msgspec.structs.replace(new, due_at=due_at(new, now))


def redefined(known: Schedule, wanted: Definition, now: datetime) -> Schedule:
    """`known` with another definition. What was due before has been dealt with."""
    fields = {name: getattr(wanted, name) for name in Definition.__struct_fields__}
    new = msgspec.structs.replace(known, **fields)
    if not same_times(known, wanted):
        new = msgspec.structs.replace(new, anchor_at=now)
        if not before(known.next_at, now):  # else it waits for its jitter, or for the end of a pause
            new = msgspec.structs.replace(new, next_at=timing_of(wanted, now).after(now))
    return msgspec.structs.replace(new, due_at=due_at(new, now))


def pausing(known: Schedule, reason: str, now: datetime) -> Schedule:
    at = now if known.paused is None else known.paused.at
    new = msgspec.structs.replace(known, paused=Paused(at=at, reason=reason))
    return msgspec.structs.replace(new, due_at=due_at(new, now))


def resuming(known: Schedule, now: datetime) -> Schedule:
    """What was due during the pause is skipped by the next plan."""
    if known.paused is None:
        return known
    # `off_from` to `off_until` is the pause before this one; no plan has skipped its times yet.
    unseen = known.off_from is not None and known.off_until is not None and before(known.next_at, known.off_until)
    begin = known.off_from if unseen else known.paused.at
    new = msgspec.structs.replace(known, paused=None, off_from=begin, off_until=now)
    return msgspec.structs.replace(new, due_at=due_at(new, now))


def check(given: Definition) -> Definition:
    """`given`, if it can be a schedule; raises InvalidSchedule, InvalidCron or UnknownZone, which name the field."""
    if not _NAME.fullmatch(_text("name", given.name)):
        raise InvalidSchedule(
            "name",
            f"name is {shown(given.name)}; it is at most {MAX_NAME} letters, digits, underscores, dots and hyphens",
        )
    if (given.cron is None) == (given.every_s is None):
        which = "neither" if given.cron is None else "both"
        raise InvalidSchedule(
            "cron", f"schedule {given.name!r} has {which} of cron and every_s; give it one of them, such as every_s=60"
        )
    expression = "* * * * *" if given.cron is None else _text("cron", given.cron)
    try:
        cron(expression, _text("tz", given.tz))  # with every_s too: a zone that does not exist is a mistake
    except InvalidSchedule as error:
        raise type(error)(error.field, f"schedule {given.name!r}: {error}") from None
    if given.every_s is not None:
        _seconds("every_s", given.every_s, 1.0, YEAR_S)
    _seconds("catch_up", given.catch_up_s, 0.0, YEAR_S)
    _seconds("jitter_s", given.jitter_s, 0.0, DAY_S)
    _one_of("overlap", given.overlap, get_args(Overlap))
    _one_of("catch_up_runs", given.catch_up_runs, get_args(CatchUpRuns))
    return given


def check_reason(given: object) -> str:
    """`given`, if it can be the reason of a pause. Raises InvalidSchedule."""
    if not isinstance(given, str):
        raise InvalidSchedule("reason", f"reason is {shown(given)}; it is a text, such as 'disk full'")
    if len(given) > MAX_REASON:
        raise InvalidSchedule("reason", f"reason has {len(given):,} characters; it has at most {MAX_REASON}")
    if not is_utf8(given):
        raise InvalidSchedule("reason", f"reason is {shown(given)}, which has a character that UTF-8 cannot encode")
    return given


def is_utf8(text: str) -> bool:
    """Whether a store can hold it: half of a surrogate pair has no encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def span_s(field: str, given: object) -> float:
    """Seconds of a text such as `90s`, `15m`, `1h` or `2d`, or of a number of seconds. Raises InvalidSchedule."""
    if isinstance(given, str) and (match := _SPAN.fullmatch(given.strip())):
        return float(match[1]) * _UNITS[match[2]]
    if isinstance(given, int | float) and not isinstance(given, bool):
        with suppress(OverflowError):
            return float(given)
    raise InvalidSchedule(
        field, f"{field} is {shown(given)}; it is a time such as '90s', '15m', '1h' or '2d', or a number of seconds"
    )


def hash_of(definition: Definition) -> str:
    """Changes with anything in it."""
    fields = {name: getattr(definition, name) for name in Definition.__struct_fields__}
    fields |= {name: float(fields[name]) for name in _SECONDS if fields[name] is not None}
    return hashlib.sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()[:16]


def definition_of(schedule: Definition) -> Definition:
    """The definition in a schedule, without its state."""
    return Definition(**{name: getattr(schedule, name) for name in Definition.__struct_fields__})


def same_times(a: Definition, b: Definition) -> bool:
    return (a.cron, a.every_s) == (b.cron, b.every_s) and (a.cron is None or a.tz == b.tz)


def _text(field: str, given: object) -> str:
    if not isinstance(given, str):
        kind = {"cron": InvalidCron, "tz": UnknownZone}.get(field, InvalidSchedule)
        raise kind(field, f"{field} is {shown(given)}; it is a text, such as {_EXAMPLES[field]!r}")
    return given


def _seconds(field: str, given: object, least: float, most: float) -> None:
    # No float(…) of it: an integer may be too large for one.
    if not isinstance(given, int | float) or isinstance(given, bool) or not least <= given <= most:
        raise InvalidSchedule(
            field, f"{field} is {shown(given)}; it is a number of seconds, from {least:g} to {most:,.0f}"
        )


def _one_of(field: str, given: object, known: tuple[str, ...]) -> None:
    if given not in known:
        raise InvalidSchedule(field, f"{field} is {shown(given)}; it is one of {', '.join(known)}")
