"""When a schedule is due: cron expressions in a time zone, and intervals. Pure: each time follows from the one before.

cronsim matches the expression against the clock on the wall; what a change of that clock means is decided here, as
Debian's cron decides it:

- A fixed time of day (neither minute nor hour begins with `*`) runs exactly once on such a day: at the end of the gap
  when the clock jumps over it, and the first time when it comes twice.
- Any other expression runs whenever the clock shows a time that matches: not in the gap, and twice when it comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from dtqkit.model.plain import shown
from dtqkit.model.schedule_errors import InvalidCron, UnknownZone
from dtqkit.support.nearest import nearest

# cronsim and zoneinfo are imported where they are used: most programs have no schedules, and start sooner.
if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_FIELDS: Final = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, or L for the last one",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7 (0 and 7 are Sunday), or SUN to SAT",
}
_FORMS: Final = "*, a list 1,15, a range 1-5 that does not wrap around, or a step */10"
#: Longest difference between two offsets of one zone that lie next to each other: the date line was moved.
_LONGEST_SHIFT: Final = timedelta(hours=25)
_MS: Final = timedelta(milliseconds=1)


class Timing(Protocol):
    def after(self, time: datetime) -> datetime | None:
        """The first time after `time`, in UTC; None: there is none."""
        ...

    @property
    def step(self) -> timedelta | None:
        """How far apart two times are at most, if many of them can be counted at once; None: they cannot."""
        ...

    def skip(self, at: datetime, limit: datetime) -> tuple[int, datetime | None]:
        """How many times there are from `at`, which is one, to before `limit`, and the next one. Without a step: 1."""
        ...


class Every:
    """A fixed interval, from an anchor."""

    def __init__(self, every_s: float, anchor: datetime) -> None:
        self._every = max(_MS, round(every_s * 1000) * _MS)
        self._anchor = anchor

    def after(self, time: datetime) -> datetime:
        return self._anchor + ((time - self._anchor) // self._every + 1) * self._every

    @property
    def step(self) -> timedelta:
        return self._every

    def skip(self, at: datetime, limit: datetime) -> tuple[int, datetime]:
        following = self.after(at)  # `at` itself may be of an earlier definition
        if following >= limit:
            return 1, following
        more = -((following - limit) // self._every)
        return 1 + more, following + more * self._every


class Cron:
    """A cron expression of five fields in a time zone. Raises InvalidCron or UnknownZone."""

    def __init__(self, expression: str, tz: str) -> None:
        self._zone: Final = zone(tz)
        self._expression: Final = _checked(expression)
        minute, hour, *_ = expression.split()
        self._fixed: Final = not minute.startswith("*") and not hour.startswith("*")
        if next(self._walls(datetime(2000, 1, 1)), None) is None:  # noqa: DTZ001 - the clock on the wall
            raise InvalidCron("cron", f"cron is {expression!r}: no date matches it; check day-of-month and month")

    def after(self, time: datetime) -> datetime | None:
        wall = self._wall(time)
        if self._fixed:
            return next((at for at in map(self._once, self._walls(wall)) if at > time), None)
        # Where the clock is set back soon, times that it has shown already come again.
        back = max(self._offset(time) - self._offset(time + _LONGEST_SHIFT), timedelta())
        found: datetime | None = None
        for next_wall in self._walls(wall - back):
            shows = self._shows(next_wall)
            if found is not None and shows and shows[0] > found:
                break
            found = min((at for at in (*shows, found) if at is not None and at > time), default=None)
            if found is not None and not back:
                break
        return found

    @property
    def step(self) -> None:
        return None

    def skip(self, at: datetime, limit: datetime) -> tuple[int, datetime | None]:
        del limit
        return 1, self.after(at)

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """What the clock on the wall shows at the times that match, ignoring changes of it."""
        from cronsim import CronSim

        yield from CronSim(self._expression, after)

    def _wall(self, time: datetime) -> datetime:
        return time.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, time: datetime) -> timedelta:
        return time.astimezone(self._zone).utcoffset() or timedelta()

    def _shows(self, wall: datetime) -> list[datetime]:
        """When the clock shows this: never, once or twice."""
        both = [wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        return sorted({at for at in both if self._wall(at) == wall})

    def _once(self, wall: datetime) -> datetime:
        """The first time that it shows this; when it jumps over it, the end of the gap."""
        if shows := self._shows(wall):
            return shows[0]
        # Before the gap, the clock was behind by the gap: read by the offsets before and after it, the time lies on
        # both sides of the change.
        late, early = (wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        before = self._offset(early)
        while late - early > timedelta(seconds=1):
            middle = early + (late - early) // 2
            if self._offset(middle) == before:
                early = middle
            else:
                late = middle
        return late.replace(microsecond=0)


@lru_cache(maxsize=512)
def cron(expression: str, tz: str) -> Cron:
    """A Cron, made once. Raises InvalidCron or UnknownZone."""
    return Cron(expression, tz)


def zone(tz: object) -> ZoneInfo:
    """The zone of this name. Raises UnknownZone."""
    from zoneinfo import ZoneInfo, available_timezones

    try:
        if isinstance(tz, str) and tz:
            return ZoneInfo(tz)
    except (KeyError, ValueError, OSError):  # OSError: Europe is a folder
        pass
    near = nearest(tz, available_timezones()) if isinstance(tz, str) else []
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise UnknownZone(
        "tz", f"tz is {shown(tz)}, which is no time zone; it is a name such as 'UTC' or 'Europe/Berlin'{hint}"
    )


def _checked(expression: object) -> str:
    if not isinstance(expression, str) or len(parts := expression.split()) != len(_FIELDS):
        extra = "; for intervals under a minute there is every_s" if isinstance(expression, str) else ""
        raise InvalidCron(
            "cron",
            f"cron is {shown(expression)}; it has five fields, minute hour day-of-month month day-of-week, "
            f"as in '0 3 * * 1-5'{extra}",
        )
    if len(expression) > 200:
        raise InvalidCron("cron", f"cron has {len(expression)} characters; it has at most 200")
    for at, (field, wanted) in enumerate(_FIELDS.items()):
        alone = ["*"] * len(_FIELDS)
        alone[at] = parts[at]
        if not _reads(" ".join(alone)):
            raise InvalidCron(
                "cron", f"cron is {expression!r}: the {field} is {parts[at]!r}; it is {wanted}, and {_FORMS}"
            )
    if not _reads(expression):
        raise InvalidCron("cron", f"cron is {expression!r}: no date matches it; check day-of-month and month")
    return " ".join(parts)


def _reads(expression: str) -> bool:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - the clock on the wall
    except (CronSimError, AssertionError, ValueError):
        return False
    return True
